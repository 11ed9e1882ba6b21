"""Gradient-boosted trees (LightGBM), one model per tag."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

from musictag.common.errors import MusictagError
from musictag.common.text import as_list
from musictag.models.baselines import FeatureModel, Fitter, Predictor, _counted, shares
from musictag.models.baselines.lightgbm_text import checked_trees


class Trees(FeatureModel):
    """Gradient-boosted trees by LightGBM, stopped early on validation: log loss for a classification tag, squared error
    for a regression tag. The same songs and settings give the same trees, with any number of threads.

    ``num_leaves``: tree sizes, from which validation chooses one for each tag: the next larger one is tried as long as
    the loss falls. ``max_rounds`` bounds the number of trees; otherwise ``early_stopping_rounds`` without a lower loss
    end the fit.
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
            raise MusictagError("baseline.num_leaves=[]; give one or more numbers, such as [7, 31, 127]")
        for name, value, low, high in (
            ("learning_rate", learning_rate, 1e-6, 1), *(("num_leaves", size, 2, 131_072) for size in sizes),
            ("min_child_samples", min_child_samples, 1, 1e9), ("feature_fraction", feature_fraction, 1e-3, 1),
            ("max_rounds", max_rounds, 1, 1e6), ("early_stopping_rounds", early_stopping_rounds, 1, 1e6),
        ):  # fmt: skip
            if not low <= value <= high:
                raise MusictagError(f"baseline.{name}={value}; it must be between {low:g} and {high:g}")
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
            "force_row_wise": True,  # otherwise LightGBM times both ways, and sums depend on its choice
            "verbosity": -1,
        }

    def fitter(self, train: np.ndarray, validation: np.ndarray, seed: int) -> Fitter:
        if 2 * self.min_child_samples > len(train):
            raise MusictagError(
                f"baseline.min_child_samples={self.min_child_samples} songs in a leaf are too many for {len(train)} "
                f"training songs: no tree could branch; use baseline.min_child_samples={max(1, len(train) // 20)}"
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
            # larger ones would do no better, or be the same for lack of songs
            if loss > least or size >= allowed:
                break
        booster, size = best
        return _trees(booster, num_leaves=size, rounds=booster.best_iteration)

    def _grown(self, kind: str, songs: Any, num_leaves: int, rounds: int, judged: Any = None) -> Any:
        """A booster with ``rounds`` trees, or, given songs to judge it, with the number that suits these best."""
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
        """The songs of a LightGBM data set whose targets are known, with these as labels."""
        known = np.flatnonzero(~np.isnan(targets))
        if len(known) < len(targets):
            songs = songs.subset(known, params=self._parameters).construct()
        return songs.set_label(targets[known])


def _trees(booster: Any, num_leaves: int, rounds: int) -> dict[str, Any]:
    """The model of a tag: its first ``rounds`` trees."""
    text = checked_trees(booster.model_to_string(num_iteration=rounds))
    leaves = [int(line.partition("=")[2]) for line in text.splitlines() if line.startswith("num_leaves=")]
    return {
        "chosen": {"num_leaves": num_leaves, "rounds": rounds},
        "trees": len(leaves),
        "leaves": sum(leaves),
        "importances": shares(booster.feature_importance("gain", iteration=rounds)),
        "lightgbm": text,
    }
