"""Plots of one run, drawn from its metrics and history alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from musictag.common.plotting import (
    _INK,
    _RED,
    BLUE,
    FAINT,
    GREEN,
    ORANGE,
    STYLE,
    new_figure,
    save_figure,
    shortened,
)
from musictag.evaluation.metrics import headlines
from musictag.evaluation.tables import _mean_of, _relative_error, _scored, _summary


def plot_tags(metrics: dict[str, Any], path: str | Path) -> None:
    """Write a PNG of all scored tags, best ROC-AUC first: ROC-AUC from chance, PR-AUC next to its chance level.

    ``metrics`` is what ``musictag.evaluation.song_metrics.song_metrics`` returns. Regression tags follow below, sorted
    by their error relative to that of always predicting the mean. The height of the figure grows with the number of
    tags.
    """
    ranked = sorted(_scored(metrics, "roc_auc"), key=lambda tag: -tag["roc_auc"])
    measured = sorted(_scored(metrics, "rmse"), key=_relative_error)
    parts = [part for part in (ranked, measured) if part]
    inches = [0.19 * len(part) + 0.95 for part in parts] or [0.3]
    with matplotlib.rc_context(STYLE):
        figure = new_figure(10, sum(inches) + 0.4)
        figure.suptitle(_summary(metrics), x=0.01, ha="left", fontsize=9, color=FAINT)
        grid = figure.add_gridspec(len(inches), 2, height_ratios=inches if parts else None)
        if ranked:
            left, right = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1])
            _bars_from_chance(left, ranked, "roc_auc", BLUE)
            left.set_title(f"ROC-AUC   {_mean_of(metrics['roc_auc'])}")
            left.set_xlabel("line: chance", color=FAINT)
            _bars_with_marks(right, ranked, "pr_auc", "prevalence", ORANGE)
            right.set_title(f"PR-AUC   {_mean_of(metrics['pr_auc'])}")
            right.set_xlabel("mark: chance (the tag's prevalence)", color=FAINT)
            right.tick_params(axis="y", labelleft=False)
        if measured:
            below = figure.add_subplot(grid[-1, :])
            _bars_with_marks(below, measured, "rmse", "rmse_of_mean", GREEN)
            below.set_title(f"RMSE   {_mean_of(metrics['rmse'])}")
            below.set_xlabel("mark: error of always predicting the tag's mean", color=FAINT)
        save_figure(figure, path)


def plot_curves(history: Sequence[dict[str, Any]], path: str | Path, best_epoch: int | None = None) -> None:
    """Write a PNG of losses, validation scores and learning rate over the epochs, the best epoch marked.

    ``history`` has one row per epoch: ``epoch`` (from 0; shown from 1), ``train_loss``, ``val_loss``, ``val_<key>`` of
    the headline metrics, ``learning_rate``. A value may be missing or None; scores without any value get no panel.
    Raises ValueError for an empty history.
    """
    if not history:
        raise ValueError("a history without epochs cannot be plotted")
    epochs = np.array([row["epoch"] for row in history]) + 1
    curves = {
        "Loss": {"training": ("train_loss", BLUE), "validation": ("val_loss", ORANGE)},
        **{metric.label: {"validation": (f"val_{metric.key}", ORANGE)} for metric in headlines()},
        "Learning rate": {"learning rate": ("learning_rate", FAINT)},
    }
    values = {key: _column(history, key) for panel in curves.values() for key, _ in panel.values()}
    panels = {
        title: panel
        for title, panel in curves.items()
        if any(np.isfinite(values[key]).any() for key, _ in panel.values())
    }
    heights = [2.2 if title == "Loss" else 0.9 if title == "Learning rate" else 1.5 for title in panels]
    with matplotlib.rc_context(STYLE):
        figure = new_figure(8, sum(heights) + 0.6)
        grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (title, panel) in zip(grid, panels.items(), strict=True):
            axes.set_title(title)
            axes.grid(True)
            for label, (key, color) in panel.items():
                known = np.isfinite(values[key])
                axes.plot(
                    epochs[known], values[key][known], color=color, label=label, linewidth=1.6,
                    marker="o", markersize=3.5 if len(epochs) <= 40 else 0, clip_on=False,
                )  # fmt: skip
            if len(panel) > 1:
                axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.1, ncols=2)
            if title == "Learning rate" and (values["learning_rate"] > 0).all():
                _log_scale(axes, values["learning_rate"])
            elif best_epoch is not None:
                _write_best(axes, epochs, values[next(reversed(panel.values()))[0]], best_epoch + 1)
            if best_epoch is not None:
                axes.axvline(best_epoch + 1, color=_INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        grid[-1].set_xlabel("epoch")
        grid[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        grid[-1].set_xlim(min(epochs[0], 1) - 0.4, epochs[-1] + 0.4)
        save_figure(figure, path)


def _bars_from_chance(axes: Axes, tags: list[dict[str, Any]], key: str, color: str) -> None:
    # A bar shows the difference from chance; it points left for a tag that is predicted worse than that.
    values = np.array([tag[key] for tag in tags])
    _rows(axes, tags)
    axes.barh(range(len(tags)), values - 0.5, left=0.5, height=0.72, color=np.where(values < 0.5, _RED, color))
    axes.axvline(0.5, color=_INK, linewidth=0.9)
    axes.set_xlim(values.min() - 0.1 if values.min() < 0.5 else 0.48, 1.06)
    for row, value in enumerate(values):
        _write(axes, row, value, f"{value:.2f}", left=value < 0.5)


def _bars_with_marks(axes: Axes, tags: list[dict[str, Any]], key: str, mark: str, color: str) -> None:
    values, marks = np.array([tag[key] for tag in tags]), np.array([tag[mark] for tag in tags])
    rows = np.arange(len(tags))
    _rows(axes, tags)
    axes.barh(rows, values, height=0.72, color=color)
    for width, ink in ((3.2, "white"), (1.4, _INK)):
        axes.vlines(marks, rows - 0.42, rows + 0.42, color=ink, linewidth=width)
    furthest = max(values.max(), marks.max(), 1e-3)
    axes.set_xlim(0, furthest * 1.1)
    # A number that would overlap the mark goes to the right of it.
    hidden = (values <= marks) & (marks < values + 0.09 * furthest)
    for row, at, value in zip(rows, np.where(hidden, marks, values), values, strict=True):
        _write(axes, row, at, f"{value:.2f}")


def _rows(axes: Axes, tags: list[dict[str, Any]]) -> None:
    names = [tag["name"] for tag in tags]
    axes.set_yticks(range(len(names)), map(shortened, names))
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labeltop=len(names) > 40)
    axes.grid(True, axis="x")


def _write(axes: Axes, row: int, at: float, text: str, left: bool = False) -> None:
    axes.annotate(
        text, (at, row), xytext=(-3 if left else 3, 0), textcoords="offset points",
        va="center", ha="right" if left else "left", fontsize=7.5, color=FAINT,
    )  # fmt: skip


def _column(history: Sequence[dict[str, Any]], key: str) -> np.ndarray:
    return np.array([np.nan if row.get(key) is None else row[key] for row in history], dtype=np.float64)


def _log_scale(axes: Axes, values: np.ndarray) -> None:
    axes.set_yscale("log")
    axes.set_ylim(values.min() / 1.6, values.max() * 1.6)
    axes.set_yticks(sorted({values.min(), values.max()}))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _write_best(axes: Axes, epochs: np.ndarray, values: np.ndarray, best: int) -> None:
    at = np.flatnonzero(epochs == best)
    if len(at) and np.isfinite(values[at[0]]):
        axes.plot(best, values[at[0]], "o", color=_INK, markerfacecolor="none", markersize=8, zorder=4)
        axes.set_title(f"{axes.get_title(loc='left')}   {values[at[0]]:.3f} at the best epoch, {best}")
