"""Ranking metrics of one tag under song weights, and the bootstrap over songs that computes them thousands of times.

Legend: S songs, K tags, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

#: Weights per pass: enough to amortise numpy's overhead, few enough to stay in the CPU cache.
_CHUNK_WEIGHTS = 2**16


class Ranking:
    """A tag's songs ranked by score: sorted once, then evaluated under any number of song weightings.

    ``scores`` (S) and ``targets`` (S: 0 or 1, NaN where unknown). Songs with an unknown target are ignored. ``known``
    and ``positives`` count songs.
    """

    def __init__(self, scores: np.ndarray, targets: np.ndarray) -> None:
        songs = np.flatnonzero(~np.isnan(targets))
        self._order = songs[np.argsort(-scores[songs])]
        ranked = scores[self._order]
        positive = targets[self._order] > 0
        self._positive_songs = self._order[positive]
        self.known = len(songs)
        self.positives = len(self._positive_songs)
        # Songs with equal scores form one group. The metrics are sums, or a maximum, over the groups that contain
        # a positive song: these are their bounds among all ranked songs and among the positive ones.
        first_of_group = np.concatenate([[True], ranked[1:] != ranked[:-1]])[: len(songs)]
        bounds = np.append(np.flatnonzero(first_of_group), len(songs))
        groups, first_positive = np.unique((np.cumsum(first_of_group) - 1)[positive], return_index=True)
        self._bounds = bounds[groups], bounds[groups + 1]
        self._positive_bounds = first_positive, np.append(first_positive[1:], self.positives)

    @property
    def has_both_classes(self) -> bool:
        return 0 < self.positives < self.known

    def score(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """ROC-AUC, average precision and best F1 (R each; float64) for each column of ``weights`` (S×R, integers).

        A tie between a positive and a negative song counts one half in ROC-AUC; average precision is the step-wise sum
        of precision over recall, tied songs entering together. F1 is taken at the threshold that maximises it, which
        is chosen per column. All are NaN where the weighted songs lack a class.
        """
        if not self.has_both_classes:
            missing = np.full(weights.shape[1], np.nan)
            return missing, missing, missing
        total, before, retrieved = _cumulated(weights, self._order, *self._bounds)
        positives, true_before, true = _cumulated(weights, self._positive_songs, *self._positive_bounds)
        hits = true - true_before
        negatives = total - positives
        # Negatives ranked above the group count fully, those tied with it one half; doubling keeps all values integers.
        false_twice = (before - true_before) + (retrieved - true)
        with np.errstate(invalid="ignore", divide="ignore"):
            area = np.multiply(hits, 2 * negatives - false_twice, dtype=np.float64).sum(axis=0)
            roc_auc = area / (2.0 * positives * negatives)
            precision = true / np.maximum(retrieved, 1)
            average_precision = np.where(negatives > 0, (hits * precision).sum(axis=0) / positives, np.nan)
            # no threshold between two positive songs beats the one at the higher-ranked of them
            best_f1 = 2 * (true / (positives + retrieved)).max(axis=0)
        return roc_auc, average_precision, np.where(positives * negatives > 0, best_f1, np.nan)


def _cumulated(
    weights: np.ndarray, songs: np.ndarray, first: np.ndarray, last: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Total weight of ``songs`` (R), and the weight before positions ``first`` and ``last`` (positions×R); int32."""
    sums = np.zeros((len(songs) + 1, weights.shape[1]), dtype=np.int32)
    np.cumsum(weights.take(songs, axis=0), axis=0, dtype=np.int32, out=sums[1:])
    return sums[-1], sums.take(first, axis=0), sums.take(last, axis=0)


def song_resamples(num_songs: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each song is drawn (with replacement) in each resample: blocks of S×R int32."""
    rng = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_WEIGHTS // num_songs)
    for first in range(0, resamples, chunk):
        size = min(chunk, resamples - first)
        drawn = [np.bincount(rng.integers(num_songs, size=num_songs), minlength=num_songs) for _ in range(size)]
        yield np.stack(drawn, axis=1).astype(np.int32)


def mean_of_known(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis, ignoring NaN; NaN where all entries are NaN."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0.0).sum(axis=-1) / known.sum(axis=-1)


def centred_interval(
    value: float, resampled: np.ndarray, confidence: float, bounds: tuple[float, float] = (0.0, 1.0)
) -> tuple[float, float] | tuple[None, None]:
    """Central ``confidence`` interval of the resampled scores (R), shifted to mean ``value`` and clipped to ``bounds``.

    It covers the mean score over test sets of this size. Without the shift, PR-AUC would be biased upwards, because a
    positive song that is drawn twice improves its own precision: in simulated test sets of 60 to 1,000 songs, plain 95%
    percentile intervals covered the true mean in 87 to 93% of cases, these in 94 to 97%. ROC-AUC hardly changes.
    (None, None) if no resample could be scored.
    """
    resampled = resampled[~np.isnan(resampled)]
    if not len(resampled):
        return None, None
    ends = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2]) - resampled.mean() + value
    low, high = ends.clip(*bounds).tolist()
    return low, high
