"""The law of a learning curve, chosen by what it predicts, and what follows from it: predictions with bands.

A law is chosen by its error at the largest sizes after a fit to the others, never by how well it fits. Bands cover all
laws that the points do not rule out. Legend: R resamples, M sizes, N sizes of a grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations, product

import numpy as np
from scipy.stats import f as f_distribution

from musictag.evaluation.metrics import METRICS
from musictag.report.statistics.crossing import number, undecided_sizes, undecided_words
from musictag.report.statistics.fits import LAWS, Law
from musictag.report.statistics.points import Departure, Points, departure, measured
from musictag.report.statistics.resampling import Draws
from musictag.report.statistics.scaling import scores_by_size
from musictag.report.study import Study

#: A law that fits this badly, by the noise of its points, is ruled out.
_FIT_LEVEL = 0.01
#: How far beyond the largest size questions are answered, in multiples of it.
_BEYOND = 16
_GRID = 121
#: Standard errors by which a law misses the held-out sizes from which this is said.
_MISSED = 3.0
_FREE = "broken power law"  # its five parameters fit nearly everything: it only counts where no other law fits


@dataclass(frozen=True)
class HeldOut:
    """What was predicted from the smaller sizes for the mean of the ``runs`` at a hidden ``size``, and what it was."""

    system: str
    metric: str
    size: int
    runs: int
    law: str
    predicted: float
    low: float
    high: float
    measured: float

    @property
    def hit(self) -> bool:
        return self.low <= self.measured <= self.high


@dataclass(frozen=True)
class Reach:
    """The number of training songs at which a system reaches ``target``; None beyond 16 times the largest size, and the
    ``smallest`` size where fewer may be enough. ``low`` is at most this size, and None below the smallest one."""

    system: str
    metric: str
    target: float
    size: float | None
    low: float | None
    high: float | None
    smallest: int
    largest: int


@dataclass(frozen=True)
class Prospect:
    """Where ``system`` overtakes ``other`` by their laws, up to 16 times the largest common size (None: nowhere), and
    whether it is ``uncertain`` which is ahead at some size from there on."""

    system: str
    other: str
    metric: str
    size: float | None
    uncertain: bool
    text: str


@dataclass(frozen=True)
class Forecast:
    """A system's curve under one metric. ``law`` is None where there is a ``departure``, or with a single size.

    ``errors``: of each judged law at the held-out sizes, in standard errors of the points (root mean square).
    ``doubling``: what twice the largest number of songs would bring, with its interval, positive for a better score.
    ``band``: (sizes, fit, low, high), up to twice the largest size. ``notes`` say what limits it.
    """

    system: str
    metric: str
    law: str | None
    parameters: tuple[float, ...]
    errors: dict[str, float]
    contenders: list[str]
    departure: Departure | None
    held_out: list[HeldOut]
    doubling: tuple[float, float, float] | None
    band: tuple[list[float], list[float], list[float], list[float]] | None
    notes: list[str] = field(default_factory=list)


class Fitted:
    """Laws fitted to the visible ``points``: the ``chosen`` one, and all ``contenders`` that the points allow.

    ``bound``: what no score can exceed.
    """

    def __init__(self, points: Points, bound: float) -> None:
        self.points = points
        self._sizes, self._means = points.sizes[: points.visible], points.means[: points.visible]
        self._weights = 1 / points.variance[: points.visible]
        self._bound = bound
        self.errors = self._held_out_errors()
        fits = {law: self._misfit(law) for law in LAWS if law.parameters <= points.visible}
        fitting = [law for law, (_, p) in fits.items() if p >= _FIT_LEVEL]
        allowed = [law for law in fitting if law.name != _FREE] or fitting
        judged = [law for law in LAWS if law.name in self.errors and (law in allowed or not allowed)]
        self.could_choose = len(self.errors) > 1
        if self.could_choose and judged:
            best = min(self.errors[law.name] ** 2 for law in judged)
            self.chosen = next(law for law in judged if self.errors[law.name] ** 2 <= best + 1)
        else:
            self.chosen = next((law for law in LAWS[1:] if law in allowed), LAWS[1])
        self.contenders = allowed or [self.chosen]
        self.misfit = 1.0 if allowed else float(np.sqrt(max(1.0, fits[self.chosen][0])))
        rows = np.concatenate([self._means[None], self._means - self.misfit * points.noise[:, : points.visible]])
        self.fitted = {law: law.fit(self._sizes, rows, self._weights, bound) for law in self.contenders}

    @property
    def parameters(self) -> tuple[float, ...]:
        return tuple(self.fitted[self.chosen][0].tolist())

    def draws(self, law: Law, sizes: np.ndarray) -> np.ndarray:
        """The scores that ``law`` gives at ``sizes`` (N), fitted, and with each draw of the noise: (1 + R)×N."""
        return np.minimum(law.at(self.fitted[law], sizes.astype(np.float64)), self._bound)

    def hidden(self, confidence: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Prediction, and ends of the band for the mean of the runs, at each hidden size."""
        start = self.points.visible
        sizes, noise = self.points.sizes[start:], self.misfit * self.points.noise[:, start:]
        ends = [_ends(self.draws(law, sizes)[1:] + noise, confidence) for law in self.contenders]
        return self.draws(self.chosen, sizes)[0], *_union(ends)

    def _held_out_errors(self) -> dict[str, float]:
        """RMS errors at the largest visible sizes, of laws that the others determine."""
        kept = len(self._sizes) - hidden_sizes(len(self._sizes))
        found = {}
        for law in LAWS:
            if law.parameters <= kept:
                fitted = law.fit(self._sizes[:kept], self._means[None, :kept], self._weights[:kept], self._bound)
                missed = law.at(fitted, self._sizes[kept:].astype(np.float64))[0] - self._means[kept:]
                found[law.name] = float(np.sqrt((missed**2 * self._weights[kept:]).mean()))
        return found

    def _misfit(self, law: Law) -> tuple[float, float]:
        """The squared error of a fit per degree of freedom, relative to the noise, and its p value."""
        freedom = len(self._sizes) - law.parameters
        if not freedom:
            return 0.0, 1.0
        fitted = law.at(law.fit(self._sizes, self._means[None], self._weights, self._bound), self._sizes.astype(float))
        ratio = float((self._weights * (fitted[0] - self._means) ** 2).sum() / freedom)
        return ratio, float(f_distribution.sf(ratio, freedom, self.points.freedom or np.inf))


def hidden_sizes(sizes: int) -> int:
    """How many of the largest sizes are hidden from a fit that is judged by them."""
    return 2 if sizes >= 6 else 1


class Forecasts:
    """The laws of all systems of a study under one metric; see ``Forecast``, ``Reach``, ``Prospect``.

    Raises MusictagError if anything other than the number of training songs varies.
    """

    def __init__(self, study: Study, draws: Draws, metric: str, confidence: float = 0.95) -> None:
        self.metric = metric
        self._confidence = confidence
        self._sign = METRICS[metric].sign
        self._bound = self._sign * METRICS[metric].perfect
        self._scores = {fits.system: fits for fits in scores_by_size(study, draws, metric)}
        self._fitted: dict[str, Fitted] = {}
        self.found = [self._forecast(system) for system in self._scores]

    def reaches(self, target: float) -> list[Reach]:
        """How many songs each system needs for a score of ``target``."""
        return [self._reach(system, fitted, target) for system, fitted in self._fitted.items()]

    def prospects(self) -> list[Prospect]:
        """Where the laws of each pair of systems with common sizes cross, also beyond the data."""
        found = [self._prospect(*pair) for pair in combinations(self._fitted, 2)]
        return [one for one in found if one is not None]

    def _points(self, system: str, visible: int | None = None) -> Points:
        fits = self._scores[system]
        return measured(system, fits.sizes, self._sign * fits.scores, visible)

    def _forecast(self, system: str) -> Forecast:
        points = self._points(system)
        held_out, notes = self._held_out(system, len(points.sizes))
        found = departure(points)
        empty = Forecast(system, self.metric, None, (), {}, [], found, held_out, None, None, notes)
        if found is not None or len(points.sizes) < 2:
            return empty
        fitted = self._fitted[system] = Fitted(points, self._bound)
        if not fitted.could_choose:
            notes.append("too few sizes to choose a law by held-out ones")
        if not points.freedom:
            notes.append("one run at each of two sizes: how much runs vary is unknown, bands cover the songs only")
        elif (points.runs == 1).all():
            notes.append("one run per size: their noise is estimated from how unevenly the sizes follow each other")
        if fitted.errors.get(fitted.chosen.name, 0.0) > _MISSED:
            notes.append(f"fitted to the others, this law misses the largest sizes by over {_MISSED:g} standard errors")
        if fitted.misfit > 1:
            notes.append("no law fits within the noise of the runs; the bands are widened by the misfit")
        largest = float(points.sizes[-1])
        ends = np.array([largest, 2 * largest])
        doubled = [np.diff(fitted.draws(law, ends))[1:, 0] for law in fitted.contenders]
        value = float(np.diff(fitted.draws(fitted.chosen, ends))[0, 0])
        low, high = _union([_ends(one, self._confidence) for one in doubled])
        grid = np.geomspace(points.sizes[0], 2 * largest, _GRID)
        curve = fitted.draws(fitted.chosen, grid)[0]
        band = _union([_ends(fitted.draws(law, grid)[1:], self._confidence) for law in fitted.contenders])
        return Forecast(
            system=system,
            metric=self.metric,
            law=fitted.chosen.name,
            parameters=fitted.parameters,
            errors=fitted.errors,
            contenders=[law.name for law in fitted.contenders],
            departure=None,
            held_out=held_out,
            doubling=(value, float(low), float(high)),
            band=(grid.tolist(), *(part.tolist() for part in self._shown(curve, *band))),
            notes=notes,
        )

    def _held_out(self, system: str, sizes: int) -> tuple[list[HeldOut], list[str]]:
        if sizes < 3:
            return [], ["nothing held out: it needs three sizes"]
        points = self._points(system, sizes - hidden_sizes(sizes))
        seen = points.visible
        if departure(points.seen) is not None:
            return [], ["nothing predicted: the smaller sizes alone have not the shape of a learning curve"]
        fitted = Fitted(points, self._bound)
        rows = zip(*self._shown(*fitted.hidden(self._confidence)), strict=True)
        return [
            HeldOut(system, self.metric, int(points.sizes[seen + place]), int(points.runs[seen + place]),
                    fitted.chosen.name, *map(float, row), float(self._sign * points.means[seen + place]))
            for place, row in enumerate(rows)
        ], []  # fmt: skip

    def _shown(self, value: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, ...]:
        """Scores as they are shown, within their bounds."""
        ends = (low, high) if self._sign > 0 else (-high, -low)
        return tuple(np.clip(part, *METRICS[self.metric].bounds) for part in (self._sign * value, *ends))

    def _reach(self, system: str, fitted: Fitted, target: float) -> Reach:
        sizes = fitted.points.sizes
        grid = np.geomspace(sizes[0], _BEYOND * sizes[-1], 4 * _GRID)

        def first(scores: np.ndarray) -> np.ndarray:
            reached = scores >= self._sign * target
            return np.where(reached.any(axis=1), grid[reached.argmax(axis=1)], np.inf)

        at = {law: first(fitted.draws(law, grid)) for law in fitted.contenders}
        tail = (1 - self._confidence) / 2
        low = min(float(grid[-1]), *(float(np.quantile(one[1:], tail, method="lower")) for one in at.values()))
        high = max(float(np.quantile(one[1:], 1 - tail, method="higher")) for one in at.values())
        size = float(at[fitted.chosen][0])
        return Reach(
            system, self.metric, target, size if np.isfinite(size) else None, low if low > grid[0] else None,
            high if np.isfinite(high) else None, int(sizes[0]), int(sizes[-1]),
        )  # fmt: skip

    def _prospect(self, system: str, other: str) -> Prospect | None:
        one, two = self._fitted[system], self._fitted[other]
        start = max(one.points.sizes[0], two.points.sizes[0])
        largest = min(one.points.sizes[-1], two.points.sizes[-1])
        if start > largest:
            return None
        grid = np.geomspace(start, _BEYOND * largest, 2 * _GRID)
        ahead = one.draws(one.chosen, grid)[0] - two.draws(two.chosen, grid)[0]
        low, high = _union([
            _ends((one.draws(mine, grid) - two.draws(theirs, grid))[1:], self._confidence)
            for mine, theirs in product(one.contenders, two.contenders)
        ])  # fmt: skip
        at_largest = int(np.searchsorted(grid, largest))
        if ahead[at_largest] < 0:  # name the one that is ahead with the most songs measured
            system, other, ahead, low, high = other, system, -ahead, -high, -low
        pieces = undecided_sizes(grid, low, high)
        later = np.flatnonzero(ahead[at_largest:] < 0)
        size = float(grid[at_largest + later[0]]) if len(later) else None
        beyond = [piece for piece in pieces if piece[1] is None or piece[1] > largest]
        head = f"{system} is ahead of {other} with {number(largest)} songs"
        if size is not None:
            text = f"{head}; by their laws {other} overtakes beyond the data, at about {number(size)}"
        else:
            text = f"{head} and by their laws stays so up to {number(grid[-1])}"
        if beyond:
            text += f"; which of them is ahead is uncertain {undecided_words(beyond)}"
        return Prospect(other, system, self.metric, size, bool(beyond), text)


def coverage_words(forecasts: Sequence[Forecast]) -> str:
    """The coverage over all curves in one sentence; empty if nothing could be held out."""
    rows = [row for forecast in forecasts for row in forecast.held_out]
    curves = sum(bool(forecast.held_out) for forecast in forecasts)
    if not rows:
        return ""
    hits = sum(row.hit for row in rows)
    return (
        f"Of {len(rows)} scores at the largest sizes of {curves} curves, hidden from the fits, {hits} "
        f"({hits / len(rows):.0%}) lie within their 95% bands."
    )


def _ends(drawn: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0))


def _union(ends: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    lows, highs = zip(*ends, strict=True)
    return np.min(lows, axis=0), np.max(highs, axis=0)
