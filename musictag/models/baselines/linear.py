"""One linear model per tag: logistic or ridge regression."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from statistics import median
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from musictag.common.errors import MusictagError
from musictag.common.text import as_list
from musictag.models.baselines import FeatureModel, Fitter, Predictor, _counted, shares
from musictag.models.baselines.regressions import (
    Ridge,
    line_scores,
    logistic,
    logistic_losses,
    mean_and_scale,
    standardised,
)


class Linear(FeatureModel):
    """Logistic regression for classification tags, ridge regression for the others, on standardised features.

    ``penalties``: factors of half the weights' squares; validation chooses one for each tag.
    """

    def __init__(self, *, penalties: Sequence[float] = (1, 10, 100, 1000, 10000), threads: int | None = None) -> None:
        super().__init__(threads=threads)
        penalties = as_list(penalties)
        if not penalties or not all(0 < penalty < float("inf") for penalty in penalties):
            raise MusictagError(f"baseline.penalties={penalties}; give one or more positive numbers, such as [1, 100]")
        self.penalties = list(penalties)

    def fitter(self, train: np.ndarray, validation: np.ndarray, seed: int) -> Fitter:
        return LinearFitter(self, train, validation)

    def predictor(self, model: dict[str, Any], kind: str) -> Predictor:
        from scipy.special import expit

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


class LinearFitter(Fitter):
    """Fits the models of ``Linear``."""

    def __init__(self, settings: Linear, train: np.ndarray, validation: np.ndarray) -> None:
        self._settings = settings
        self._mean, self._scale = mean_and_scale(train)  # training songs only
        self._train, self._validation = (standardised(songs, self._mean, self._scale) for songs in (train, validation))

    def fit(self, kind: str, train: np.ndarray, validation: np.ndarray, chosen: float | None) -> dict[str, Any]:
        judged = ~np.isnan(validation)
        candidates = []
        with threadpool_limits(self._settings.threads):
            ridge = None if kind == "classification" else Ridge(self._train, train)
            for penalty in self._settings.penalties if chosen is None else [chosen]:
                weights, offset = ridge.line(penalty) if ridge else logistic(self._train, train, penalty)
                loss = 0.0
                if chosen is None:
                    loss = _loss(kind, line_scores(self._validation, weights, offset)[judged], validation[judged])
                candidates.append((loss, penalty, weights, offset))
        _, penalty, weights, offset = min(candidates, key=lambda candidate: candidate[0])
        return {
            "chosen": penalty,
            "importances": shares(np.abs(weights)),
            "weights": (weights / self._scale).tolist(),
            "offset": float(offset - weights @ (self._mean / self._scale)),
        }


def _loss(kind: str, line: np.ndarray, targets: np.ndarray) -> float:
    """The criterion by which validation chooses."""
    if kind == "classification":
        return float(logistic_losses(line, targets).mean())
    return float(np.square(np.clip(line, 0, 1) - targets).mean())
