"""The metrics, one entry each: training, results, tables, figures, comparisons and logs all read this registry.

To add a metric, add an entry, here or in your own package (``METRICS["key"] = Metric("key", ...)`` before training
begins).

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

#: Keys that appear next to the metrics in files, and so cannot name one.
_TAKEN = (
    "chance_pr_auc", "confidence", "kind", "known", "loss", "name", "positives", "prevalence", "regression_tags_scored",
    "resamples", "rmse_of_mean", "songs", "tags", "tags_left_out", "tags_scored",
)  # fmt: skip


@dataclass(frozen=True)
class Metric:
    """How a metric is computed from song scores, and how it is shown.

    - ``key``: its name in files: ``metrics.json``, ``history.csv`` and ``monitor`` (as ``val_<key>``), tables.
    - ``label``: its name for readers; ``decimals``: how many are shown; ``better``: ``"max"`` or ``"min"``.
    - ``kind``: which tags it is computed from: classification, regression or all.
    - ``score``: computes it from a ``Weighted``. With ``per_tag`` the result is R×K, NaN where a tag has no score (tags
      of other kinds are always ignored), and the metric is its mean over the tags; otherwise R, NaN for no score.
    - ``chance``: the score of answers that ignore the audio, from the test scores of ``metrics.json``; None: not known.
    - ``bounds``: the lowest and the highest possible value, finite.
    - ``headline``: also shown in figures, summaries and narrow tables, not only in the full tables and files.

    Raises ValueError for a key that is reserved, and for any other ``better`` or ``kind``.
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
            others = ", ".join(_TAKEN)
            raise ValueError(f"a metric cannot be called {self.key!r}: use an identifier other than {others}")
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
        """R×K float64 if ``per_tag``, else R; NaN where there is no score."""
        found = self.score(weighted)
        return np.where(weighted.songs.tags_of(self.kind), found, np.nan) if self.per_tag else found

    def macro(self, values: np.ndarray) -> np.ndarray:
        """The metric itself (R), from what ``values`` returned."""
        return mean_of_known(values) if self.per_tag else values

    def show(self, value: float | None) -> str:
        """``value`` with its decimals; "-" for None."""
        return "-" if value is None else f"{value:.{self.decimals}f}"


def headlines() -> list[Metric]:
    return [metric for metric in METRICS.values() if metric.headline]


def monitors() -> dict[str, str]:
    """What ``monitor`` may be, and whether lower or higher is better: ``"min"`` or ``"max"``."""
    return {"val_loss": "min"} | {f"val_{key}": metric.better for key, metric in METRICS.items()}


def _root_mean_squared_error(weighted: Weighted) -> np.ndarray:
    found = np.full((weighted.weights.shape[1], len(weighted.songs.is_class)), np.nan)
    found[:, ~weighted.songs.is_class] = np.sqrt(weighted.mean(*weighted.songs.squared_errors))
    return found


#: ROC-AUC is kept this far from 0 and 1, where d' would be infinite.
_AREA_MARGIN = 1e-9


def _d_prime(weighted: Weighted) -> np.ndarray:
    area = mean_of_known(weighted.ranked[0])
    return sqrt(2.0) * ndtri(area.clip(_AREA_MARGIN, 1 - _AREA_MARGIN))


def _error_of_means(test: Mapping[str, Any]) -> float | None:
    errors = [tag["rmse_of_mean"] for tag in test["tags"] if tag["rmse_of_mean"] is not None]
    return float(np.mean(errors)) if errors else None


def _f1_of_all(test: Mapping[str, Any]) -> float | None:
    """The F1 of giving every tag to every song: precision is the prevalence, recall 1."""
    rates = [tag["prevalence"] for tag in test["tags"] if tag["roc_auc"] is not None]
    return float(np.mean([2 * rate / (1 + rate) for rate in rates])) if rates else None


_MOST_D_PRIME = float(sqrt(2.0) * ndtri(1 - _AREA_MARGIN))

#: By key, in the order in which they are shown.
METRICS: dict[str, Metric] = {
    metric.key: metric
    for metric in (
        # area under the ROC curve; a tie of a positive and a negative song counts one half
        Metric("roc_auc", "ROC-AUC", lambda songs: songs.ranked[0], chance=lambda test: 0.5, headline=True),
        # average precision: step-wise, not interpolated; chance is that of equal scores, the prevalence
        Metric(
            "pr_auc", "PR-AUC", lambda songs: songs.ranked[1], chance=lambda test: test["chance_pr_auc"], headline=True
        ),
        # chance: always predicting a tag's mean
        Metric("rmse", "RMSE", _root_mean_squared_error, "min", "regression", chance=_error_of_means, headline=True),
        # F1 at the threshold that is best for these songs, per tag: optimistic, because for new songs the threshold has
        # to be chosen beforehand, and more so for rarer tags
        Metric("f1_best", "F1 (best)", lambda songs: songs.ranked[2], chance=_f1_of_all),
        # mean over songs, from the ranking of the tags within each; songs without a true tag are ignored
        Metric("lrap", "LRAP", lambda songs: songs.mean(*songs.songs.precisions), per_tag=False),
        # computed from the mean ROC-AUC over the tags, not averaged over the tags: the convention on AudioSet since
        # Hershey et al. 2017
        Metric("d_prime", "d'", _d_prime, per_tag=False, chance=lambda _: 0.0, bounds=(-_MOST_D_PRIME, _MOST_D_PRIME)),
    )
}
