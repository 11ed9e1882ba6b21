"""The points of one learning curve: means over runs with their noise, and whether they have the shape of one.

Scores are those that are better the larger they are; an error is taken as its negative. Legend: n seeds, R resamples,
M sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from zlib import crc32

import numpy as np

from musictag.evaluation.bootstrap import mean_of_known
from musictag.report.statistics.inference import PRIOR_FREEDOM

_SMALLEST = 1e-10  # variance, against division by zero
#: p value below which a curve is said to fall, or to bend upwards.
SHAPE_LEVEL = 0.01


@dataclass(frozen=True)
class Points:
    """The means of a system's runs at each size (M), the number of ``runs`` behind each, and what is uncertain in them.

    ``variance`` (M): of the means, without what the test songs shift alike at all sizes. ``noise`` (R×M): equally
    plausible errors of the means, with that shift; ``freedom`` of the variance between runs is accounted for in it.
    ``visible``: how many of the sizes, from the smallest on, the noise is known from.
    """

    sizes: np.ndarray
    means: np.ndarray
    runs: np.ndarray
    variance: np.ndarray
    noise: np.ndarray
    freedom: int
    visible: int

    @property
    def seen(self) -> Points:
        """The visible sizes alone."""
        parts = (self.sizes, self.means, self.runs, self.variance, self.noise)
        return Points(*(part[..., : self.visible] for part in parts), self.freedom, self.visible)


@dataclass(frozen=True)
class Departure:
    """How a curve differs from every learning curve: its score ``after`` more songs is worse, by ``drop``, than one
    ``before``; or, with a ``between``, the score there is this much below the straight line from the one to the other,
    over the number of songs."""

    before: int
    after: int
    drop: float
    p: float
    between: int | None = None

    @property
    def words(self) -> str:
        if self.between is None:
            return f"not monotone: worse with {self.after:,} songs than with {self.before:,}, by {self.drop:.3f}"
        return (
            f"gains do not diminish: {self.drop:.3f} below the straight line with {self.between:,} songs, between "
            f"{self.before:,} and {self.after:,}"
        )


def measured(name: str, sizes: np.ndarray, scores: np.ndarray, visible: int | None = None) -> Points:
    """``scores``: (1 + R)×n×M, as measured and in each resample of the songs, NaN where a seed lacks a size.

    The variance between runs is that at each size, drawn towards the one pooled over the ``visible`` sizes, as in
    Smyth (2004, moderated variances); hidden sizes take that of the last visible one. Where no size has two runs, it is
    estimated from how far the points are from the line through their neighbours, over the doublings; this
    takes curvature for noise. ``name`` seeds the draws of the noise.
    """
    count = len(sizes) if visible is None else visible
    runs = (~np.isnan(scores[0])).sum(axis=0)
    means = mean_of_known(scores, axis=1)
    moved = means[1:] - means[1:].mean(axis=0)
    common = moved[:, :count].mean(axis=1, keepdims=True)
    specific = moved - common
    run_variance, freedom = _run_variance(np.log2(sizes[:count]), scores[0, :, :count], means[0, :count])
    run_variance = np.append(run_variance, np.repeat(run_variance[-1:], len(sizes) - count))
    if freedom:  # what is specific to a run on a song is already in the variance between runs
        in_runs = _song_variance(scores[1:, :, :count]) / runs
        specific = specific * np.sqrt(np.clip(1 - in_runs / np.maximum(specific.var(axis=0), _SMALLEST), 0.0, 1.0))
    rng = np.random.default_rng(crc32(name.encode()))
    drawn = rng.standard_normal(moved.shape) * np.sqrt(run_variance / runs)
    if freedom:
        drawn *= np.sqrt(freedom / rng.chisquare(freedom, (len(drawn), 1)))
    variance = np.maximum(run_variance / runs + specific.var(axis=0), _SMALLEST)
    return Points(sizes, means[0], runs, variance, common + specific + drawn, freedom, count)


def departure(points: Points) -> Departure | None:
    """Where a curve is not monotone, or else its gains do not diminish; None if neither goes beyond its noise.

    The largest drop over all pairs of sizes, and the largest dip below the chord over all triples, in standard errors,
    against the same maximum under noise alone: the least favourable curves that are monotone (level) and concave
    (straight).
    """
    for size_count in (2, 3):
        places = np.array(list(combinations(range(len(points.sizes)), size_count)))
        if not len(places):
            continue
        contrasts = np.zeros((len(places), len(points.sizes)))
        rows = np.arange(len(places))
        share = np.ones(len(places))
        if size_count == 3:
            first, middle, last = points.sizes[places].T.astype(np.float64)
            share = (last - middle) / (last - first)
            contrasts[rows, places[:, 1]] = -1.0
        contrasts[rows, places[:, 0]] = share
        contrasts[rows, places[:, -1]] += 1 - share if size_count == 3 else -1.0
        scale = np.sqrt(contrasts**2 @ points.variance)
        drops = contrasts @ points.means
        worst = int((drops / scale).argmax())
        under_noise = (points.noise @ contrasts.T / scale).max(axis=1)
        p = float((1 + (under_noise >= drops[worst] / scale[worst]).sum()) / (1 + len(under_noise)))
        if p < SHAPE_LEVEL and drops[worst] > 0:
            ends = points.sizes[places[worst]].tolist()
            between = ends[1] if size_count == 3 else None
            return Departure(ends[0], ends[-1], float(drops[worst]), p, between)
    return None


def _run_variance(logs: np.ndarray, scores: np.ndarray, means: np.ndarray) -> tuple[np.ndarray, int]:
    """The variance of single runs at each size (M) and its degrees of freedom, from scores n×M with NaN."""
    runs = (~np.isnan(scores)).sum(axis=0)
    freedom = int((runs - 1).sum())
    if freedom:
        squares = np.nansum((scores - means) ** 2, axis=0)
        prior = PRIOR_FREEDOM * squares.sum() / freedom
        return (prior + squares) / (PRIOR_FREEDOM + runs - 1), freedom
    if len(logs) < 3:
        return np.zeros(len(logs)), 0
    share = (logs[2:] - logs[1:-1]) / (logs[2:] - logs[:-2])
    residuals = means[1:-1] - share * means[:-2] - (1 - share) * means[2:]
    variance = (residuals**2 / (1 + share**2 + (1 - share) ** 2)).mean()
    return np.full(len(logs), variance), len(residuals)


def _song_variance(scores: np.ndarray) -> float:
    """The variance over the songs that is specific to a single run, mean over sizes with several: R×n×M with NaN.

    Infinite if no size has several: how unevenly sizes follow each other includes all that is specific to one.
    """
    several = (~np.isnan(scores[0])).sum(axis=0) > 1
    if not several.any():
        return np.inf
    chosen = scores[..., several]
    with np.errstate(invalid="ignore"):
        return float(np.nanmean(np.nanvar(chosen - chosen.mean(axis=0), axis=1, ddof=1)))
