"""Models that predict one tag from a song's features: gradient-boosted trees, or a linear model as a lower bound.

A tag's model is a dictionary of plain values, ready for JSON: how to predict, what validation chose, and how much each
feature counts. Legend: S songs, D features.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musictag.common.errors import MusictagError
from musictag.common.files import read_json
from musictag.common.processes import available_cores
from musictag.common.text import excerpt, is_one_line
from musictag.models.spec import TAG_KINDS

# libraries are imported where they are used: computing the identity of a run does not need them


#: Features S×D -> scores S, float64 in [0, 1].
Predictor = Callable[[np.ndarray], np.ndarray]

#: A thousand trees of 31 leaves take 1.8 MB per tag.
MAX_MODEL_BYTES = 2**30


def read_models(path: str | os.PathLike) -> dict[str, Any]:
    """Read a model.json, with containers of the right kinds: ``what``, ``features``, ``baseline``, ``tags``.

    Raises OSError if the file cannot be read, and ValueError with the reason for anything else.
    """
    content = read_json(Path(path), MAX_MODEL_BYTES)
    if not isinstance(content, dict) or not isinstance(content.get("what"), str):
        raise ValueError("it does not declare what it is")
    tags = content.get("tags")
    if not isinstance(content.get("baseline"), dict) or not isinstance(content.get("features"), list):
        raise ValueError("it lacks the settings or the features")
    if not isinstance(tags, list) or not tags or not all(map(_is_tag, tags)):
        raise ValueError("it lacks the tags, each with a one-line name and a kind")
    if len({tag["name"] for tag in tags}) < len(tags):
        raise ValueError("a tag occurs twice")
    return content


def _is_tag(tag: Any) -> bool:
    return (
        isinstance(tag, dict)
        and isinstance(tag.get("name"), str)
        and is_one_line(tag["name"])
        and tag.get("kind") in TAG_KINDS
    )


def check_scores(scores: Callable[[np.ndarray], np.ndarray], num_features: int) -> None:
    """Raise MusictagError unless ``scores`` accepts songs with this many features, which other models do not."""
    try:
        found = scores(np.zeros((1, num_features), dtype=np.float32))
    except Exception as error:  # from LightGBM or NumPy
        raise MusictagError(f"its models do not fit {num_features} features: {error}") from error
    if not np.isfinite(found).all():
        raise MusictagError("its models return scores that are not finite")


class FeatureModel(ABC):
    """Settings from which one model per tag is fitted.

    ``threads`` only affects speed; None: OMP_NUM_THREADS, as for the networks, or else one per core.
    """

    def __init__(self, *, threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise MusictagError(f"baseline.threads={threads}; it must be at least 1, or null for all cores")
        self.threads = threads or _threads_in_environment() or available_cores()

    @abstractmethod
    def fitter(self, train: np.ndarray, validation: np.ndarray, seed: int) -> Fitter:
        """Return a fitter of tag models for these songs: features S×D of both splits."""

    @abstractmethod
    def predictor(self, model: dict[str, Any], kind: str) -> Predictor:
        """The function that scores songs for a tag of this ``kind``; raises MusictagError for a damaged ``model``."""

    @abstractmethod
    def typical(self, chosen: Sequence[Any]) -> Any:
        """The choice for a tag that validation cannot judge, given the choices for the others."""

    @abstractmethod
    def sizes(self, models: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """How large the models are in total, for metrics.json; ``parameters`` is among the keys.

        ``chosen`` counts the tags for each of validation's choices.
        """


def _threads_in_environment() -> int | None:
    # read here: LightGBM and scikit-learn are given a number, and would not look
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return int(threads) if threads.isdecimal() and int(threads) > 0 else None


class Fitter(ABC):
    """Fits the models of the tags, one at a time."""

    @abstractmethod
    def fit(self, kind: str, train: np.ndarray, validation: np.ndarray, chosen: Any | None) -> dict[str, Any]:
        """The model of a tag, given its targets in both splits (S, NaN if unknown: such songs are left out).

        ``chosen`` replaces validation's choice; None: validation chooses. The dictionary holds ``chosen`` and
        ``importances`` (D shares that add up to 1, or all 0 if no feature is used), and how to predict.
        """


def can_judge(kind: str, targets: np.ndarray) -> bool:
    """Whether songs with these targets (S, NaN: unknown) can tell which model of a tag is better."""
    known = targets[~np.isnan(targets)]
    return len(np.unique(known)) == 2 if kind == "classification" else len(known) > 0


def constant_model(targets: np.ndarray, num_features: int) -> dict[str, Any]:
    """The model of a tag that these training targets (S, NaN: unknown) cannot teach: all songs get the same score, by
    Laplace's rule: their mean, as if there were an additional 0 and 1. So it is never certain."""
    known = targets[~np.isnan(targets)].astype(np.float64)
    constant = (known.sum() + 1) / (len(known) + 2)
    return {"chosen": None, "importances": [0.0] * num_features, "constant": float(constant)}


def constant_predictor(model: dict[str, Any]) -> Predictor:
    """Gives every song the score of a ``constant_model``; raises MusictagError for a damaged one."""
    constant = model["constant"]
    if not isinstance(constant, int | float) or not 0 <= constant <= 1:
        raise MusictagError(f"the constant score of a tag is damaged: {excerpt(constant)}")
    return lambda features: np.full(len(features), float(constant))


def _counted(chosen: Sequence[float]) -> dict[str, int]:
    """How many tags have each of these values, smallest first."""
    return {f"{value:g}": count for value, count in sorted(Counter(chosen).items())}


def shares(values: np.ndarray) -> list[float]:
    """``values`` (D) over their sum; all 0 if that is 0."""
    total = float(np.sum(values))
    return (values / total if total > 0 else np.zeros(len(values))).tolist()
