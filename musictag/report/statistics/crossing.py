"""Where the difference of two fitted curves changes sign, and how certain that is.

Legend: N sizes of a grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from musictag.evaluation.metrics import METRICS
from musictag.report.statistics.inference import Estimate, margins

Piece = tuple[float | None, float | None]


@dataclass(frozen=True)
class Crossing:
    """The number of training songs from which ``system`` is better than ``other``, up to the largest measured size.

    ``size`` is None if the fits do not cross within the measured sizes; ``system`` is then the one that is behind.
    ``undecided``: the sizes at which the fits do not differ significantly, and thus where the crossing may lie (a
    confidence set like Fieller's): ranges of sizes, None where a range ends with the measured sizes. ``seeds``: how
    many it rests on; with one it is about these trained models. ``text`` summarises it in a sentence.
    """

    system: str
    other: str
    metric: str
    fit: str
    size: float | None
    undecided: list[Piece]
    seeds: int
    text: str

    @property
    def low(self) -> float | None:
        """The lower end of the undecided sizes; None if that is the smallest size, or if there are none."""
        return self.undecided[0][0] if self.undecided else None

    @property
    def high(self) -> float | None:
        """Their upper end; None if that is the largest size, or if there are none."""
        return self.undecided[-1][1] if self.undecided else None


def find_crossing(
    one: str, other: str, metric: str, fit: str, grid: np.ndarray, ahead: Estimate, confidence: float
) -> Crossing:
    """``ahead``: how much better ``one`` is at each of the sizes ``grid`` (N).

    Between two sizes of the grid, curves are interpolated linearly over the logarithm.
    """
    margin, difference = margins(ahead, confidence), ahead.value
    if difference[-1] < 0:
        one, other, difference = other, one, -difference
    undecided = undecided_sizes(grid, difference - margin, difference + margin)
    changes = _roots(np.log(grid), difference)
    size = None
    span = f"within {number(grid[0])} to {number(grid[-1])} songs"
    whole = undecided == [(None, None)]
    if not np.any(np.abs(difference) > 1e-12):
        text = f"{one} and {other} do not differ {span}"
    elif changes:
        size = changes[-1]
        sure = (
            ", but neither is significantly ahead at any size"
            if whole
            else f" ({confidence:.0%} interval {undecided_words(undecided)})"
        )
        text = f"{one} overtakes {other} at {number(size)} songs{sure}"
        text += f", the last of {len(changes)} crossings" if len(changes) > 1 else ""
    else:
        above = "above" if METRICS[metric].better == "max" else "better than"
        text = f"no crossing {span}: {one} is {above} {other} throughout"
        text += (
            ", but not significantly at any size" if whole
            else f", but not significantly {undecided_words(undecided)}" if undecided
            else ", significantly at every size"
        )  # fmt: skip
        one, other = other, one
    return Crossing(one, other, metric, fit, size, undecided, ahead.freedom + 1, text)


def number(size: float) -> str:
    """Rounded to two digits, which is already more than an interval over a few sizes supports."""
    size = float(size)
    nearest = round(size)
    if abs(size - nearest) < 1e-9 * size:
        return f"{nearest:,}"
    return f"{float(f'{size:.2g}'):,.0f}"


def undecided_sizes(grid: np.ndarray, low: np.ndarray, high: np.ndarray) -> list[Piece]:
    """The ranges of the sizes ``grid`` (N) at which the interval from ``low`` to ``high`` contains zero; None where a
    range ends with the grid."""
    logs = np.log(grid)
    side = np.where(low > 0, 1, np.where(high < 0, -1, 0))
    pieces: list[Piece] = []
    start = None
    for place in range(1, len(side)):
        before, now = side[place - 1], side[place]
        if before == now:
            continue
        bounds = {1: low, -1: high}
        if before:  # one was ahead until here
            start = _root(logs, bounds[before], place)
        if now:
            pieces.append((start, _root(logs, bounds[now], place)))
    return pieces if side[-1] else [*pieces, (start, None)]


def _roots(logs: np.ndarray, values: np.ndarray) -> list[float]:
    behind = values <= 0
    return [_root(logs, values, place) for place in np.flatnonzero(behind[1:] != behind[:-1]) + 1]


def _root(logs: np.ndarray, values: np.ndarray, place: int) -> float:
    """The size between the grid's ``place`` - 1 and ``place`` at which the values (N) are zero."""
    first, second = values[place - 1 : place + 1]
    return float(np.exp(logs[place - 1] + (logs[place] - logs[place - 1]) * first / (first - second)))


def undecided_words(pieces: list[Piece]) -> str:
    """The ranges in words; an end outside the measured sizes is left open."""

    def of_one(low: float | None, high: float | None) -> str:
        if low is None and high is None:
            return "throughout"
        if low is None or high is None:
            return f"up to {number(high)}" if low is None else f"from {number(low)} on"
        return f"{number(low)} to {number(high)}"

    return " and ".join(of_one(*piece) for piece in pieces)
