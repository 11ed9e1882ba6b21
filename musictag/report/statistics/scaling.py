"""Scores against the number of training songs: curves with bands, and crossings of systems.

Legend: n seeds, R resamples, M sizes, N sizes of a grid.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np

from musictag.common.errors import MusictagError
from musictag.evaluation.bootstrap import mean_of_known
from musictag.evaluation.metrics import METRICS
from musictag.report.statistics.crossing import Crossing, find_crossing
from musictag.report.statistics.fits import explained, fit_power_law, fit_trend, power_law_at, trend_at
from musictag.report.statistics.inference import estimate, few_seeds, margins
from musictag.report.statistics.points import Departure, departure, measured
from musictag.report.statistics.resampling import Draws, same_seeds, seeds_of
from musictag.report.study import Study
from musictag.report.wording import SIZE

FITS = ("trend", "power law")
_LEAST_SIZES = {"trend": 2, "power law": 3}
_GRID = 161  # sizes at which fits are compared, evenly spaced in their logarithm
_BAND = 61  # a subset of them to draw a band

Band = tuple[list[float], list[float], list[float]]


@dataclass(frozen=True)
class Curve:
    """The scores of a system against the number of training songs, with two fits.

    ``points`` are (size, seed, value) of the runs, ``means`` those at each of the ``sizes``. ``trend``: value at one
    song (intercept) and gain per doubling. ``power_law``: asymptote c, factor a and exponent b of c - a size^-b, for
    RMSE of c + a size^-b. A band is (sizes, low, high): the interval of the fit at each size, over songs and seeds. A
    fit is None if there are too few sizes, nothing to fit, or if the points have not the shape of a learning curve;
    ``notes`` give the reason, and what the bands leave out.
    """

    system: str
    metric: str
    points: list[tuple[int, int, float]]
    sizes: list[int]
    means: list[float]
    trend: tuple[float, float] | None
    trend_band: Band | None
    trend_r2: float | None
    power_law: tuple[float, float, float] | None
    power_band: Band | None
    power_law_r2: float | None
    notes: list[str]


def is_scaling(study: Study) -> bool:
    """Whether the number of training songs varies, and nothing else does at one number: its curves can be drawn."""
    return SIZE in study.factors and not _varying_beside_size(study)


def curves(study: Study, draws: Draws, metric: str, confidence: float = 0.95) -> list[Curve]:
    """The curve of each system that has this metric.

    The trend line is the least-squares line of the runs over doublings; the power law needs three sizes. For the bands,
    all fits are repeated without each of the seeds, at all sizes together, since a seed's training sets are nested:
    the jackknife, which for lines is the t test over the lines of the seeds; and with the songs of each draw, the same
    for all runs. Raises MusictagError if anything else varies at a number of training songs.
    """
    return [_curve(fits, metric, confidence) for fits in scores_by_size(study, draws, metric)]


def crossings(study: Study, draws: Draws, metric: str, confidence: float = 0.95) -> list[Crossing]:
    """For each pair of systems and both fits: where one overtakes the other, within the sizes that both have.

    At each size the difference of the fits is tested, paired by seed if both have the same seeds. The crossing may lie
    where it is not significant: in ``confidence`` of all studies this range contains the true one. No line is
    extrapolated beyond the measured sizes, and curves that have not the shape of one are left out.
    """
    found = []
    fitted = [fits for fits in scores_by_size(study, draws, metric) if fits.departure is None]
    for pair in combinations(fitted, 2):
        *seeds, _ = same_seeds(*(fits.seeds for fits in pair))
        one, other = (fits.of_seeds(own) for fits, own in zip(pair, seeds, strict=True))
        low, high = max(one.sizes[0], other.sizes[0]), min(one.sizes[-1], other.sizes[-1])
        if low >= high:
            continue
        grid = np.geomspace(low, high, _GRID)
        for fit in FITS:
            if one.can(fit) and other.can(fit):
                ahead = _sign(metric) * one.at(fit, grid), _sign(metric) * other.at(fit, grid)
                found.append(find_crossing(one.system, other.system, metric, fit, grid, estimate(*ahead), confidence))
    return found


class Scores:
    """The scores of one system by seed and size, with their fits: (1 + R)×n×M, as measured and in each resample, NaN
    where a seed lacks a size."""

    def __init__(self, system: str, metric: str, seeds: list[int], sizes: np.ndarray, scores: np.ndarray) -> None:
        self.system = system
        self.metric = metric
        self.seeds = seeds
        self.sizes = sizes
        self.scores = scores
        self.weights = (~np.isnan(scores[0])).sum(axis=0).astype(np.float64)
        self.means = mean_of_known(scores, axis=1)

    @cached_property
    def departure(self) -> Departure | None:
        """How the means differ from every learning curve, if they do."""
        return departure(measured(self.system, self.sizes, _sign(self.metric) * self.scores))

    def of_seeds(self, seeds: Collection[int]) -> Scores:
        """The fits of these seeds only, in their order, with the sizes that they have."""
        if list(seeds) == self.seeds:
            return self
        scores = self.scores[:, [self.seeds.index(seed) for seed in seeds]]
        there = ~np.isnan(scores[0]).all(axis=0)
        return Scores(self.system, self.metric, list(seeds), self.sizes[there], scores[..., there])

    def can(self, fit: str) -> bool:
        """Whether there are enough sizes, and for a power law a score that improves with size."""
        return len(self.sizes) >= _LEAST_SIZES[fit] and (fit == "trend" or self.fitted(fit)[0, 1] > 0)

    def can_leave_out(self, fit: str) -> bool:
        """Whether there are several seeds, and enough sizes without any one of them."""
        return len(self.seeds) > 1 and all(len(one.sizes) >= _LEAST_SIZES[fit] for one in self._without_each)

    def fitted(self, fit: str) -> np.ndarray:
        """The parameters of the fit, for a power law those of the score or the negative error: 1 + R rows."""
        return self._trend if fit == "trend" else self._power_law

    @cached_property
    def _trend(self) -> np.ndarray:
        return fit_trend(self.sizes, self.means, self.weights)

    @cached_property
    def _power_law(self) -> np.ndarray:
        sign = _sign(self.metric)
        return fit_power_law(self.sizes, sign * self.means, self.weights, sign * METRICS[self.metric].perfect)

    def curves_at(self, fit: str, sizes: np.ndarray) -> np.ndarray:
        """The fitted scores at ``sizes`` (N): (1 + R)×N."""
        if fit == "trend":
            return trend_at(self.fitted(fit), sizes)
        return _sign(self.metric) * power_law_at(self.fitted(fit), sizes)

    def at(self, fit: str, sizes: np.ndarray) -> np.ndarray:
        """The contribution of each seed to the fit at ``sizes`` (N): (1 + R)×n×N, whose mean over the seeds is the fit.

        These are the jackknife's pseudo-values: n times the fit to all seeds minus n - 1 times the fit without the
        seed, shifted to the fit. For a line, if no seed lacks a size, they are the lines of the individual seeds. If no
        seed can be left out, there is only one, the fit itself.
        """
        whole = self.curves_at(fit, sizes)[:, None]
        if not self.can_leave_out(fit):
            return whole
        without = np.stack([one.curves_at(fit, sizes) for one in self._without_each], axis=1)
        return whole - (len(self.seeds) - 1) * (without - without.mean(axis=1, keepdims=True))

    @cached_property
    def _without_each(self) -> list[Scores]:
        return [self.of_seeds([own for own in self.seeds if own != seed]) for seed in self.seeds]


def scores_by_size(study: Study, draws: Draws, metric: str) -> list[Scores]:
    """The scores of each system of the study. Raises MusictagError if they make no curves."""
    if unfit := _varying_beside_size(study):
        raise MusictagError(
            f"a scaling curve is over the number of training songs, but {', '.join(unfit)} varies in this study; "
            "give the runs of each setting their own study (study=...)"
        )
    if metric not in study.metrics:
        raise MusictagError(f"not all runs have the metric {metric}; they have {', '.join(study.metrics) or 'none'}")
    found = []
    for system in study.systems:
        runs = [run for run in study.runs if run.system == system]
        seeds, sizes = sorted({run.seed for run in runs}), sorted({run.train_songs for run in runs})
        scores = np.full((1 + draws.resamples, len(seeds), len(sizes)), np.nan)
        for run, of_run in zip(runs, seeds_of(runs, draws, metric).T, strict=True):
            scores[:, seeds.index(run.seed), sizes.index(run.train_songs)] = of_run
        found.append(Scores(system, metric, seeds, np.array(sizes), scores))
    return found


def _varying_beside_size(study: Study) -> list[str]:
    """The factors with several values for one system at one number of training songs (tuned settings have one)."""
    values: dict[tuple[str, str, int], set[str]] = {}
    for run in study.runs:
        for key, value in zip(study.factors, run.condition, strict=True):
            if key != SIZE:
                values.setdefault((key, run.system, run.train_songs), set()).add(repr(value))
    return sorted({key for (key, *_), seen in values.items() if len(seen) > 1})


def _curve(fits: Scores, metric: str, confidence: float) -> Curve:
    rows, columns = np.nonzero(~np.isnan(fits.scores[0]))
    points = sorted(
        (int(fits.sizes[m]), fits.seeds[n], float(fits.scores[0, n, m])) for n, m in zip(rows, columns, strict=True)
    )
    where = np.searchsorted(fits.sizes, [size for size, _, _ in points])
    values = np.array([value for _, _, value in points])
    notes = []
    if not fits.can_leave_out("trend"):
        notes.append("one seed" if len(fits.seeds) == 1 else "too few sizes without one of the seeds")
        notes[0] += ": the band covers the test songs only"
    elif words := few_seeds(len(fits.seeds)):
        notes.append(words)
    can_fit = fits.departure is None
    if not can_fit:
        notes.append(f"no fit: {fits.departure.words}")
    if can_fit and len(fits.sizes) < 3:
        notes.append("no trend: one size only" if len(fits.sizes) < 2 else "no power law: it needs three sizes")
    has_power_law = can_fit and fits.can("power law")
    if can_fit and len(fits.sizes) >= 3 and not has_power_law:
        notes.append("no power law: no curve that improves with size fits better than a constant")

    def band(fit: str) -> tuple[Band, float | None]:
        grid = np.geomspace(fits.sizes[0], fits.sizes[-1], _BAND)
        found = estimate(fits.at(fit, grid))
        margin = margins(found, confidence)
        low, high = ((found.value + side * margin).clip(*METRICS[metric].bounds).tolist() for side in (-1, 1))
        return (grid.tolist(), low, high), explained(fits.curves_at(fit, fits.sizes)[0], fits.sizes, values, where)

    has_trend = can_fit and fits.can("trend")
    trend_band, trend_r2 = band("trend") if has_trend else (None, None)
    power_band, power_r2 = band("power law") if has_power_law else (None, None)
    power_law = None
    if has_power_law:
        asymptote, factor, exponent = fits.fitted("power law")[0].tolist()
        power_law = (_sign(metric) * asymptote + 0.0, factor, exponent)  # 0.0: no negative zero
    return Curve(
        system=fits.system,
        metric=metric,
        points=points,
        sizes=fits.sizes.tolist(),
        means=fits.means[0].tolist(),
        trend=tuple(fits.fitted("trend")[0].tolist()) if has_trend else None,
        trend_band=trend_band,
        trend_r2=trend_r2,
        power_law=power_law,
        power_band=power_band,
        power_law_r2=power_r2,
        notes=notes,
    )


def _sign(metric: str) -> int:
    return METRICS[metric].sign
