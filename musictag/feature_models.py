"""What predicts one tag from a song's features: gradient-boosted trees, or a linear model as the floor.

A model of a tag is a dictionary of plain values, ready for JSON: how to predict, what validation chose, and how much
each feature counts. Legend: S songs, D features.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from musictag.build import as_list
from musictag.errors import MusictagError
from musictag.identity import available_cores
from musictag.tree_text import checked_trees
from musictag.untrusted import TAG_KINDS, excerpt, is_one_line, read_json

# libraries are imported where they are used: identities of runs are computed without them


#: Features S×D -> scores S, float64 in [0, 1].
Predictor = Callable[[np.ndarray], np.ndarray]

#: A thousand trees of 31 leaves take 1.8 MB a tag.
MAX_MODEL_BYTES = 2**30


def read_models(path: str | os.PathLike) -> dict[str, Any]:
    """What a model.json holds, its containers of the right kinds: ``what``, ``features``, ``baseline``, ``tags``.

    Raises OSError where the file cannot be read, and ValueError, with the reason, for anything else.
    """
    content = read_json(Path(path), MAX_MODEL_BYTES)
    if not isinstance(content, dict) or not isinstance(content.get("what"), str):
        raise ValueError("it does not say what it is")
    tags = content.get("tags")
    if not isinstance(content.get("baseline"), dict) or not isinstance(content.get("features"), list):
        raise ValueError("it lacks the settings or the features")
    if not isinstance(tags, list) or not tags or not all(map(_is_tag, tags)):
        raise ValueError("it lacks the tags, each with a name of one line and a kind")
    if len({tag["name"] for tag in tags}) < len(tags):
        raise ValueError("a tag stands there twice")
    return content


def _is_tag(tag: Any) -> bool:
    return (
        isinstance(tag, dict)
        and isinstance(tag.get("name"), str)
        and is_one_line(tag["name"])
        and tag.get("kind") in TAG_KINDS
    )


def check_scores(scores: Callable[[np.ndarray], np.ndarray], num_features: int) -> None:
    """Raise MusictagError unless ``scores`` takes songs with so many features: models of others are found out here."""
    try:
        found = scores(np.zeros((1, num_features), dtype=np.float32))
    except Exception as error:  # of LightGBM and of NumPy
        raise MusictagError(f"its models do not fit {num_features} features: {error}") from error
    if not np.isfinite(found).all():
        raise MusictagError("its models answer with what is no number")


class FeatureModel(ABC):
    """Settings from which a model of each tag is fitted.

    ``threads`` changes nothing but time; None: OMP_NUM_THREADS, as for the networks, or else one a core.
    """

    def __init__(self, *, threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise MusictagError(f"baseline.threads={threads}; it must be at least 1, or null for all cores")
        self.threads = threads or _told_threads() or available_cores()

    @abstractmethod
    def fitter(self, train: np.ndarray, validation: np.ndarray, seed: int) -> Fitter:
        """What fits models of tags to these songs: features S×D of both splits."""

    @abstractmethod
    def predictor(self, model: dict[str, Any], kind: str) -> Predictor:
        """What gives songs their scores for a tag of this ``kind``; raises MusictagError for a damaged ``model``."""

    @abstractmethod
    def typical(self, chosen: Sequence[Any]) -> Any:
        """What a tag gets that validation cannot judge, given what it chose for the others."""

    @abstractmethod
    def sizes(self, models: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """How large the models are together, for metrics.json; ``parameters`` is among the keys.

        ``chosen`` says for how many tags validation chose what.
        """


def _told_threads() -> int | None:
    # read here: LightGBM and scikit-learn are told a number, and would not look
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdecimal() and int(told) > 0 else None


class Fitter(ABC):
    """Fits the models of the tags, one at a time."""

    @abstractmethod
    def fit(self, kind: str, train: np.ndarray, validation: np.ndarray, chosen: Any | None) -> dict[str, Any]:
        """The model of a tag, given its targets in both splits (S, NaN where unknown: such songs are left out).

        ``chosen`` is what otherwise validation would choose; None: it does. The dictionary holds ``chosen`` and
        ``importances`` (D shares that add up to 1, or all 0 where no feature is used), and how to predict.
        """


def can_judge(kind: str, targets: np.ndarray) -> bool:
    """Whether songs with these targets (S, NaN: unknown) can say which model of a tag is better."""
    known = targets[~np.isnan(targets)]
    return len(np.unique(known)) == 2 if kind == "classification" else len(known) > 0


def constant_model(targets: np.ndarray, num_features: int) -> dict[str, Any]:
    """The model of a tag that these training targets (S, NaN: unknown) cannot teach: every song gets what Laplace's
    rule makes of them, which is their mean as if there had been a 0 and a 1 more. So it is never certain."""
    known = targets[~np.isnan(targets)].astype(np.float64)
    constant = (known.sum() + 1) / (len(known) + 2)
    return {"chosen": None, "importances": [0.0] * num_features, "constant": float(constant)}


def constant_predictor(model: dict[str, Any]) -> Predictor:
    """What gives every song the score of a ``constant_model``; raises MusictagError for a damaged one."""
    constant = model["constant"]
    if not isinstance(constant, int | float) or not 0 <= constant <= 1:
        raise MusictagError(f"the constant score of a tag is damaged: {excerpt(constant)}")
    return lambda features: np.full(len(features), float(constant))


class Trees(FeatureModel):
    """Gradient-boosted trees by LightGBM, stopped early on validation: log loss of a classification tag, squared error
    of a regression tag. The same songs and settings give the same trees, on any number of threads.

    ``num_leaves``: sizes of a tree, of which validation chooses one for each tag: the next larger one is tried for as
    long as its loss falls. ``max_rounds`` bounds the number of trees, which otherwise ``early_stopping_rounds`` without
    a lower loss end.
    """

    def __init__(
        self,
        *,
        learning_rate: float = 0.05,
        num_leaves: Sequence[int] = (7, 31, 127),
        min_child_samples: int = 20,
        feature_fraction: float = 0.3,
        max_rounds: int = 5000,
        early_stopping_rounds: int = 50,
        threads: int | None = None,
    ) -> None:
        super().__init__(threads=threads)
        sizes = as_list(num_leaves)
        if not sizes:
            raise MusictagError("baseline.num_leaves=[]; give one or more numbers: [7, 31, 127]")
        for name, value, low, high in (
            ("learning_rate", learning_rate, 1e-6, 1), *(("num_leaves", size, 2, 131_072) for size in sizes),
            ("min_child_samples", min_child_samples, 1, 1e9), ("feature_fraction", feature_fraction, 1e-3, 1),
            ("max_rounds", max_rounds, 1, 1e6), ("early_stopping_rounds", early_stopping_rounds, 1, 1e6),
        ):  # fmt: skip
            if not low <= value <= high:
                raise MusictagError(f"baseline.{name}={value}; it must lie between {low:g} and {high:g}")
        self.num_leaves = sorted(set(sizes))
        self.min_child_samples = min_child_samples
        self.max_rounds = max_rounds
        self.early_stopping_rounds = early_stopping_rounds
        self.parameters = {
            "learning_rate": learning_rate,
            "min_child_samples": min_child_samples,
            "feature_fraction": feature_fraction,
            "num_threads": self.threads,
            "deterministic": True,
            "force_row_wise": True,  # LightGBM would measure which way is faster, and sums depend on the way
            "verbosity": -1,
        }

    def fitter(self, train: np.ndarray, validation: np.ndarray, seed: int) -> Fitter:
        if 2 * self.min_child_samples > len(train):
            raise MusictagError(
                f"baseline.min_child_samples={self.min_child_samples} songs in a leaf are too many for {len(train)} "
                f"training songs: no tree could branch; type baseline.min_child_samples={max(1, len(train) // 20)}"
            )
        return _TreeFitter(self, train, validation, seed)

    def predictor(self, model: dict[str, Any], kind: str) -> Predictor:
        import lightgbm

        try:
            booster = lightgbm.Booster(model_str=checked_trees(model["lightgbm"]))
        except (lightgbm.basic.LightGBMError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise MusictagError(f"the trees of a tag are damaged: {error}") from error
        return lambda features: np.clip(booster.predict(features, num_threads=self.threads), 0, 1)

    def typical(self, chosen: Sequence[dict[str, int]]) -> dict[str, int]:
        sizes = [one["num_leaves"] for one in chosen]
        size = max(sorted(set(sizes)), key=sizes.count)
        return {"num_leaves": size, "rounds": int(median(one["rounds"] for one in chosen if one["num_leaves"] == size))}

    def sizes(self, models: Sequence[dict[str, Any]]) -> dict[str, Any]:
        trees, leaves = (sum(model[name] for model in models) for name in ("trees", "leaves"))
        sizes = _counted([model["chosen"]["num_leaves"] for model in models])
        return {"parameters": None, "trees": trees, "leaves": leaves, "chosen": {"num_leaves": sizes}}


class _TreeFitter(Fitter):
    def __init__(self, settings: Trees, train: np.ndarray, validation: np.ndarray, seed: int) -> None:
        import lightgbm

        self._settings = settings
        self._parameters = settings.parameters | {"seed": seed}
        # features are sorted into bins once, for all tags
        self._train = lightgbm.Dataset(
            train, label=np.zeros(len(train)), params=self._parameters, free_raw_data=False
        ).construct()
        self._validation = self._train.create_valid(
            validation, label=np.zeros(len(validation)), params=self._parameters
        ).construct()

    def fit(
        self, kind: str, train: np.ndarray, validation: np.ndarray, chosen: dict[str, int] | None
    ) -> dict[str, Any]:
        songs = self._known(self._train, train)
        if chosen is not None:
            return _trees(self._grown(kind, songs, chosen["num_leaves"], chosen["rounds"]), **chosen)
        judged = self._known(self._validation, validation)
        best, least, allowed = None, float("inf"), np.count_nonzero(~np.isnan(train)) / self._settings.min_child_samples
        for size in self._settings.num_leaves:
            booster = self._grown(kind, songs, size, self._settings.max_rounds, judged)
            (loss,) = booster.best_score["valid_0"].values()
            if loss < least:
                best, least = (booster, size), loss
            # larger ones would do no better, or be the same for want of songs
            if loss > least or size >= allowed:
                break
        booster, size = best
        return _trees(booster, num_leaves=size, rounds=booster.best_iteration)

    def _grown(self, kind: str, songs: Any, num_leaves: int, rounds: int, judged: Any = None) -> Any:
        """A booster of so many trees, or, where there are songs to judge it, of the number that suits these best."""
        import lightgbm

        objective = {"objective": "binary" if kind == "classification" else "regression", "num_leaves": num_leaves}
        stopping = None
        if judged is not None:
            stopping = [lightgbm.early_stopping(self._settings.early_stopping_rounds, verbose=False)]
        return lightgbm.train(
            self._parameters | objective,
            songs,
            num_boost_round=rounds,
            valid_sets=None if judged is None else [judged],
            callbacks=stopping,
        )

    def _known(self, songs: Any, targets: np.ndarray) -> Any:
        """The songs of a data set of LightGBM whose targets are known, with these as labels."""
        known = np.flatnonzero(~np.isnan(targets))
        if len(known) < len(targets):
            songs = songs.subset(known, params=self._parameters).construct()
        return songs.set_label(targets[known])


def _trees(booster: Any, num_leaves: int, rounds: int) -> dict[str, Any]:
    """The model of a tag: the first ``rounds`` trees."""
    text = checked_trees(booster.model_to_string(num_iteration=rounds))
    leaves = [int(line.partition("=")[2]) for line in text.splitlines() if line.startswith("num_leaves=")]
    return {
        "chosen": {"num_leaves": num_leaves, "rounds": rounds},
        "trees": len(leaves),
        "leaves": sum(leaves),
        "importances": shares(booster.feature_importance("gain", iteration=rounds)),
        "lightgbm": text,
    }


class Linear(FeatureModel):
    """Logistic regression for classification tags, ridge regression for the others, on standardised features.

    ``penalties``: the weights' squares count half of this; validation chooses one for each tag.
    """

    def __init__(self, *, penalties: Sequence[float] = (1, 10, 100, 1000, 10000), threads: int | None = None) -> None:
        super().__init__(threads=threads)
        penalties = as_list(penalties)
        if not penalties or not all(0 < penalty < float("inf") for penalty in penalties):
            raise MusictagError(f"baseline.penalties={penalties}; give one or more positive numbers: [1, 100]")
        self.penalties = list(penalties)

    def fitter(self, train: np.ndarray, validation: np.ndarray, seed: int) -> Fitter:
        from musictag.regressions import LinearFitter

        return LinearFitter(self, train, validation)

    def predictor(self, model: dict[str, Any], kind: str) -> Predictor:
        from scipy.special import expit

        from musictag.regressions import line_scores

        try:
            weights, offset = np.array(model["weights"], dtype=np.float64), float(model["offset"])
            if weights.ndim != 1 or not np.isfinite([*weights, offset]).all():
                raise ValueError("one finite number for each feature is needed")
        except (KeyError, TypeError, ValueError) as error:
            raise MusictagError(f"the weights of a tag are damaged: {error}") from error
        score = expit if kind == "classification" else partial(np.clip, a_min=0, a_max=1)
        return lambda features: score(line_scores(features, weights, offset))

    def typical(self, chosen: Sequence[float]) -> float:
        return float(median(chosen))

    def sizes(self, models: Sequence[dict[str, Any]]) -> dict[str, Any]:
        penalties = _counted([model["chosen"] for model in models])
        return {
            "parameters": sum(len(model["weights"]) + 1 for model in models), "chosen": {"penalties": penalties},
        }  # fmt: skip


def _counted(chosen: Sequence[float]) -> dict[str, int]:
    """How many tags have each of these, smallest first."""
    return {f"{value:g}": count for value, count in sorted(Counter(chosen).items())}


def shares(values: np.ndarray) -> list[float]:
    """``values`` (D) over their sum; all 0 if that is 0."""
    total = float(np.sum(values))
    return (values / total if total > 0 else np.zeros(len(values))).tolist()
