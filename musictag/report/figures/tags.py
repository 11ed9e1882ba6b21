"""The figure of the tags: their scores, and what one system gains over another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from musictag.common.plotting import new_figure
from musictag.evaluation.metrics import METRICS
from musictag.report.figures.panels import WIDTH, legend, limit_to, looks, metric_title, save, style
from musictag.report.statistics.paired_tests import Change, TagGain
from musictag.report.study import Study
from musictag.report.wording import SIZE, setting, short

#: What can be read at the width of a page; whatever is more is in the tables.
_MOST_TAGS = 50
_MOST_SYSTEMS = 4  # beside each other for every tag


def tag_gain_figure(study: Study, gains: Sequence[TagGain], path: Path) -> None:
    """Every tag: each system's score under the first (hollow) and the last condition, and differences of systems.

    The scores are PR-AUC if the tags have it, else of their first metric. The tags in which the first system of the
    first pair gains most are on top.
    """
    metric = "pr_auc" if any(gain.metric == "pr_auc" for gain in gains) else gains[0].metric
    shown = [gain for gain in gains if gain.metric == metric]
    sign = METRICS[metric].sign
    has_pair = bool(shown[0].system_gains)
    shown.sort(key=lambda gain: -sign * (_first_pair(gain)[1].value if has_pair else _last_mean(gain)))
    tags = len(shown)
    if tags > _MOST_TAGS:
        shown = shown[: _MOST_TAGS // 2] + shown[-_MOST_TAGS // 2 :]
    compared = {name for pair in shown[0].system_gains for name in pair}
    systems = [
        system for system in study.systems if len(study.systems) <= _MOST_SYSTEMS or system in compared
    ][:_MOST_SYSTEMS]  # fmt: skip
    with style():
        figure = new_figure(8.4 if has_pair else WIDTH, 0.24 * len(shown) + 1.9)
        panels = figure.subplots(
            1, 2 if has_pair else 1, sharey=True, squeeze=False, width_ratios=[3, 2][: 1 + has_pair]
        )[0]
        y = np.arange(len(shown))
        panels[0].set_yticks(y, [short(gain.tag) for gain in shown], fontsize=9.5)
        panels[0].set_ylim(len(shown) - 0.4, -0.6)
        has_sizes = any(gain.size_gains for gain in shown)
        every = {system: look for system, look in looks(study).items() if system in systems}
        for place, (system, look) in enumerate(every.items()):
            at = y + 0.5 * ((place + 0.5) / len(every) - 0.5)
            first, last = (_column([gain.scores[system][end] for gain in shown]) for end in (0, 1))
            if has_sizes:
                panels[0].hlines(at, first, last, color=look.colour, linewidth=1.0, alpha=0.6)
                panels[0].plot(first, at, look.marker, color=look.colour, markerfacecolor="white", markersize=3.8)
            panels[0].plot(last, at, look.marker, color=look.colour, markersize=4.6)
        panels[0].set_title(metric_title(metric))
        if has_sizes:
            panels[0].set_xlabel("hollow: fewest training songs, filled: most" if study.factors == [SIZE]
                                 else f"hollow: {_words(study, 0)}\nfilled: {_words(study, -1)}")  # fmt: skip
        if has_pair:
            _differences(panels[1], shown, metric)
        if tags > len(shown):
            panels[0].set_title(f"{metric_title(metric)}: {len(shown)} of {tags} tags, from both ends")
        for axes in panels:
            axes.grid(True, axis="both")
            axes.tick_params(axis="y", length=0)
            axes.xaxis.set_major_locator(MaxNLocator(5))
        legend(figure, study, systems=systems)
        save(figure, path)


def _differences(axes: Axes, shown: Sequence[TagGain], metric: str) -> None:
    """The first pair's gains; those that are significant after correction are dark."""
    (system, other), _ = _first_pair(shown[0])
    changes = [_first_pair(gain)[1] for gain in shown]
    for y, change in enumerate(changes):
        ink = "#2b2b2b" if change.p_adjusted < 0.05 else "#a8a8a8"
        axes.hlines(y, change.low, change.high, color=ink, linewidth=1.4)
        axes.plot(change.value, y, "o", color=ink, markersize=4)
    axes.axvline(0, color="#2b2b2b", linewidth=0.9)
    limit_to(axes, "x", [0.0, *(change.value for change in changes)])
    axes.set_title("Difference", loc="left")
    side = "right" if METRICS[metric].better == "max" else "left"
    axes.set_xlabel(f"{short(system)}\nminus {short(other)}\n({side} of 0: the first is better)")


def _first_pair(gain: TagGain) -> tuple[tuple[str, str], Change]:
    return next(iter(gain.system_gains.items()))


def _last_mean(gain: TagGain) -> float:
    return float(np.mean([last for _, last in gain.scores.values() if last is not None]))


def _column(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values])


def _words(study: Study, place: int) -> str:
    return short(setting(study.factors, study.full_conditions[place]), 60)
