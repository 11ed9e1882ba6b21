"""Inference from few seeds and one set of songs: variances of seeds and songs, p values, intervals, corrections.

An estimate is a mean over n seeds, each scored on the same songs. Its variance has two parts. The part of the seeds is
the usual s² / n with n - 1 degrees of freedom; it includes everything specific to a run, also on single songs. The part
of the songs is common to all seeds; it comes from the bootstrap, and is known about as well as if there were as many
seeds as songs. With so few degrees of freedom, their sum cannot be treated as known: see ``p_values``.

Legend: n seeds, R resamples of the songs, ... any further axes, such as tags or sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtr
from scipy.stats import norm, t

from musictag.evaluation.bootstrap import mean_of_known

#: What the report adds to a result, by its number of seeds.
_FEW = {
    1: "one seed each: this is about these trained models, not about their architectures",
    2: "two seeds say little about the variation between seeds: only very large differences can be told from chance",
}
#: How many degrees of freedom a variance that is pooled over sizes, or tags, counts for at each of them.
PRIOR_FREEDOM = 4
_NODES = np.arange(-160, 41) / 4  # grid for integrating the chi-squared distribution over its logarithm
_ANGLES = np.linspace(0, np.pi / 2, 501)  # at which margins are computed; in between they are interpolated
_TINY = 1e-300


@dataclass(frozen=True)
class Estimate:
    """Values with their variances due to songs and seeds (arrays of one shape, or floats).

    ``freedom``: degrees of freedom of ``seeds``, the number of seeds minus one. With one seed both are 0, and all
    results are about the trained models, not about their architectures.
    """

    value: np.ndarray
    songs: np.ndarray
    seeds: np.ndarray
    freedom: int


def estimate(one: np.ndarray, other: np.ndarray | None = None) -> Estimate:
    """The mean over the seeds of ``one`` ((1 + R)×n×...), or by how much it exceeds that of ``other``.

    The first row contains the measured scores, the others those of the resampled songs (NaN where undefined). The first
    seed of ``one`` is paired with the first of ``other``, and so on: if they are the same seeds, what they have in
    common cancels. If not, this is Scheffé's test (1943), which is exact for any two variances, unlike Welch's with so
    few seeds; surplus seeds of one side then only contribute to its mean.
    """
    if other is None:
        values, units = one.mean(axis=1), one
    else:
        values = one.mean(axis=1) - other.mean(axis=1)
        fewer, more = sorted((one, -other), key=lambda scores: scores.shape[1])
        count = fewer.shape[1]
        units = fewer + np.sqrt(count / more.shape[1]) * more[:, :count]
    count = units.shape[1]
    moved = values[1:] - mean_of_known(values[1:], axis=0)
    songs = mean_of_known(moved**2, axis=0)
    if count == 1:
        return Estimate(values[0], songs, np.zeros_like(songs), 0)
    seeds = units[0].var(axis=0, ddof=1) / count
    # What is specific to a run on a song affects both the seeds and the resampled mean: it is removed from one of them.
    moved = units[1:] - mean_of_known(units[1:], axis=0)
    counted_twice = mean_of_known(moved.var(axis=1, ddof=1), axis=0) / count
    return Estimate(values[0], np.maximum(songs - counted_twice, 0.0), seeds, count - 1)


def moderated(found: Sequence[Estimate]) -> list[Estimate]:
    """The same estimates, of one quantity at growing numbers of songs: the variance between seeds at each is drawn
    towards the one pooled over it and all smaller ones (Smyth 2004), as a few seeds at one size say little about it.

    Seeds that draw their songs differ less the more songs they draw, so that larger sizes err on the safe side.
    """
    result, known, squares = [], 0, 0.0
    for of in found:
        count, prior = of.freedom + 1, min(PRIOR_FREEDOM, known)
        own = of.freedom * count * of.seeds
        known, squares = known + of.freedom, squares + own
        if prior:
            seeds = (prior * squares / known + own) / (prior + of.freedom) / count
            of = Estimate(of.value, of.songs, seeds, prior + of.freedom)
        result.append(of)
    return result


def p_values(of: Estimate) -> np.ndarray:
    """Two-sided p values for the hypothesis that the true values are zero.

    The songs' variance k is treated as known, the seeds' variance a as estimated with ν degrees of freedom. Without
    seeds this is a z test, without songs a t test. In between, no test keeps its level for every a (Satterthwaite's
    errs up to 13% at p < 0.05 with two seeds). Fisher's fiducial distribution, normal plus t, is valid but very
    conservative. Here it is mixed with that of ν + 2 degrees of freedom, as in the second-order matching prior of Ghosh
    and Kim (2001, The Behrens-Fisher problem revisited). Theirs weights the two by a : k; a : k √ν p^(1/ν), where p is
    the fiducial p value, was found numerically to keep the level best: over all a : k its error rate at p < 0.05 is 2.7
    to 5.6% with two seeds, 4.0 to 5.4% with three, 4.6 to 5.4% with more; at p < 0.01 at most 1.5, 1.2 and 1.2%.
    """
    return _tails(np.abs(of.value), of)


def margins(of: Estimate, confidence: float = 0.95) -> np.ndarray:
    """Half-widths of the intervals around the values: a value at this distance from 0 has p = 1 - ``confidence``."""
    variance = of.songs + of.seeds
    share = np.sqrt(np.clip(of.seeds / (variance + _TINY), 0.0, 1.0))
    return np.sqrt(variance) * np.interp(np.arcsin(share), _ANGLES, _standard_margins(of.freedom, 1 - confidence))


@lru_cache
def _standard_margins(freedom: int, level: float) -> np.ndarray:
    """Margins for variances that sum to 1, where the seeds' variance is sin² of each of the ``_ANGLES``."""
    of = Estimate(np.zeros(len(_ANGLES)), np.cos(_ANGLES) ** 2, np.sin(_ANGLES) ** 2, freedom)
    low, high = np.zeros(len(_ANGLES)), np.full(len(_ANGLES), norm.isf(level / 4) + t.isf(level / 4, max(1, freedom)))
    for _ in range(50):
        middle = (low + high) / 2
        inside = _tails(middle, of) > level
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return high


def few_seeds(seeds: int) -> str:
    """The caveat for a result with this number of seeds; empty if they are enough."""
    return _FEW.get(seeds, "")


def holm(p_values: Sequence[float], family: int | None = None) -> list[float]:
    """Holm's step-down adjustment: rejecting values below 0.05 keeps the family-wise error rate at 5%.

    ``family``: the number of possible tests, if these are a selection.
    """
    count = max(family or 0, len(p_values))
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (count - rank) * float(p_values[place])))
        adjusted[place] = largest
    return adjusted


def benjamini_hochberg(p_values: np.ndarray, family: int | None = None) -> np.ndarray:
    """Benjamini and Hochberg's adjustment, for any shape; NaN values stay, and are not counted.

    Of those below 0.05, at most 5% are false on average; if nothing differs, at most 5% of all families have one.
    ``family``: as for ``holm``.
    """
    known = ~np.isnan(p_values)
    ordered = np.sort(p_values[known])
    count = max(family or 0, len(ordered))
    scaled = ordered * count / np.arange(1, len(ordered) + 1)
    smallest_above = np.minimum.accumulate(scaled[::-1])[::-1].clip(max=1.0)
    adjusted = np.full(np.shape(p_values), np.nan)
    adjusted[known] = smallest_above[np.searchsorted(ordered, p_values[known])]
    return adjusted


def _tails(distance: np.ndarray, of: Estimate) -> np.ndarray:
    """The two-sided probability of values at least this far from the truth."""
    if not of.freedom:
        return 2 * ndtr(-distance / np.sqrt(of.songs + _TINY))
    freedom = of.freedom
    logs = np.log(freedom) + _NODES / np.sqrt(max(1.0, freedom / 2))
    chi_squared = np.exp(logs)
    variances = np.asarray(of.songs)[..., None] + np.asarray(of.seeds)[..., None] * freedom / chi_squared
    tails = 2 * ndtr(-np.asarray(distance)[..., None] / np.sqrt(variances + _TINY))

    def mean(freedom: int) -> np.ndarray:
        densities = np.exp(freedom / 2 * (logs - logs[-1]) - chi_squared / 2)
        return tails @ (densities / densities.sum())

    fiducial, bolder = mean(freedom), mean(freedom + 2)
    weight = of.seeds / (of.seeds + of.songs * np.sqrt(freedom) * fiducial ** (1 / freedom) + _TINY)
    return weight * fiducial + (1 - weight) * bolder
