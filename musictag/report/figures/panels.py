"""Common parts of a report's figures: the look of each system, and panels of values with intervals.

A panel shows values over a numeric factor (sizes, filters, ...), or lists systems and conditions row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from musictag.common.files import atomic_write
from musictag.common.plotting import BLUE, FAINT, GREEN, ORANGE, STYLE, save_figure
from musictag.report.study import Study
from musictag.report.wording import factor_label, short

#: Larger than in the figures of a single run: reports are also read on phones.
LARGE = STYLE | {"font.size": 11, "axes.titlesize": 12, "legend.fontsize": 10.5, "svg.hashsalt": "musictag"}
_COLOURS = {"waveform": ORANGE, "spectrogram": BLUE, "baseline": GREEN}
_MARKERS = {"waveform": "oDpH", "spectrogram": "svP8", "baseline": "^*X"}
_LOG_FROM = 4  # ratio of a factor's largest to its smallest value from which the axis is logarithmic


@dataclass(frozen=True)
class Look:
    colour: tuple[float, float, float]
    marker: str


@dataclass(frozen=True)
class Value:
    """A measured value of a system under a condition, with its interval and the individual values behind it."""

    system: str
    condition: tuple[Any, ...]
    value: float
    low: float
    high: float
    points: list[float] = field(default_factory=list)


def looks(study: Study) -> dict[str, Look]:
    """Colour by family, with one shade per system, and distinct markers, so that nothing depends on colour alone."""
    found = {}
    for family, colour in _COLOURS.items():
        systems = [system for system in study.systems if study.family(system) == family]
        for place, system in enumerate(systems):
            shade = 0.0 if len(systems) == 1 else place / (len(systems) - 1) - 0.4  # from darker to lighter
            towards = 1.0 if shade > 0 else 0.0
            rgb = [own + abs(shade) * 0.75 * (towards - own) for own in to_rgb(colour)]
            found[system] = Look(tuple(rgb), _MARKERS[family][place % len(_MARKERS[family])])
    return found


def numeric_factors(study: Study) -> list[int]:
    """The indices of factors that have at least two values, all numeric."""
    found = []
    for place in range(len(study.factors)):
        values = {condition[place] for condition in study.conditions} - {None}
        if len(values) > 1 and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            found.append(place)
    return found


def draw_over(axes: Axes, values: Sequence[Value], study: Study, factor: int) -> None:
    """Values against one factor. Systems without it are horizontal lines; the other factors give separate lines."""
    axes.grid(True, axis="y")
    style = looks(study)
    ticks = sorted({value.condition[factor] for value in values} - {None})
    is_log = ticks[0] > 0 and ticks[-1] >= _LOG_FROM * ticks[0]
    at = {tick: np.log(tick) if is_log else float(tick) for tick in ticks}
    span = at[ticks[-1]] - at[ticks[0]]
    for place, system in enumerate(study.systems):
        own, look = [value for value in values if value.system == system], style[system]
        shift = 0.014 * span * (place - (len(study.systems) - 1) / 2)  # avoids overlapping intervals
        lines: dict[str, list[Value]] = {}
        for value in own:
            others = [entry for other, entry in enumerate(value.condition) if other != factor]
            lines.setdefault(" × ".join(map(plain, others)), []).append(value)
        for others, line in lines.items():
            if line[0].condition[factor] is None:
                axes.axhline(line[0].value, color=look.colour, linewidth=1.4, linestyle=(0, (6, 2, 1, 2)))
                axes.axhspan(line[0].low, line[0].high, color=look.colour, alpha=0.12, linewidth=0)
                continue
            x = np.array([at[value.condition[factor]] for value in line]) + shift
            axes.plot(x, [value.value for value in line], color=look.colour, linewidth=1.5, alpha=0.8)
            _intervals(axes, x, line, look, upright=True)
            if len(lines) > 1:
                axes.annotate(
                    others, (x[-1], line[-1].value), xytext=(6, 0), textcoords="offset points", va="center",
                    fontsize=8.5, color=FAINT,
                )  # fmt: skip
    axes.xaxis.set_major_locator(FixedLocator([at[tick] for tick in ticks]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([plain(tick) for tick in ticks])
    axes.set_xlim(at[ticks[0]] - 0.08 * span, at[ticks[-1]] + 0.08 * span)
    axes.set_xlabel(factor_label(study.factors[factor]))


def draw_rows(axes: Axes, values: Sequence[Value], study: Study, rows: Sequence[tuple[str, tuple[Any, ...]]]) -> None:
    """Values row by row: ``rows`` are systems and conditions, the first on top."""
    axes.grid(True, axis="x")
    style = looks(study)
    places = {row: place for place, row in enumerate(rows)}
    for value in values:
        y = np.array([places[value.system, value.condition]])
        _intervals(axes, y, [value], style[value.system], upright=False)
    names = [row_name(system, condition) for system, condition in rows]
    axes.set_yticks(range(len(rows)), [name if len(name) <= 34 else name[:33] + "…" for name in names])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    for place in range(1, len(rows)):
        if rows[place][0] != rows[place - 1][0]:
            axes.axhline(place - 0.5, color="#dddddd", linewidth=0.8)


def row_name(system: str, condition: tuple[Any, ...]) -> str:
    return " ".join([short(system), *(plain(value) for value in condition if value is not None)])


def limit_to(axes: Axes, side: str, values: Sequence[float]) -> None:
    """Limit the axis ``side`` (x or y) to the ``values``, with a margin of their range around them.

    An interval from two seeds may be ten times as long as the range of the values; it is cut off there.
    """
    first, last = min(values), max(values)
    room = 1.5 * (last - first)
    low, high = getattr(axes, f"get_{side}lim")()
    if room > 0:
        axes.set(**{f"{side}lim": (max(low, first - room), min(high, last + room))})


def legend(figure: Figure, study: Study, more: Sequence[Line2D] = ()) -> None:
    """The systems, above the panels, in as many columns as fit."""
    entries = [
        Line2D([], [], color=look.colour, marker=look.marker, label=short(system), linewidth=1.6)
        for system, look in looks(study).items()
    ]
    widest = max(len(entry.get_label()) for entry in [*entries, *more])
    columns = max(1, min(len(entries) + len(more), int(figure.get_size_inches()[0] * 10.5 / (widest + 6))))
    figure.legend(handles=[*entries, *more], loc="outside upper left", ncols=columns, frameon=False)


def plain(value: Any) -> str:
    """A setting as people would write it."""
    if value is None:
        return "-"
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, tuple):
        return "/".join(map(plain, value))
    return f"{value:,.12g}"


def save(figure: Figure, path: Path) -> None:
    """Save the PNG at ``path`` and an SVG of the same name, both byte-for-byte reproducible."""
    save_figure(figure, path.with_suffix(".png"))
    with atomic_write(path.with_suffix(".svg")) as file:
        figure.savefig(file, format="svg", metadata={"Date": None})


def style() -> Any:
    return matplotlib.rc_context(LARGE)


def _intervals(axes: Axes, at: np.ndarray, values: Sequence[Value], look: Look, upright: bool) -> None:
    """Each value with its interval, and the individual values behind it."""
    centres = np.array([value.value for value in values])
    lows, highs = np.array([value.low for value in values]), np.array([value.high for value in values])
    bars, points = (
        (axes.vlines, axes.plot) if upright else (axes.hlines, lambda x, y, *a, **k: axes.plot(y, x, *a, **k))
    )
    bars(at, lows, highs, color=look.colour, linewidth=1.3)
    for place, value in zip(at, values, strict=True):
        if len(value.points) > 1:
            points(
                [place] * len(value.points), value.points, look.marker, color=look.colour, markersize=3.5, alpha=0.45
            )
    points(at, centres, look.marker, color=look.colour, markersize=6.5, markeredgecolor="white", markeredgewidth=0.7)
