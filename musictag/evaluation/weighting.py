"""The songs of one evaluation under any weighting: sorted once, and what metrics share is computed once per weighting.

Legend: S songs, K tags, R weightings (one, or the resamples of a bootstrap), D columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from musictag.evaluation.bootstrap import Ranking

#: True tags that are compared with the other tags of their songs at once.
_ROWS = 4096


class ScoredSongs:
    """``scores`` and ``targets`` (S×K; NaN: unknown) for tags whose ``kinds`` are classification or regression.

    ``known`` (S×K) marks the known targets, ``is_class`` (K) the classification tags.
    """

    def __init__(self, scores: np.ndarray, targets: np.ndarray, kinds: Sequence[str]) -> None:
        self.scores = scores
        self.targets = targets
        self.known = ~np.isnan(targets)
        self.is_class = np.array([kind == "classification" for kind in kinds], dtype=bool)

    def tags_of(self, kind: str) -> np.ndarray:
        """Which tags (K) are of ``kind``: classification, regression or all."""
        return {"classification": self.is_class, "regression": ~self.is_class, "all": np.ones_like(self.is_class)}[kind]

    @cached_property
    def rankings(self) -> dict[int, Ranking]:
        """The ranking of each classification tag that has known songs of both classes, by the tag's index."""
        found = {int(k): Ranking(self.scores[:, k], self.targets[:, k]) for k in np.flatnonzero(self.is_class)}
        return {k: ranking for k, ranking in found.items() if ranking.has_both_classes}

    @cached_property
    def precisions(self) -> tuple[np.ndarray, np.ndarray]:
        """``label_ranking_precision`` of the classification tags (0 where undefined), and 1 where it is defined: S."""
        found = label_ranking_precision(self.scores[:, self.is_class], self.targets[:, self.is_class])
        return np.nan_to_num(found), (~np.isnan(found)).astype(np.float64)

    @cached_property
    def squared_errors(self) -> tuple[np.ndarray, np.ndarray]:
        """Squared errors of the regression tags (0 for unknown targets), and 1 for known ones: float64, S × tags."""
        known = self.known[:, ~self.is_class]
        errors = self.scores[:, ~self.is_class].astype(np.float64) - self.targets[:, ~self.is_class]
        return np.where(known, errors, 0.0) ** 2, known.astype(np.float64)

    def once(self) -> Weighted:
        """Every song counts once: R is 1."""
        return self.under(np.ones((len(self.scores), 1)))

    def under(self, weights: np.ndarray) -> Weighted:
        """Each song counts as often as ``weights`` (S×R, integers) say."""
        return Weighted(self, weights.astype(np.float32))


class Weighted:
    """``songs`` under ``weights`` (S×R): values that several metrics share are computed on first use."""

    def __init__(self, songs: ScoredSongs, weights: np.ndarray) -> None:
        self.songs = songs
        self.weights = weights

    @cached_property
    def ranked(self) -> np.ndarray:
        """ROC-AUC, PR-AUC and best F1 (see ``Ranking.score``) of every tag: 3×R×K, NaN where undefined."""
        import torch  # here: it takes seconds, too long for commands that only show scores

        found = np.full((3, self.weights.shape[1], self.songs.scores.shape[1]), np.nan)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the steps are short: on a busy machine threads would wait for one another
        try:
            for k, ranking in self.songs.rankings.items():
                found[:, :, k] = ranking.score(self.weights)
        finally:
            torch.set_num_threads(threads)
        return found

    def mean(self, values: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Weighted mean over songs of the ``values`` (S×D, or S) that are ``known`` (1, else 0): R×D, or R.

        Unknown values must be 0. NaN where no known song has weight.
        """
        weights = self.weights.T.astype(np.float64)
        with np.errstate(invalid="ignore"):
            return (weights @ values) / (weights @ known)


def label_ranking_precision(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """For each song (S): mean over its true tags of the share of true tags among those scored as high or higher.

    ``scores`` and ``targets`` are S×K; unknown tags (NaN) are ignored, tied ones get the lowest rank of their group,
    as in scikit-learn. NaN for a song without a true tag.
    """
    known, is_true = ~np.isnan(targets), targets == 1
    songs, tags = np.nonzero(is_true)
    precision = np.empty(len(songs))
    for part in (slice(first, first + _ROWS) for first in range(0, len(songs), _ROWS)):
        rows = songs[part]
        as_high = known[rows] & (scores[rows] >= scores[rows, tags[part], None])
        precision[part] = (as_high & is_true[rows]).sum(axis=1) / as_high.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.bincount(songs, precision, len(scores)) / is_true.sum(axis=1)
