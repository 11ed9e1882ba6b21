"""Two qualitative claims of the paper, measured: networks favour popular tags, and trees give one song mutually
exclusive tags more often than networks do.

Legend: S songs, K tags, R resamples, P pairs of tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import rankdata

from musictag.evaluation.bootstrap import mean_of_known
from musictag.experiment.results.files import Predictions
from musictag.report.statistics.resampling import Draws, aligned, interval, weighted_sums
from musictag.report.study import Run, Study

SLOTS = 5  # tags per song that a listener would look at
MIN_EXPECTED = 5.0  # songs that would have two tags if these were independent


@dataclass(frozen=True)
class Popularity:
    """How much the scores of a system under one condition favour popular tags; means over ``seeds`` seeds.

    - ``roc_auc_correlation``, ``pr_auc_correlation``: Spearman's rank correlation over the tags between prevalence and
      ROC-AUC, or PR-AUC scaled from chance (0) to perfect (1): (PR-AUC - prevalence) / (1 - prevalence). Above 0:
      popular tags are predicted better. None with fewer than three tags. A resample counts with the tags that it
      knows; the interval is NaN where fewer than half of the resamples know three.
    - ``calibration_slope``: least-squares slope of the mean score against the prevalence over the tags. 1: scores are
      proportional to prevalence; above 1: popular tags get more than their share. None if all are equally popular.
    - ``top_share``: each song has as many slots as it has tags, at most five, filled by its highest-scoring known tags;
      this is the share of slots that goes to the most popular fifth of the tags. ``true_share``: the share of the same
      tags among the true ones.

    The intervals are over the songs.
    """

    system: str
    condition: tuple[Any, ...]
    seeds: int
    roc_auc_correlation: tuple[float, float, float] | None
    pr_auc_correlation: tuple[float, float, float] | None
    calibration_slope: tuple[float, float, float] | None
    top_share: tuple[float, float, float]
    true_share: float


@dataclass(frozen=True)
class ExclusivePair:
    """Two tags that no test song has together, although ``expected`` songs would if they were independent.

    ``ratios``: by system, how often both are given to a song relative to independent assignment, under the study's last
    condition: 0 is never, 1 is as if the tags were independent.
    """

    tag: str
    other: str
    expected: float
    ratios: dict[str, float]


@dataclass(frozen=True)
class ExclusiveMean:
    """The mean of these ratios over the pairs, for a system under a condition, with its interval over the songs."""

    system: str
    condition: tuple[Any, ...]
    seeds: int
    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class Exclusive:
    """``pairs``: the most expected first. Empty, with empty ``means``, if no tags exclude each other."""

    pairs: list[ExclusivePair]
    means: list[ExclusiveMean]


def popularity(study: Study, draws: Draws, confidence: float = 0.95) -> list[Popularity]:
    """One row per system and condition; empty if the study has no classification tags that can be ranked."""
    if "roc_auc" not in study.metrics:
        return []
    return [_popularity(study, draws, cell, confidence) for cell in study.cells]


def exclusive(study: Study, draws: Draws, confidence: float = 0.95) -> Exclusive:
    """Pairs of classification tags that exclude each other, and how often each system gives both to one song.

    Two tags are considered exclusive if no song for which both are known has both, although independent tags would
    occur together in MIN_EXPECTED of them or more. A tag is given to as many songs as have it, those with the highest
    scores, so that the overall level of a system's scores does not matter. The interval keeps the given tags and
    resamples the songs.
    """
    reference = study.runs[0].predictions
    positive, known = _classes(reference)
    together, both_known = positive.T @ positive, known.T @ known
    carriers = positive.T @ known  # songs with tag i among those for which tag j is known, too
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = carriers * carriers.T / both_known
    names = reference.tags[reference.kinds == "classification"]
    found = [
        (i, j) for i, j in combinations(range(len(names)), 2) if together[i, j] == 0 and expected[i, j] >= MIN_EXPECTED
    ]
    found.sort(key=lambda pair: -expected[pair])
    if not found:
        return Exclusive([], [])
    means, ratios = [], {}
    for cell in study.cells:
        by_seed = [_given_together(aligned(run, study.runs[0]), found) for run in cell]
        of_pairs, of_songs = (np.mean(values, axis=0) for values in zip(*by_seed, strict=True))
        again = weighted_sums(of_songs[:, None], draws.resamples, draws.seed)[:, 0]
        value = float(of_pairs.mean())
        low, high = interval(value, again, confidence)
        means.append(ExclusiveMean(cell[0].system, cell[0].condition, len(cell), value, max(low, 0.0), high))
        ratios[cell[0].system] = of_pairs.tolist()  # conditions are sorted: the last one is kept
    pairs = []
    for place, (i, j) in enumerate(found):
        at = {system: values[place] for system, values in ratios.items()}
        pairs.append(ExclusivePair(str(names[i]), str(names[j]), float(expected[i, j]), at))
    return Exclusive(pairs, means)


def rank_correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Spearman's correlation along the last axis (..., K), of values that are known (not NaN) in both; ties get their
    mean rank. NaN if all values are equal, or fewer than three known."""
    one, other = (np.where(np.isnan(one + other), np.nan, values) for values in (one, other))
    few = (~np.isnan(one)).sum(axis=-1) < 3
    one, other = (rankdata(values, axis=-1, nan_policy="omit") for values in (one, other))
    one, other = (np.nan_to_num(ranks - mean_of_known(ranks)[..., None]) for ranks in (one, other))
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (one * other).sum(-1) / np.sqrt((one**2).sum(-1) * (other**2).sum(-1))
    return np.where(few, np.nan, found)


def _popularity(study: Study, draws: Draws, cell: Sequence[Run], confidence: float) -> Popularity:
    reference = study.runs[0].predictions
    positive, known = _classes(reference)
    prevalence = positive.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    ranked = (positive.sum(axis=0) > 0) & (positive.sum(axis=0) < known.sum(axis=0))
    columns = np.flatnonzero(reference.kinds == "classification")[ranked]
    by_name = [{tag["name"]: tag for tag in run.metrics["test"]["tags"]} for run in cell]

    def correlation(metric: str) -> tuple[float, float, float] | None:
        if ranked.sum() < 3:
            return None
        once = np.mean([[tags[name][metric] for name in reference.tags[columns]] for tags in by_name], axis=0)
        again = sum(draws.by_tag[run.folder.name][metric][:, columns] for run in cell) / len(cell)
        at = prevalence[ranked]
        if metric == "pr_auc":
            once, again = (once - at) / (1 - at), (again - at) / (1 - at)
        value = float(rank_correlation(once, at))
        if np.isnan(value):
            return None
        drawn = rank_correlation(again, at)
        if np.isnan(drawn).mean() > 0.5:
            return value, np.nan, np.nan
        low, high = np.clip(interval(value, drawn, confidence), -1.0, 1.0).tolist()
        return value, low, high

    popular = np.argsort(-prevalence, kind="stable")[: max(1, round(len(prevalence) / 5))]
    slots = np.minimum(positive.sum(axis=1), SLOTS)
    true_slots = slots * positive[:, popular].sum(axis=1) / np.maximum(positive.sum(axis=1), 1)
    scores = [aligned(run, study.runs[0]).scores[:, reference.kinds == "classification"] for run in cell]
    taken = np.mean([_slots_taken(np.where(known > 0, own, -np.inf), slots, popular) for own in scores], axis=0)
    mean_scores = np.mean(scores, axis=0, dtype=np.float64)
    sums = np.concatenate([taken[:, None], slots[:, None], mean_scores * known, positive, known], axis=1)
    once = sums.sum(axis=0, keepdims=True)
    again = weighted_sums(sums, draws.resamples, draws.seed)

    def share(totals: np.ndarray) -> np.ndarray:
        return totals[:, 0] / np.maximum(totals[:, 1], 1)

    def slope(totals: np.ndarray) -> np.ndarray:
        scored, carried, counted = np.split(totals[:, 2:], 3, axis=1)
        counted = np.maximum(counted, 1)
        x, y = carried / counted, scored / counted
        x = x - x.mean(axis=1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (x * y).sum(axis=1) / (x**2).sum(axis=1)

    def with_interval(of: Any, most: float = np.inf) -> tuple[float, float, float] | None:
        value = float(of(once)[0])
        ends = np.clip(interval(value, of(again), confidence), 0.0 if most == 1 else -np.inf, most).tolist()
        return None if np.isnan(value) else (value, *ends)

    return Popularity(
        system=cell[0].system,
        condition=cell[0].condition,
        seeds=len(cell),
        roc_auc_correlation=correlation("roc_auc"),
        pr_auc_correlation=correlation("pr_auc"),
        calibration_slope=with_interval(slope),
        top_share=with_interval(share, 1.0),
        true_share=float(true_slots.sum() / max(slots.sum(), 1)),
    )


def _slots_taken(scores: np.ndarray, slots: np.ndarray, popular: np.ndarray) -> np.ndarray:
    """How many of each song's ``slots`` (S) highest ``scores`` (S×K) belong to ``popular`` tags."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :SLOTS]
    in_slot = np.arange(best.shape[1]) < slots[:, None]
    return (np.isin(best, popular) & in_slot).sum(axis=1)


def _given_together(predictions: Predictions, pairs: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """The ratio of each pair (P), and what each song contributes to their mean (S)."""
    positive, known = _classes(predictions)
    scores = predictions.scores[:, predictions.kinds == "classification"]
    given = np.zeros(scores.shape, dtype=bool)
    for k in {k for pair in pairs for k in pair}:
        songs = np.flatnonzero(known[:, k])
        best = songs[np.argsort(-scores[songs, k], kind="stable")]
        given[best[: int(positive[:, k].sum())], k] = True
    ratios, of_songs = [], np.zeros(len(scores))
    for i, j in pairs:
        asked = (known[:, i] > 0) & (known[:, j] > 0)
        one, other = given[asked, i], given[asked, j]
        expected = max(float(one.sum()) * float(other.sum()) / len(one), 1e-9)
        ratios.append(float((one & other).sum()) / expected)
        of_songs[asked] += (one & other) / expected / len(pairs)
    return np.array(ratios), of_songs


def _classes(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """For the classification tags: which songs have them and for which songs this is known, S×K float64 0 or 1."""
    targets = predictions.targets[:, predictions.kinds == "classification"]
    return (targets > 0).astype(np.float64), (~np.isnan(targets)).astype(np.float64)
