"""Where the variance of scores comes from: the subset of the training songs, the training itself, the test songs.

Legend: N runs, R resamples.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import chi2, norm

from musictag.report.statistics.inference import Estimate, estimate, margins
from musictag.report.statistics.paired_tests import common_conditions, leading_pairs, pair_estimate
from musictag.report.statistics.resampling import Draws, seeds_of
from musictag.report.study import Run, Study

DIFFERENCE = 0.005
POWER = 0.8
_MOST_SEEDS = 1000
_SUBSET, _TRAINING = "subset of the training songs", "initialisation and order"
_BOTH = "both together"


@dataclass(frozen=True)
class Components:
    """The variance of one run's score by source, pooled over the conditions of a system.

    ``parts``: of what varies between runs; what always varied together is one part, named so. ``negative``: the parts
    whose estimate was negative and is set to 0. ``songs``: due to the test songs, which all runs share. ``runs`` and
    ``freedom`` (runs minus conditions) say how much it rests on.
    """

    system: str
    metric: str
    parts: dict[str, float]
    negative: list[str]
    songs: float
    runs: int
    freedom: int


@dataclass(frozen=True)
class SeedsNeeded:
    """For two systems: variances of their difference, between seeds and due to the test songs, and how many seeds show
    a difference of 0.005 with 80% power: about songs of this kind, or about these test songs alone (None: no number).
    """

    system: str
    other: str
    metric: str
    seeds_variance: float
    songs_variance: float
    any_songs: int | None
    these_songs: int | None
    freedom: int


def variance_components(study: Study, draws: Draws, metric: str) -> list[Components]:
    """Of each system with several runs under one condition."""
    found = []
    for system in study.systems:
        cells = [study.cell(system, condition) for condition in study.conditions]
        runs = [run for cell in cells if len(cell) > 1 for run in cell]
        if runs:
            values = np.array([run.value(metric) for run in runs])
            parts, negative = split_variance(values, [run.condition for run in runs], *_levels(runs))
            # without what is specific to a run on a song, which also varies between runs
            several = [seeds_of(cell, draws, metric) for cell in cells if len(cell) > 1]
            songs = float(np.mean([estimate(scores).songs for scores in several]))
            freedom = len(runs) - len({run.condition for run in runs})
            found.append(Components(system, metric, parts, negative, songs, len(runs), freedom))
    return found


def split_variance(
    values: np.ndarray, cells: Sequence[Any], subsets: Sequence[Any], trainings: Sequence[Any]
) -> tuple[dict[str, float], list[str]]:
    """Variances of ``values`` (N) within ``cells`` due to levels of two random effects and their interaction.

    The method of moments for any design (Rao's MINQUE(0); for balanced ones, the analysis of variance): sums of squares
    of the deviations from the cells' means, by source, are set equal to their expectations. An effect is specific to
    its cell. Sources that no run tells apart become one; a negative estimate is set to 0, named, and the others are
    estimated again.
    """
    same_cell = _same(cells)
    centre = np.eye(len(values)) - same_cell / same_cell.sum(axis=1)
    by_subset, by_training = (_same(list(zip(cells, levels, strict=True))) for levels in (subsets, trainings))
    sources: dict[str, np.ndarray] = {}
    for name, matrix in ((_SUBSET, by_subset), (_TRAINING, by_training), (_BOTH, by_subset * by_training)):
        projected = centre @ matrix @ centre
        twin = next((other for other, known in sources.items() if np.allclose(known, projected)), None)
        if twin == _SUBSET and name == _TRAINING:  # each subset had a training of its own
            sources = {f"{_SUBSET}, {_TRAINING} (varied together)": projected}
        elif twin is None and np.abs(projected).max() > 1e-9:
            sources[name] = projected
    deviations = centre @ values
    negative: list[str] = []
    while True:
        kept = [name for name in sources if name not in negative]
        squares = np.array([deviations @ sources[name] @ deviations for name in kept])
        expected = np.array([[(sources[one] * sources[other]).sum() for other in kept] for one in kept])
        if _BOTH in kept and np.linalg.matrix_rank(expected) < len(kept):
            del sources[_BOTH]
            continue
        variances = dict(zip(kept, np.linalg.lstsq(expected, squares, rcond=None)[0].tolist(), strict=True))
        below = [name for name in kept if variances[name] < 0]
        if not below or len(kept) == 1:
            return {name: max(0.0, variances.get(name, 0.0)) for name in sources}, negative
        negative.append(min(below, key=variances.get))


def seeds_needed(study: Study, draws: Draws, metric: str) -> list[SeedsNeeded]:
    """For each of the leading pairs: the variance between seeds, pooled over their common conditions, and that of the
    songs, its mean over them."""
    found = []
    for system, other in leading_pairs(study):
        estimates = []
        for condition in common_conditions(study, system, other):
            difference, _ = pair_estimate(study, draws, system, other, condition, metric)
            if freedom := difference.freedom:
                estimates.append((freedom, float(difference.seeds) * (freedom + 1), float(difference.songs)))
        if estimates:
            freedom = sum(own for own, _, _ in estimates)
            between = sum(own * variance for own, variance, _ in estimates) / freedom
            songs = float(np.mean([variance for _, _, variance in estimates]))
            needed = [how_many_seeds(between, variance) for variance in (songs, 0.0)]
            found.append(SeedsNeeded(system, other, metric, between, songs, *needed, freedom))
    return found


def how_many_seeds(between: float, songs: float, difference: float = DIFFERENCE, power: float = POWER) -> int | None:
    """The fewest seeds with which the test of differences finds a true ``difference`` at 5% with this ``power``.

    ``between``: the variance of one seed's difference; ``songs``: what the songs add to the mean's, whatever the number
    of seeds. None if no number up to 1,000 does.
    """
    chances = (np.arange(200) + 0.5) / 200

    def finds(seeds: int) -> bool:
        mean = between / seeds
        estimated = mean * chi2.ppf(chances, seeds - 1) / (seeds - 1)
        margin = margins(Estimate(np.zeros(200), np.full(200, songs), estimated, seeds - 1))
        return bool(norm.sf((margin - difference) / np.sqrt(mean + songs + 1e-300)).mean() >= power)

    place = bisect_left(range(2, _MOST_SEEDS + 1), True, key=finds)
    return place + 2 if place < _MOST_SEEDS - 1 else None


def _levels(runs: Sequence[Run]) -> tuple[list[Any], list[Any]]:
    """The levels of both effects; runs that name no seeds apart used their one seed for everything."""
    seeds = [run.metrics.get("seeds") or dict.fromkeys(("subset", "initialisation", "order"), run.seed) for run in runs]
    return [own["subset"] for own in seeds], [(own["initialisation"], own["order"]) for own in seeds]


def _same(levels: Sequence[Any]) -> np.ndarray:
    """N×N: 1 where two runs have the same level."""
    numbers = {level: place for place, level in enumerate(dict.fromkeys(levels))}
    codes = np.array([numbers[level] for level in levels])
    return (codes[:, None] == codes).astype(np.float64)
