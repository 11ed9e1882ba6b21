"""The figures of a report: scaling curves, capacity, gains per tag, popularity. Each as PNG and SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from musictag.common.plotting import FAINT, new_figure
from musictag.evaluation.metrics import METRICS
from musictag.report.figures.panels import (
    MOST_LINES,
    WIDTH,
    Line,
    Look,
    Value,
    best_of,
    best_systems,
    draw_over,
    draw_rows,
    label_ends,
    left_out,
    legend,
    limit_to,
    lines_over,
    looks,
    metric_title,
    numeric_factors,
    plain,
    row_count,
    save,
    style,
)
from musictag.report.statistics.crossing import Crossing, number
from musictag.report.statistics.inference import estimate, margins
from musictag.report.statistics.paired_tests import leading_pairs
from musictag.report.statistics.popularity import Exclusive, Popularity
from musictag.report.statistics.resampling import Draws, seeds_of
from musictag.report.statistics.scaling import Curve
from musictag.report.study import Run, Study
from musictag.report.wording import factor_label, short

#: What can be read at the width of a page; whatever is more is in the tables.
_MOST_ROWS = 50  # of all panels together ...
_MOST_SYSTEM_ROWS = 24  # ... but one for each of so many systems in each panel
_MOST_CROSSINGS = 4
_CLOSE = 0.08  # numbers of an axis, as a share of it ...
_WIDE = 0.35  # ... and what is written beside a crossing


def scaling_figure(
    study: Study, curves: Mapping[str, Sequence[Curve]], crossings: Sequence[Crossing], path: Path
) -> None:
    """One panel per headline metric over the training songs: runs, means, trend with band, power law; crossings below.

    Crossings of the trend lines are drawn with their intervals.
    """
    systems = best_systems(study)
    curves = {metric: [curve for curve in found if curve.system in systems] for metric, found in curves.items()}
    leading = [set(pair) for pair in leading_pairs(study)]
    drawn = [one for one in crossings if {one.system, one.other} <= set(systems)]
    marks = {
        metric: sorted(
            (one for one in drawn if one.metric == metric and one.fit == "trend" and one.size is not None),
            key=lambda one: {one.system, one.other} not in leading,
        )[:_MOST_CROSSINGS]
        for metric in curves
    }
    with style():
        heights = [3.0 + 0.28 * len(marks[metric]) for metric in curves]
        figure = new_figure(WIDTH, sum(heights) + 1.1)
        panels = figure.subplots(len(curves), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        has_power_law = any(curve.power_law for found in curves.values() for curve in found)
        sizes = sorted({size for found in curves.values() for curve in found for size in curve.sizes})
        style_of = looks(study)
        for axes, (metric, found) in zip(panels, curves.items(), strict=True):
            axes.set_title(metric_title(metric))
            axes.grid(True, axis="y")
            for curve in found:
                draw_curve(axes, curve, style_of[curve.system])
            limit_to(axes, "y", [value for curve in found for _, _, value in curve.points], margin=0.25)
            mark_crossings(axes, marks[metric], style_of, (sizes[0], sizes[-1]))
        size_axis(panels[-1], sizes)
        more = [Line2D([], [], color=FAINT, linewidth=1.6, label="trend, 95% band")]
        if has_power_law:
            more.append(Line2D([], [], color=FAINT, linewidth=1.3, linestyle="--", label="power law"))
        legend(figure, study, more, systems)
        most = max(map(len, study.cells))
        seeds = {1: "one seed: bands cover the test songs only", 2: "two seeds each say little: wide bands"}.get(
            most, f"small points: up to {most} seeds each"
        )
        said = [f"training songs of {study.data}", f"{seeds}; {study.test_songs:,} test songs"]
        panels[-1].set_xlabel("\n".join(filter(None, [*said, left_out(study, systems, study.systems, "systems")])))
        save(figure, path)


def capacity_figure(study: Study, draws: Draws, path: Path, confidence: float = 0.95) -> None:
    """Each headline metric over the numeric factors of the study, or row by row if there are none.

    Means with intervals over songs and seeds, with the scores of the seeds as small points; a baseline, which lacks the
    factor, is a horizontal line.
    """
    by_metric = {metric: _cell_values(study, draws, metric, confidence) for metric in study.headlines}
    _panels(study, {metric_title(metric): (values, None) for metric, values in by_metric.items()}, path)


def popularity_figure(study: Study, rows: Sequence[Popularity], path: Path, exclusive: Exclusive | None = None) -> None:
    """The results of ``musictag.report.statistics.popularity``, one panel each; a line marks no bias."""

    def values(of: str) -> list[Value]:
        return [
            Value(row.system, row.condition, *getattr(row, of)) for row in rows if getattr(row, of) is not None
        ]  # fmt: skip

    panels = {
        "ROC-AUC against prevalence\n(rank correlation)": (values("roc_auc_correlation"), 0.0),
        "PR-AUC above chance against prevalence\n(rank correlation)": (values("pr_auc_correlation"), 0.0),
        "Mean score against prevalence\n(slope; line: proportional)": (values("calibration_slope"), 1.0),
        "Slots given to the most popular fifth\n(share; line: the truth)": (values("top_share"), rows[0].true_share),
    }
    if exclusive is not None and exclusive.means:
        given = [Value(one.system, one.condition, one.ratio, one.low, one.high) for one in exclusive.means]
        pairs = f"{len(exclusive.pairs)} pairs" if len(exclusive.pairs) > 1 else "1 pair"
        panels[f"Exclusive tags given together\n({pairs}; line: the truth, 1: independent)"] = (given, 0.0)
    _panels(study, {title: panel for title, panel in panels.items() if panel[0]}, path)


def _panels(study: Study, panels: Mapping[str, tuple[Sequence[Value], float | None]], path: Path) -> None:
    """One panel per title: over each numeric factor, else row by row. The number next to the values becomes a line."""
    factors = numeric_factors(study)
    there = {(value.system, value.condition) for values, _ in panels.values() for value in values}
    every = [(s, c) for s in study.systems for c in study.conditions if (s, c) in there]
    rows = best_of(study, every, lambda row: study.cell(*row), _most_rows(study, len(panels)))
    with style():
        if factors:
            figure = new_figure(max(WIDTH, 4.6 * len(factors)), 2.75 * len(panels) + 0.9)
            grid = figure.subplots(len(panels), len(factors), sharex="col", sharey="row", squeeze=False)
        else:
            figure = new_figure(WIDTH, (0.27 * row_count(rows) + 1.0) * len(panels) + 0.6)
            grid = figure.subplots(len(panels), 1, squeeze=False)
        for line, (title, (values, reference)) in zip(grid, panels.items(), strict=True):
            line[0].set_title(title)
            ends = [[]] * len(line)
            for column, axes in enumerate(line):
                if factors:
                    ends[column] = draw_over(axes, values, study, factors[column], _lines(study, factors[column])[0])
                    axes.label_outer()
                else:
                    draw_rows(axes, values, study, rows)
                if any(len(value.points) > 1 for value in values):
                    points = [point for value in values for point in value.points]
                    limit_to(axes, "y" if factors else "x", points)
                if reference is not None:
                    (axes.axhline if factors else axes.axvline)(reference, color="#2b2b2b", linewidth=0.9)
            for axes, own in zip(line, ends, strict=True):
                label_ends(axes, own)
        for axes, factor in zip(grid[-1], factors or [None], strict=True):
            said = left_out(study, rows, every, "rows") if factor is None else _lines(study, factor)[1]
            axes.set_xlabel("\n".join(filter(None, (axes.get_xlabel(), said))))
        if factors:
            legend(figure, study, systems={system for factor in factors for system, _ in _lines(study, factor)[0]})
        save(figure, path)


def _most_rows(study: Study, panels: int) -> int:
    return max(_MOST_ROWS // panels, min(_MOST_SYSTEM_ROWS, len(study.systems)))


def _lines(study: Study, factor: int) -> tuple[list[Line], str]:
    """The lines that a panel over this factor shows, and what is said of the others."""
    every = lines_over(study, factor)

    def runs_of(line: Line) -> list[Run]:
        return [run for run in study.runs if line == (run.system, run.condition[:factor] + run.condition[factor + 1 :])]

    shown = best_of(study, every, runs_of, MOST_LINES)
    others = [factor_label(key) for place, key in enumerate(study.factors) if place != factor]
    said = f"at the lines: {others[0]}" if others else ""
    return shown, "\n".join(filter(None, (said, left_out(study, shown, every, "lines"))))


def _cell_values(study: Study, draws: Draws, metric: str, confidence: float) -> list[Value]:
    found = []
    for runs in study.cells:
        mean = estimate(seeds_of(runs, draws, metric))
        value, margin = float(mean.value), float(margins(mean, confidence))
        low, high = np.clip([value - margin, value + margin], *METRICS[metric].bounds).tolist()
        points = [run.value(metric) for run in runs]
        found.append(Value(runs[0].system, runs[0].condition, value, low, high, points))
    return found


def draw_curve(axes: Axes, curve: Curve, look: Look) -> None:
    """The means of a system, its runs as small points, the trend with its band, and the power law."""
    if curve.trend_band:
        grid, low, high = map(np.array, curve.trend_band)
        axes.fill_between(grid, low, high, color=look.colour, alpha=0.15, linewidth=0)
        axes.plot(grid, curve.trend[0] + curve.trend[1] * np.log2(grid), color=look.colour, linewidth=1.6)
        if curve.power_law:
            asymptote, factor, exponent = curve.power_law
            sign = METRICS[curve.metric].sign
            axes.plot(grid, asymptote - sign * factor * grid**-exponent, "--", color=look.colour, linewidth=1.3)
    axes.plot(
        [size for size, _, _ in curve.points], [value for _, _, value in curve.points], look.marker,
        color=look.colour, markersize=3.5, alpha=0.5,
    )  # fmt: skip
    axes.plot(
        curve.sizes, curve.means, look.marker, color=look.colour, markersize=7, markeredgecolor="white",
        markeredgewidth=0.8, linestyle="none",
    )  # fmt: skip


def mark_crossings(
    axes: Axes, crossings: Sequence[Crossing], style_of: Mapping[str, Look], ends: tuple[int, int]
) -> None:
    """A bar for each crossing with its interval, below the data, in the colour of the system that overtakes; intervals
    without an end reach to the smallest or largest size, the ``ends``."""
    low, high = axes.get_ylim()
    step = 0.1 * (high - low)
    left, right = ends
    for place, crossing in enumerate(crossings):
        y = low - (place + 0.35) * step
        colour = style_of[crossing.system].colour
        ends = crossing.low or left, crossing.high or right
        for start, end in crossing.undecided:
            axes.hlines(y, start or left, end or right, color=colour, linewidth=4, alpha=0.35)
        for end, known, marker in zip(ends, (crossing.low, crossing.high), "<>", strict=True):
            if known is None:  # the interval extends beyond the measured sizes
                axes.plot(end, y, marker, color=colour, markersize=6)
        axes.plot(crossing.size, y, "|", color=colour, markersize=11, markeredgewidth=2.5)
        text = f"{short(crossing.system)} overtakes {short(crossing.other)}: {number(crossing.size)}"
        in_right_half = np.log(crossing.size / left) > 0.5 * np.log(right / left)
        beside = crossing.low if in_right_half else crossing.high  # keeps the text inside the panel
        if beside and abs(np.log(beside / (left if in_right_half else right))) < _WIDE * np.log(right / left):
            beside = None
        # above an interval that is long or without an end, whose bar is where the text would be
        axes.annotate(
            text, (beside or crossing.size, y), xytext=(-7 if in_right_half else 7, 0 if beside else 8),
            textcoords="offset points", va="center", ha="right" if in_right_half else "left", fontsize=9, color=FAINT,
        )  # fmt: skip
    if crossings:
        axes.set_ylim(low - (len(crossings) + 0.1) * step, high)


def size_axis(axes: Axes, sizes: Sequence[int]) -> None:
    """The sizes on a logarithmic axis, from the largest on; one close to the last numbered one has no number."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_minor_locator(NullLocator())
    span, numbered = sizes[-1] / sizes[0], [sizes[-1]]
    for size in reversed(sizes):
        if numbered[-1] / size > span**_CLOSE:
            numbered.append(size)
    axes.set_xticklabels([plain(size) if size in numbered else "" for size in sizes])
    if len(sizes) > 1:
        margin = span**0.04
        axes.set_xlim(sizes[0] / margin, sizes[-1] * margin)
