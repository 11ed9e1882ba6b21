"""Common parts of a report's figures: the look of each system, and panels of values with intervals.

A panel shows values over a numeric factor (sizes, filters, ...), or lists systems and conditions row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, TypeVar

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from musictag.common.files import atomic_write
from musictag.common.plotting import BLUE, GREEN, ORANGE, STYLE, save_figure
from musictag.evaluation.metrics import METRICS
from musictag.report.study import Run, Study
from musictag.report.wording import factor_label, short, shown

#: Larger than in the figures of a single run: reports are also read on phones.
LARGE = STYLE | {"font.size": 11, "axes.titlesize": 12, "legend.fontsize": 10.5, "svg.hashsalt": "musictag"}
COLOURS = {"waveform": ORANGE, "spectrogram": BLUE, "baseline": GREEN}
_MARKERS = {"waveform": "oDpH", "spectrogram": "svP8", "baseline": "^*X"}
WIDTH = 6.6  # inches: with the large font legible at a width of 390 pixels
MOST_LINES = 9  # systems or settings of one that can be told apart
_LONGEST_ROW = 40  # characters of a row's name
RANKED_BY = "pr_auc"  # chooses what is shown where not everything can be
_MOST_CLEAR = 4  # with more lines than this in a panel, intervals are faint
_LOG_FROM = 4  # ratio of a factor's largest to its smallest value from which the axis is logarithmic


@dataclass(frozen=True)
class Look:
    colour: tuple[float, float, float]
    marker: str


class LineEnd(NamedTuple):
    """Where a line ends, and what is written there."""

    value: float
    text: str
    colour: tuple[float, float, float]


Entry = TypeVar("Entry")


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
    for family, colour in COLOURS.items():
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


def best_of(
    study: Study, entries: Sequence[Entry], runs_of: Callable[[Entry], Sequence[Run]], most: int
) -> list[Entry]:
    """At most ``most`` of the entries, in their order: the one of each system that holds the study's last condition (or
    else its best one), then those whose ``runs_of`` have the best mean score by the first headline metric."""
    if len(entries) <= most:
        return list(entries)
    metric = RANKED_BY if RANKED_BY in study.headlines else study.headlines[0]
    merit = {
        entry: METRICS[metric].sign * fmean(run.value(metric) for run in runs_of(entry))
        for entry in dict.fromkeys(entries)
    }
    ranked = sorted(merit, key=lambda entry: -merit[entry])
    last = study.full_conditions[-1]
    first = {}
    for entry in sorted(ranked, key=lambda entry: all(run.condition != last for run in runs_of(entry))):
        first.setdefault(runs_of(entry)[0].system, entry)
    kept = {*list(dict.fromkeys([*sorted(first.values(), key=ranked.index), *ranked]))[:most]}
    return [entry for entry in entries if entry in kept]


def best_systems(study: Study) -> list[str]:
    """Those that a figure with a line or a panel for each has room for."""
    return best_of(study, study.systems, lambda system: [r for r in study.runs if r.system == system], MOST_LINES)


def left_out(study: Study, kept: Sequence[Any], every: Sequence[Any], what: str) -> str:
    """What a figure says of entries that it does not show; empty if it shows all."""
    if len(kept) == len(every):
        return ""
    metric = RANKED_BY if RANKED_BY in study.headlines else study.headlines[0]
    return f"{len(kept)} of {len(every)} {what}, chosen by {METRICS[metric].label};\nthe table has all"


Line = tuple[str, tuple[Any, ...]]


def lines_over(study: Study, factor: int) -> list[Line]:
    """The lines of a panel over one factor: systems with the values of the other factor, if there is one."""
    return list(dict.fromkeys((run.system, _without(run.condition, factor)) for run in study.runs))


def draw_over(axes: Axes, values: Sequence[Value], study: Study, factor: int, shown: Sequence[Line]) -> list[LineEnd]:
    """Values against one factor, for the lines ``shown``; returns where they end. Systems without it are horizontal
    lines."""
    axes.grid(True, axis="y")
    style = looks(study)
    ticks = sorted({value.condition[factor] for value in values} - {None})
    is_log = ticks[0] > 0 and ticks[-1] >= _LOG_FROM * ticks[0]
    at = {tick: np.log(tick) if is_log else float(tick) for tick in ticks}
    span = at[ticks[-1]] - at[ticks[0]]
    lines = {
        key: [value for value in values if (value.system, _without(value.condition, factor)) == key] for key in shown
    }
    several = {system for system, _ in shown if sum(system == other for other, _ in shown) > 1}
    ends = []
    for (system, others), line in lines.items():
        look = style[system]
        shift = (
            0.014 * span * (study.systems.index(system) - (len(study.systems) - 1) / 2)
        )  # avoids overlapping intervals
        words = short(" × ".join(map(plain, others)))
        if not line:
            continue
        if line[0].condition[factor] is None:
            axes.axhline(line[0].value, color=look.colour, linewidth=1.4, linestyle=(0, (6, 2, 1, 2)))
            if system in several:
                ends.append(LineEnd(line[0].value, words, look.colour))
            else:
                axes.axhspan(line[0].low, line[0].high, color=look.colour, alpha=0.12, linewidth=0)
            continue
        x = np.array([at[value.condition[factor]] for value in line]) + shift
        axes.plot(x, [value.value for value in line], color=look.colour, linewidth=1.5, alpha=0.8)
        _intervals(axes, x, line, look, upright=True, alpha=1.0 if len(shown) <= _MOST_CLEAR else 0.3)
        if system in several and any(entry is not None for entry in others):
            ends.append(LineEnd(line[-1].value, words, look.colour))
    axes.xaxis.set_major_locator(FixedLocator([at[tick] for tick in ticks]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([plain(tick) for tick in ticks])
    axes.set_xlim(at[ticks[0]] - 0.08 * span, at[ticks[-1]] + 0.08 * span)
    axes.set_xlabel(factor_label(study.factors[factor]))
    return ends


def label_ends(axes: Axes, ends: Sequence[LineEnd]) -> None:
    """The names of lines beside their last points, none over another; the limits of the axis must be final."""
    if not ends:
        return
    low, high = axes.get_ylim()
    gap = min(0.075, 1 / len(ends)) * (high - low)
    ordered = sorted(ends, key=lambda end: end.value)
    at = np.array([end.value for end in ordered])
    for place in range(1, len(at)):
        at[place] = max(at[place], at[place - 1] + gap)
    at -= np.mean(at) - np.mean([end.value for end in ordered])
    at += max(0.0, low - at[0]) - max(0.0, at[-1] - high)
    for y, end in zip(at, ordered, strict=True):
        axes.annotate(
            end.text, (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=8.5, color=end.colour,
            annotation_clip=False,
        )  # fmt: skip


def draw_rows(axes: Axes, values: Sequence[Value], study: Study, rows: Sequence[tuple[str, tuple[Any, ...]]]) -> None:
    """Values row by row, the first on top: ``rows`` are systems and conditions. A system with several rows has a
    heading."""
    axes.grid(True, axis="x")
    style = looks(study)
    names, places, headings, rules = [], {}, [], []
    for place, (system, condition) in enumerate(rows):
        is_first = place == 0 or rows[place - 1][0] != system
        own = [entry for entry in condition if entry is not None]
        words = " ".join(map(plain, own))
        if is_first and place:
            rules.append(len(names) - 0.5)
        if sum(system == other for other, _ in rows) == 1:
            headings.append(len(names))
            words = f"{system}: {words}" if words and len(study.full_conditions) > 1 else system
        elif is_first:
            headings.append(len(names))
            names.append(short(system, _LONGEST_ROW))
        places[system, condition] = len(names)
        names.append(short(words, _LONGEST_ROW))
    for value in values:
        if (value.system, value.condition) in places:
            y = np.array([places[value.system, value.condition]])
            _intervals(axes, y, [value], style[value.system], upright=False)
    axes.set_yticks(range(len(names)), names, fontsize=9.5)
    for place in headings:
        axes.get_yticklabels()[place].set(fontweight="bold", fontsize=11)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    for y in rules:
        axes.axhline(y, color="#dddddd", linewidth=0.8)


def row_count(rows: Sequence[tuple[str, tuple[Any, ...]]]) -> int:
    """The rows with the headings of their systems."""
    systems = [system for system, _ in rows]
    return len(rows) + sum(systems.count(system) > 1 for system in set(systems))


def limit_to(axes: Axes, side: str, values: Sequence[float], margin: float = 1.5) -> None:
    """Limit the axis ``side`` (x or y) to the ``values``, with a ``margin`` of so many times their range around them.

    An interval from two seeds may be ten times as long as the range of the values; it is cut off there.
    """
    first, last = min(values), max(values)
    room = margin * (last - first)
    low, high = getattr(axes, f"get_{side}lim")()
    if room > 0:
        axes.set(**{f"{side}lim": (max(low, first - room), min(high, last + room))})


def legend(figure: Figure, study: Study, more: Sequence[Line2D] = (), systems: Collection[str] | None = None) -> None:
    """The systems (only ``systems``, if given), above the panels, in as many columns as fit."""
    entries = [
        Line2D([], [], color=look.colour, marker=look.marker, label=short(system), linewidth=1.6)
        for system, look in looks(study).items()
        if systems is None or system in systems
    ]
    widest = max(len(entry.get_label()) for entry in [*entries, *more])
    columns = max(1, min(len(entries) + len(more), int(figure.get_size_inches()[0] * 10.5 / (widest + 6))))
    figure.legend(handles=[*entries, *more], loc="outside upper left", ncols=columns, frameon=False)


def plain(value: Any) -> str:
    """A setting as people would write it."""
    if value is None:
        return "-"
    return f"{value:,.12g}" if isinstance(value, float) else shown(value)


def save(figure: Figure, path: Path) -> None:
    """Save the PNG at ``path`` and an SVG of the same name, both byte-for-byte reproducible."""
    save_figure(figure, path.with_suffix(".png"))
    with atomic_write(path.with_suffix(".svg")) as file:
        figure.savefig(file, format="svg", metadata={"Date": None})


def metric_title(metric: str) -> str:
    return METRICS[metric].label + ("" if METRICS[metric].better == "max" else " (lower is better)")


def style() -> Any:
    return matplotlib.rc_context(LARGE)


def _intervals(
    axes: Axes, at: np.ndarray, values: Sequence[Value], look: Look, upright: bool, alpha: float = 1.0
) -> None:
    """Each value with its interval, and the individual values behind it."""
    centres = np.array([value.value for value in values])
    lows, highs = np.array([value.low for value in values]), np.array([value.high for value in values])
    bars, points = (
        (axes.vlines, axes.plot) if upright else (axes.hlines, lambda x, y, *a, **k: axes.plot(y, x, *a, **k))
    )
    bars(at, lows, highs, color=look.colour, linewidth=1.3, alpha=alpha)
    for place, value in zip(at, values, strict=True):
        if len(value.points) > 1:
            points(
                [place] * len(value.points), value.points, look.marker, color=look.colour, markersize=3.5, alpha=0.45
            )
    points(at, centres, look.marker, color=look.colour, markersize=6.5, markeredgecolor="white", markeredgewidth=0.7)


def _without(condition: tuple[Any, ...], factor: int) -> tuple[Any, ...]:
    return condition[:factor] + condition[factor + 1 :]
