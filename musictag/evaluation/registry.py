"""The metrics: one entry each. Training, results, tables, figures, comparisons and logs read what there is from here.

A metric is added by one more entry, here or in a package of one's own (``METRICS["key"] = Metric("key", ...)`` before
training begins).

Legend: S songs, K tags, R weightings of the songs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from scipy.special import ndtri

from musictag.evaluation.bootstrap import mean_of_known
from musictag.evaluation.weighting import Weighted

#: Names that stand beside the metrics where these are written.
_TAKEN = (
    "chance_pr_auc", "confidence", "kind", "known", "loss", "name", "positives", "prevalence", "regression_tags_scored",
    "resamples", "rmse_of_mean", "songs", "tags", "tags_left_out", "tags_scored",
)  # fmt: skip


@dataclass(frozen=True)
class Metric:
    """What is computed of song scores, and how it is shown.

    - ``key``: its name in files: ``metrics.json``, ``history.csv`` and ``trainer.monitor`` (as ``val_<key>``), tables.
    - ``label``: its name where people read it; ``decimals``: how many are shown; ``better``: ``"max"`` or ``"min"``.
    - ``kind``: of the tags that it is computed of: classification, regression or all.
    - ``score``: what a ``Weighted`` is scored. ``per_tag``: that is R×K, NaN where a tag has no score (tags of another
      kind are left out whatever it says), and its mean over the tags is the metric; otherwise R, NaN for none.
    - ``chance``: what an answer that hears nothing scores, from the test scores of ``metrics.json``; None: not known.
    - ``bounds``: the lowest and the highest possible value, finite.
    - ``headline``: shown in figures, summaries and narrow tables, too, and not in the full tables and files alone.

    Raises ValueError for a key that is taken, and for another ``better`` or ``kind``.
    """

    key: str
    label: str
    score: Callable[[Weighted], np.ndarray]
    better: str = "max"
    kind: str = "classification"
    per_tag: bool = True
    chance: Callable[[Mapping[str, Any]], float | None] = lambda test: None
    bounds: tuple[float, float] = (0.0, 1.0)
    decimals: int = 3
    headline: bool = False

    def __post_init__(self) -> None:
        if not self.key.isidentifier() or self.key in _TAKEN:
            raise ValueError(f"a metric cannot be called {self.key!r}: a name is wanted, and not {', '.join(_TAKEN)}")
        if self.better not in ("max", "min") or self.kind not in ("classification", "regression", "all"):
            raise ValueError(
                f"{self.key}: better={self.better!r} must be 'max' or 'min', and kind={self.kind!r} 'classification', "
                "'regression' or 'all'"
            )

    @property
    def sign(self) -> int:
        """1, or -1 where lower is better."""
        return 1 if self.better == "max" else -1

    @property
    def perfect(self) -> float:
        """The best possible value."""
        return self.bounds[1] if self.better == "max" else self.bounds[0]

    def values(self, weighted: Weighted) -> np.ndarray:
        """R×K float64 if ``per_tag``, else R; NaN where there is no such score."""
        found = self.score(weighted)
        return np.where(weighted.songs.tags_of(self.kind), found, np.nan) if self.per_tag else found

    def macro(self, values: np.ndarray) -> np.ndarray:
        """The metric itself (R), of what ``values`` returned."""
        return mean_of_known(values) if self.per_tag else values

    def show(self, value: float | None) -> str:
        """With its decimals; "-" where there is none."""
        return "-" if value is None else f"{value:.{self.decimals}f}"


def headlines() -> list[Metric]:
    return [metric for metric in METRICS.values() if metric.headline]


def monitors() -> dict[str, str]:
    """What ``trainer.monitor`` may be, and which way is better: ``"min"`` or ``"max"``."""
    return {"val_loss": "min"} | {f"val_{key}": metric.better for key, metric in METRICS.items()}


def _root_mean_squared_error(weighted: Weighted) -> np.ndarray:
    found = np.full((weighted.weights.shape[1], len(weighted.songs.is_class)), np.nan)
    found[:, ~weighted.songs.is_class] = np.sqrt(weighted.mean(*weighted.songs.squared_errors))
    return found


#: ROC-AUC is kept that far from 0 and 1, where d' would be infinite.
_AREA_MARGIN = 1e-9


def _d_prime(weighted: Weighted) -> np.ndarray:
    area = mean_of_known(weighted.ranked[0])
    return sqrt(2.0) * ndtri(area.clip(_AREA_MARGIN, 1 - _AREA_MARGIN))


def _error_of_means(test: Mapping[str, Any]) -> float | None:
    errors = [tag["rmse_of_mean"] for tag in test["tags"] if tag["rmse_of_mean"] is not None]
    return float(np.mean(errors)) if errors else None


def _f1_of_all(test: Mapping[str, Any]) -> float | None:
    """Giving a tag to every song: precision is its prevalence, recall 1."""
    rates = [tag["prevalence"] for tag in test["tags"] if tag["roc_auc"] is not None]
    return float(np.mean([2 * rate / (1 + rate) for rate in rates])) if rates else None


_MOST_D_PRIME = float(sqrt(2.0) * ndtri(1 - _AREA_MARGIN))

#: By key, in the order in which they are shown.
METRICS: dict[str, Metric] = {
    metric.key: metric
    for metric in (
        # area under the ROC curve; a tie of a positive and a negative song counts one half
        Metric("roc_auc", "ROC-AUC", lambda weighted: weighted.ranked[0], chance=lambda test: 0.5, headline=True),
        # average precision: step-wise, not interpolated; at random it is the prevalence
        Metric(
            "pr_auc",
            "PR-AUC",
            lambda weighted: weighted.ranked[1],
            chance=lambda test: test["chance_pr_auc"],
            headline=True,
        ),
        # chance: always answering a tag's mean
        Metric(
            "rmse",
            "RMSE",
            _root_mean_squared_error,
            better="min",
            kind="regression",
            chance=_error_of_means,
            headline=True,
        ),
        # F1 at the threshold that is best for these very songs, a threshold a tag: optimistic, as whoever tags new
        # songs has to choose one beforehand, and the rarer the tag the more so
        Metric("f1_best", "F1 (best)", lambda weighted: weighted.ranked[2], chance=_f1_of_all),
        # over songs, of the tags as they are ranked within each; songs without a true tag take no part
        Metric("lrap", "LRAP", lambda weighted: weighted.mean(*weighted.songs.precisions), per_tag=False),
        # of the mean ROC-AUC over the tags, not the mean of the tags' own: the convention on AudioSet since Hershey et
        # al. 2017
        Metric(
            "d_prime",
            "d'",
            _d_prime,
            per_tag=False,
            chance=lambda test: 0.0,
            bounds=(-_MOST_D_PRIME, _MOST_D_PRIME),
        ),
    )
}
