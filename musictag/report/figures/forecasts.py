"""Figures of what curves predict, and of scores over compute. Each as PNG and SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from musictag.common.plotting import FAINT, new_figure
from musictag.evaluation.metrics import METRICS
from musictag.report.figures.panels import WIDTH, best_systems, left_out, legend, looks, plain, save, short, style
from musictag.report.statistics.forecast import Forecast
from musictag.report.study import Study

_MISS = "#b04a4a"


def law_figure(study: Study, forecasts: Sequence[Forecast], metric: str, path: Path) -> None:
    """One panel per system: means, the law with its band up to twice the largest size, and the hidden sizes with the
    bands that the smaller ones predict for them."""
    systems = best_systems(study)
    found = [one for one in forecasts if one.metric == metric and one.system in systems]
    columns = 2 if len(found) > 1 else 1
    lines = -(-len(found) // columns)
    with style():
        figure = new_figure(WIDTH, 2.35 * lines + 1.0)
        grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        for axes in grid.ravel()[len(found) :]:
            axes.set_axis_off()
        for axes, one in zip(grid.ravel(), found, strict=False):
            _law_panel(axes, study, one)
        sizes = sorted({run.train_songs for run in study.runs})
        for axes in grid.ravel():
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(FixedLocator(_thinned(sizes)))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xticklabels([plain(size) for size in _thinned(sizes)])
        for axes in grid[-2 if len(found) < grid.size else -1]:
            axes.tick_params(labelbottom=True)
        values = [run.value(metric) for run in study.runs]
        room = 0.35 * (max(values) - min(values)) or 0.01
        grid[0, 0].set_ylim(min(values) - room, max(values) + room)
        for axes in grid[:, 0]:
            axes.set_ylabel(METRICS[metric].label)
        said = [f"training songs of {study.data}", left_out(study, systems, study.systems, "systems")]
        figure.supxlabel("\n".join(filter(None, said)), fontsize=11)
        entries = [
            Line2D([], [], color=FAINT, linewidth=1.6, label="law, 95% band"),
            Line2D([], [], color="#2b2b2b", linewidth=2.2, label="predicted: hit"),
            Line2D([], [], color=_MISS, linewidth=2.2, label="miss"),
        ]
        figure.legend(handles=entries, loc="outside upper left", ncols=3, frameon=False)
        save(figure, path)


def compute_figure(study: Study, rows: Sequence[Mapping[str, Any]], metric: str, path: Path) -> None:
    """Scores over songs (lines join equal steps), over FLOP and over seconds (lines join the sizes of a system), and
    over songs and seconds together. ``rows``: as of ``musictag.report.tables.protocol.compute_rows``."""
    label, systems = METRICS[metric].label, best_systems(study)
    rows = [row for row in rows if row["system"] in systems]
    with style():
        figure = new_figure(WIDTH, 6.4)
        (songs, flop), (seconds, both) = figure.subplots(2, 2)
        for axes, key, words in (
            (songs, "songs", "training songs (lines: equal steps)"),
            (flop, "flop", "FLOP of training"),
            (seconds, "seconds", "seconds of training"),
        ):
            _over(axes, study, rows, key, metric)
            axes.set_xlabel(words)
            axes.set_ylabel(label)
        _plane(both, study, rows, metric)
        if said := left_out(study, systems, study.systems, "systems"):
            figure.supxlabel(said, fontsize=11)
        legend(figure, study, systems=systems)
        save(figure, path)


def _law_panel(axes: Axes, study: Study, one: Forecast) -> None:
    look = looks(study)[one.system]
    axes.grid(True, axis="y")
    axes.set_title(short(one.system), fontsize=11)
    runs = [run for run in study.runs if run.system == one.system]
    sizes = sorted({run.train_songs for run in runs})
    if one.band is not None:
        grid, fit, low, high = map(np.array, one.band)
        inside = grid <= sizes[-1] * 1.001
        axes.fill_between(grid, low, high, color=look.colour, alpha=0.15, linewidth=0)
        axes.plot(grid[inside], fit[inside], color=look.colour, linewidth=1.6)
        axes.plot(grid[~inside], fit[~inside], color=look.colour, linewidth=1.3, linestyle=":")
    axes.plot([run.train_songs for run in runs], [run.value(one.metric) for run in runs], look.marker,
              color=look.colour, markersize=3.2, alpha=0.45)  # fmt: skip
    means = [np.mean([run.value(one.metric) for run in runs if run.train_songs == size]) for size in sizes]
    axes.plot(sizes, means, look.marker, color=look.colour, markersize=6, markeredgecolor="white", markeredgewidth=0.7)
    for row in one.held_out:
        ink = "#2b2b2b" if row.hit else _MISS
        axes.vlines(row.size, row.low, row.high, color=ink, linewidth=2.2, alpha=0.75)
        axes.plot(row.size, row.predicted, "_", color=ink, markersize=11, markeredgewidth=2)
    words = one.law or ("not a learning curve" if one.departure else "")
    axes.annotate(words, (0.97, 0.04), xycoords="axes fraction", ha="right", fontsize=9.5, color=FAINT)


def _over(axes: Axes, study: Study, rows: Sequence[Mapping[str, Any]], key: str, metric: str) -> None:
    axes.grid(True, axis="y")
    known = [row for row in rows if row[key]]
    if not known:
        axes.annotate("not recorded", (0.5, 0.5), xycoords="axes fraction", ha="center", color=FAINT)
        axes.set(xticks=[], yticks=[])
        return
    for system, look in looks(study).items():
        lines: dict[Any, list[Mapping[str, Any]]] = {}
        for row in (row for row in known if row["system"] == system):
            lines.setdefault(row["steps"] if key == "songs" else None, []).append(row)
        for line in lines.values():
            line = sorted(line, key=lambda row: row["songs"])
            axes.plot([row[key] for row in line], [row["scores"][metric] for row in line], marker=look.marker,
                      color=look.colour, markersize=5, linewidth=1.4)  # fmt: skip
    _log_axis(axes, "x", [row[key] for row in known])
    axes.yaxis.set_major_locator(MaxNLocator(5))


def _plane(axes: Axes, study: Study, rows: Sequence[Mapping[str, Any]], metric: str) -> None:
    """Songs and seconds of every cell; the better the score, the larger the mark."""
    known = [row for row in rows if row["seconds"]]
    scores = np.array([METRICS[metric].sign * row["scores"][metric] for row in known])
    span = np.ptp(scores) or 1.0
    for row, score in zip(known, scores, strict=True):
        look = looks(study)[row["system"]]
        axes.plot(row["songs"], row["seconds"], look.marker, color=look.colour, alpha=0.75, markeredgecolor="white",
                  markersize=3.5 + 9 * (score - scores.min()) / span)  # fmt: skip
    axes.grid(True)
    _log_axis(axes, "x", [row["songs"] for row in known])
    _log_axis(axes, "y", [row["seconds"] for row in known])
    axes.set_xlabel(f"training songs\n(larger: better {METRICS[metric].label})")
    axes.set_ylabel("seconds of training")


def _log_axis(axes: Axes, side: str, values: Sequence[float]) -> None:
    """A logarithmic axis with three short ticks at most."""
    getattr(axes, f"set_{side}scale")("log")
    axis = getattr(axes, f"{side}axis")
    ticks = sorted({float(f"{value:.1g}") for value in np.geomspace(min(values), max(values), 3)})
    if side == "x" and isinstance(values[0], int):
        ticks = _thinned(sorted(set(values)))
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    labels = [plain(tick) if tick < 1e6 else f"{tick:.0e}".replace("e+", "e") for tick in ticks]
    getattr(axes, f"set_{side}ticklabels")(labels)


def _thinned(sizes: Sequence[int]) -> list[int]:
    """At most three of the sizes, far apart on a logarithmic axis, with the ends."""
    middle = min(sizes, key=lambda size: abs(np.log(size * size / sizes[0] / sizes[-1])))
    return sorted({sizes[0], middle, sizes[-1]})
