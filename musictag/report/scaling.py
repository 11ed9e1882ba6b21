"""Scores against the number of training songs: curves with bands, and where one system overtakes another.

Legend: R resamples, M sizes, N sizes of a grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from musictag.errors import MusictagError
from musictag.report.content import LOWER_IS_BETTER
from musictag.report.fits import explained, fit_power_law, fit_trend, power_law_at, trend_at
from musictag.report.resampling import Draws, over_seeds
from musictag.report.runs import Study

FITS = ("trend", "power law")
_GRID = 401  # sizes at which fits are compared, evenly spaced in their logarithm
_BAND = 61  # of them are enough to draw a band

Band = tuple[list[float], list[float], list[float]]


@dataclass(frozen=True)
class Curve:
    """The scores of a system against its training songs, and two fits to them.

    ``points`` are (size, seed, value) of the runs, ``means`` those of each of the ``sizes``. ``trend``: value at one
    song (intercept) and gain a doubling. ``power_law``: asymptote c, factor a and exponent b of c - a size^-b, for RMSE
    of c + a size^-b. A band is (sizes, low, high): where the fit lies in the central part of the resamples. A fit is
    None where there are too few sizes or nothing to fit, and ``notes`` say why, and what the bands leave out.
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


@dataclass(frozen=True)
class Crossing:
    """From how many training songs on ``system`` is better than ``other``, up to the largest measured size.

    ``size`` is None where the fits do not cross within the measured sizes; ``system`` is then the one that is behind.
    ``low`` and ``high`` are None where the interval's end lies outside the measured sizes. ``share``: in what part of
    the resamples ``system`` is better at the largest size. ``text`` says it all in a sentence.
    """

    system: str
    other: str
    metric: str
    fit: str
    size: float | None
    low: float | None
    high: float | None
    share: float
    text: str


def curves(study: Study, draws: Draws, metric: str, confidence: float = 0.95) -> list[Curve]:
    """The curve of each system that has this metric.

    The trend line is the least-squares line of the runs over doublings; the power law needs three sizes. For the bands
    each resample takes the songs of its draw, the same for all runs, draws the seeds of each size with
    replacement, the same for all systems, and fits again. Raises MusictagError where something else than the number of
    training songs varies.
    """
    return [_curve(cells, metric, confidence) for cells in _all_cells(study, draws, metric)]


def crossings(study: Study, draws: Draws, metric: str, confidence: float = 0.95) -> list[Crossing]:
    """For each pair of systems and both fits: where the one overtakes the other, within the sizes that both have.

    The interval holds the central resamples of that size. A resample in which the system is better throughout counts as
    a size below the data, one in which it is worse at the largest size as a size beyond: no line is prolonged.
    """
    found = []
    for one, other in combinations(_all_cells(study, draws, metric), 2):
        low, high = max(one.sizes[0], other.sizes[0]), min(one.sizes[-1], other.sizes[-1])
        if low >= high:
            continue
        grid = np.geomspace(low, high, _GRID)
        for fit in FITS:
            if one.can(fit) and other.can(fit):
                ahead = (one.curves_at(fit, grid) - other.curves_at(fit, grid)) * _sign(metric)
                found.append(_crossing(one.system, other.system, metric, fit, grid, ahead, confidence))
    return found


class _Cells:
    """The mean scores of one system at each of its sizes: first as measured, then in each resample (1 + R rows)."""

    def __init__(self, study: Study, draws: Draws, metric: str, system: str, places: dict[int, np.ndarray]) -> None:
        runs = [run for run in study.runs if run.system == system]
        self.system = system
        self.metric = metric
        self.points = sorted((run.train_songs, run.seed, run.value(metric)) for run in runs)
        self.sizes = np.array(sorted({run.train_songs for run in runs}))
        self.weights = np.array([sum(run.train_songs == size for run in runs) for size in self.sizes], dtype=np.float64)
        columns = []
        for size in self.sizes:
            cell = sorted((run for run in runs if run.train_songs == size), key=lambda run: run.seed)
            again = over_seeds([draws[run.folder.name][metric] for run in cell], places[int(size)])
            columns.append(np.concatenate([[np.mean([run.value(metric) for run in cell])], again]))
        means = np.stack(columns, axis=1)
        self.means = means[~np.isnan(means).any(axis=1)]
        self._fitted: dict[str, np.ndarray] = {}

    def can(self, fit: str) -> bool:
        """Whether there are sizes enough, and for a power law a score that improves with them."""
        if fit == "trend":
            return len(self.sizes) >= 2
        return len(self.sizes) >= 3 and self.fitted(fit)[0, 1] > 0

    def fitted(self, fit: str) -> np.ndarray:
        """The parameters of the fit, of a power law those of the score or of the negative error: 1 + R rows."""
        if fit not in self._fitted:
            if fit == "trend":
                self._fitted[fit] = fit_trend(self.sizes, self.means, self.weights)
            else:
                sign, bound = _sign(self.metric), 0.0 if self.metric in LOWER_IS_BETTER else 1.0
                self._fitted[fit] = fit_power_law(self.sizes, sign * self.means, self.weights, bound)
        return self._fitted[fit]

    def curves_at(self, fit: str, sizes: np.ndarray) -> np.ndarray:
        """The fitted scores at ``sizes`` (N): (1 + R)×N."""
        if fit == "trend":
            return trend_at(self.fitted(fit), sizes)
        return _sign(self.metric) * power_law_at(self.fitted(fit), sizes)


def _all_cells(study: Study, draws: Draws, metric: str) -> list[_Cells]:
    if unfit := [key for key in study.factors if key != "data.train_songs"]:
        raise MusictagError(
            f"a scaling curve is over the number of training songs, but {', '.join(unfit)} varies in this study; "
            "give the runs of each setting a study of its own (study=...)"
        )
    if metric not in study.metrics:
        raise MusictagError(f"not all runs have the metric {metric}; they have {', '.join(study.metrics) or 'none'}")
    rng = np.random.default_rng([draws.seed, 1])
    sizes = sorted({run.train_songs for run in study.runs})
    places = {size: rng.random((draws.resamples, len(study.seeds))) for size in sizes}
    return [_Cells(study, draws, metric, system, places) for system in study.systems]


def _curve(cells: _Cells, metric: str, confidence: float) -> Curve:
    where = np.searchsorted(cells.sizes, [size for size, _, _ in cells.points])
    values = np.array([value for _, _, value in cells.points])
    notes = []
    if cells.weights.max() == 1:
        notes.append("one seed: the band is over the test songs alone")
    elif cells.weights.min() == 1:
        notes.append("some sizes have one seed: there the band is over the test songs alone")
    if len(cells.sizes) < 3:
        notes.append("no trend: one size only" if len(cells.sizes) < 2 else "no power law: it needs three sizes")
    has_power_law = cells.can("power law")
    if len(cells.sizes) >= 3 and not has_power_law:
        notes.append("no power law: no curve that improves with size fits better than a constant")

    def band(fit: str) -> tuple[Band, float | None]:
        grid = np.geomspace(cells.sizes[0], cells.sizes[-1], _BAND)
        low, high = np.quantile(cells.curves_at(fit, grid)[1:], [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
        fitted_means = cells.curves_at(fit, cells.sizes)[0]
        return (grid.tolist(), low.tolist(), high.tolist()), explained(fitted_means, cells.sizes, values, where)

    trend_band, trend_r2 = band("trend") if cells.can("trend") else (None, None)
    power_band, power_r2 = band("power law") if has_power_law else (None, None)
    power_law = None
    if has_power_law:
        asymptote, factor, exponent = cells.fitted("power law")[0].tolist()
        power_law = (_sign(metric) * asymptote + 0.0, factor, exponent)  # 0.0: no negative zero
    return Curve(
        system=cells.system,
        metric=metric,
        points=[(int(size), int(seed), float(value)) for size, seed, value in cells.points],
        sizes=[int(size) for size in cells.sizes],
        means=cells.means[0].tolist(),
        trend=tuple(cells.fitted("trend")[0].tolist()) if cells.can("trend") else None,
        trend_band=trend_band,
        trend_r2=trend_r2,
        power_law=power_law,
        power_band=power_band,
        power_law_r2=power_r2,
        notes=notes,
    )


def _crossing(
    one: str, other: str, metric: str, fit: str, grid: np.ndarray, ahead: np.ndarray, confidence: float
) -> Crossing:
    """``ahead``: by how much ``one`` is better at each size of the grid, (1 + R)×N, as measured first."""
    if ahead[0, -1] < 0:
        one, other, ahead = other, one, -ahead
    since, changes = _ahead_since(grid, ahead)
    within = f"within {number(grid[0])} to {number(grid[-1])} songs"
    if not np.any(np.abs(ahead[0]) > 1e-12):
        share = float(np.mean(ahead[1:, -1] > 0))
        text = f"{one} and {other} do not differ {within}"
        return Crossing(one, other, metric, fit, None, None, None, share, text)
    if not np.isfinite(since[0]):
        share = float(np.mean(ahead[1:, -1] < 0))
        above = "better" if metric in LOWER_IS_BETTER else "above"
        text = f"no crossing {within}: {one} is {above} throughout"
        text += f" ({other} is {above} in {share:.0%} of resamples at the largest)"
        return Crossing(other, one, metric, fit, None, None, None, share, text)
    ordered = np.sort(since[1:])  # the quantiles of numbers that may be infinite are some of them
    low = float(ordered[int(np.floor((1 - confidence) / 2 * (len(ordered) - 1)))])
    high = float(ordered[int(np.ceil((1 + confidence) / 2 * (len(ordered) - 1)))])
    text = f"{one} overtakes {other} at {number(since[0])} songs ({confidence:.0%} interval {_interval(low, high)})"
    if changes[0] > 1:
        text += f", the last of {changes[0]} crossings"
    return Crossing(
        system=one,
        other=other,
        metric=metric,
        fit=fit,
        size=float(since[0]),
        low=low if np.isfinite(low) else None,
        high=high if np.isfinite(high) else None,
        share=float(np.mean(ahead[1:, -1] > 0)),
        text=text,
    )


def _ahead_since(grid: np.ndarray, ahead: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per row of ``ahead`` (rows×N): the size from which on it is positive up to the last, and how often it changes.

    -inf if it is positive throughout, inf if it is not positive at the last size. Between two sizes of the grid the
    curves are taken for straight lines over the logarithm.
    """
    rows = np.arange(len(ahead))
    behind = ahead <= 0
    last = ahead.shape[1] - 1 - behind[:, ::-1].argmax(axis=1)  # the last size where it is behind, if any
    after = np.minimum(last + 1, ahead.shape[1] - 1)
    lows, highs = -ahead[rows, last], ahead[rows, after]
    with np.errstate(invalid="ignore", divide="ignore"):
        part = np.where(lows + highs > 0, lows / (lows + highs), 0.0)
    logs = np.log(grid)
    since = np.exp(logs[last] + part * (logs[after] - logs[last]))
    since = np.where(behind[:, -1], np.inf, np.where(behind.any(axis=1), since, -np.inf))
    return since, (behind[:, 1:] != behind[:, :-1]).sum(axis=1)


def _interval(low: float, high: float) -> str:
    """In words; an end outside the data is said to be there, and no more."""
    start = number(low) if np.isfinite(low) else "from below the smallest size"
    return f"{start} to {number(high) if np.isfinite(high) else 'beyond the largest size'}"


def number(size: float) -> str:
    """Two digits are more than an interval over a few sizes can tell; sizes that were measured are whole already."""
    size = float(size)
    nearest = round(size)
    if abs(size - nearest) < 1e-6 * size:
        return f"{nearest:,}"
    return f"{float(f'{size:.2g}'):,.0f}"


def _sign(metric: str) -> int:
    return -1 if metric in LOWER_IS_BETTER else 1
