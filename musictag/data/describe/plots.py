"""Plots of a data set: how frequent its tags are in each split, and which occur together."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.ticker import FuncFormatter

from musictag.common.plotting import BLUE, FAINT, GREEN, ORANGE, STYLE, new_figure, save_figure, shortened
from musictag.data.describe.statistics import Description, TagShares, Together
from musictag.data.manifest import SPLITS

_MOST_TAGS = 60
_COLORS = dict(zip(SPLITS, (BLUE, ORANGE, GREEN), strict=True))
_MARKS = dict(zip(SPLITS, ("s", "o", "D"), strict=True))
_ROW_INCHES = 0.19
_DOUBLINGS = 3
_FEWEST_SONGS = 3


def plot_prevalence(description: Description, path: str | Path) -> None:
    """Write a PNG of the tags, most frequent first: prevalence in training as bars, in the other splits as marks;
    below, means and standard deviations of regression tags. Shows at most 60 tags per kind."""
    by_kind = {kind: [tag for tag in description.tags if tag.kind == kind] for kind in ("classification", "regression")}
    ranked = sorted(by_kind["classification"], key=lambda tag: -np.nan_to_num(tag.mean["all"], nan=-1.0))
    measured = by_kind["regression"]
    parts = [part[:_MOST_TAGS] for part in (ranked, measured) if part]
    inches = [_ROW_INCHES * max(len(part), 3) + 0.9 for part in parts]
    with matplotlib.rc_context(STYLE):
        figure = new_figure(8.5, sum(inches) + 0.2)
        panels = iter(figure.subplots(len(parts), 1, squeeze=False, height_ratios=inches)[:, 0])
        if ranked:
            _draw_prevalence(next(panels), ranked[:_MOST_TAGS], _title("prevalence", ranked, "most frequent"))
        if measured:
            _draw_means(next(panels), measured[:_MOST_TAGS], _title("mean and standard deviation", measured, "first"))
        save_figure(figure, path)


def plot_together(description: Description, path: str | Path) -> bool:
    """Write a PNG of how much more often than by chance two classification tags occur together, with related tags side
    by side; shows the 60 most frequent tags. Returns whether there is a plot, which takes two tags."""
    together = description.together
    songs = np.diag(together.songs)
    chosen = np.argsort(-songs, kind="stable")[:_MOST_TAGS]
    chosen = chosen[songs[chosen] > 0]
    if len(chosen) < 2:
        return False
    chosen = chosen[_similar_side_by_side(together.jaccard[np.ix_(chosen, chosen)])]
    names = [shortened(together.tags[number]) for number in chosen]
    with matplotlib.rc_context(STYLE):
        side = _ROW_INCHES * max(len(chosen), 12)
        figure = new_figure(side + 3.4, side + 2.2)
        axes = figure.add_subplot()
        colors = matplotlib.colormaps["RdBu_r"].with_extremes(bad="#d4d4d4")
        limits = TwoSlopeNorm(0, -_DOUBLINGS, _DOUBLINGS)
        image = axes.imshow(_doublings(together, chosen), cmap=colors, norm=limits, interpolation="nearest")
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(length=0, labelsize=8)
        axes.spines[:].set_visible(False)
        axes.set_xticks(np.arange(len(names)) - 0.5, minor=True)
        axes.set_yticks(np.arange(len(names)) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=0.6)
        axes.tick_params(which="minor", length=0)
        more = (
            f", the {len(names)} most frequent of {len(together.tags)} tags" if len(names) < len(together.tags) else ""
        )
        axes.set_title(f"{description.name}: songs with both tags{more}", fontsize=9.5)
        bar = figure.colorbar(image, ax=axes, shrink=min(1, 2.4 / side), aspect=14, pad=0.02)
        bar.set_ticks([-_DOUBLINGS, -1, 0, 1, _DOUBLINGS])
        bar.set_ticklabels(
            ["8 times rarer,\nor never", "half as often", "as by chance", "twice as often", "8 times or more"]
        )
        bar.outline.set_visible(False)
        axes.set_xlabel("grey: too rare to tell, or the diagonal", color=FAINT)
        save_figure(figure, path)
    return True


def _draw_prevalence(axes: Axes, tags: list[TagShares], title: str) -> None:
    rows = np.arange(len(tags))
    _rows(axes, tags, title)
    axes.barh(rows, [tag.mean["train"] for tag in tags], height=0.72, color=_COLORS["train"], alpha=0.45, label="train")
    for split in SPLITS[1:]:
        axes.plot(
            [tag.mean[split] for tag in tags], rows, _MARKS[split], color=_COLORS[split], label=split,
            markersize=4.2, markeredgecolor="white", markeredgewidth=0.5, clip_on=False,
        )  # fmt: skip
    furthest = np.nanmax([[tag.mean[split] for split in SPLITS] for tag in tags], initial=0)
    axes.set_xlim(0, max(furthest, 1e-3) * 1.12)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.3g}%"))
    for row, tag in zip(rows, tags, strict=True):
        axes.annotate(
            f"{tag.mean['all']:.1%}", (1, row), xycoords=("axes fraction", "data"), ha="right", va="center",
            fontsize=7.5, color=FAINT,
        )  # fmt: skip
    axes.set_xlabel("share of songs with the tag, where known; numbers: all splits", color=FAINT)
    _legend(axes)


def _draw_means(axes: Axes, tags: list[TagShares], title: str) -> None:
    rows = np.arange(len(tags))
    _rows(axes, tags, title)
    for split, shift in zip(SPLITS, (-0.24, 0, 0.24), strict=True):
        axes.errorbar(
            [tag.mean[split] for tag in tags], rows + shift, xerr=[tag.deviation[split] for tag in tags],
            fmt=_MARKS[split], color=_COLORS[split], label=split, markersize=3.4, elinewidth=1, alpha=0.9,
        )  # fmt: skip
    axes.set_xlim(0, 1)
    _legend(axes)


def _rows(axes: Axes, tags: list[TagShares], title: str) -> None:
    axes.set_title(title)
    axes.set_yticks(range(len(tags)), [shortened(tag.name) for tag in tags])
    axes.set_ylim(max(len(tags), 3) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x")


def _legend(axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    in_order = [handles[labels.index(split)] for split in SPLITS]
    axes.legend(
        in_order, SPLITS, frameon=False, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.1, ncols=len(SPLITS)
    )


def _title(what: str, tags: list[TagShares], which: str) -> str:
    return f"{what}: the {which} {_MOST_TAGS} of {len(tags)} tags" if len(tags) > _MOST_TAGS else what


def _doublings(together: Together, chosen: np.ndarray) -> np.ndarray:
    """How often two tags occur together, as log2 of the ratio to chance; NaN if there is too little data."""
    songs, expected = together.songs[np.ix_(chosen, chosen)], together.expected[np.ix_(chosen, chosen)]
    with np.errstate(divide="ignore", invalid="ignore"):
        powers = np.log2(songs / expected)
    # one or two songs, where at most one was expected, are not significant
    powers[np.maximum(songs, expected) < _FEWEST_SONGS] = np.nan
    np.fill_diagonal(powers, np.nan)
    return np.clip(powers, -_DOUBLINGS, _DOUBLINGS)


def _similar_side_by_side(similarity: np.ndarray) -> np.ndarray:
    """An order that places similar rows side by side: by the second eigenvector of the graph Laplacian (Fiedler)."""
    weights = similarity - np.diag(np.diag(similarity)) + 1e-6  # connected even if some have nothing in common
    scale = 1 / np.sqrt(weights.sum(axis=1))
    _, vectors = np.linalg.eigh(np.eye(len(weights)) - weights * np.outer(scale, scale))
    order = np.argsort(vectors[:, 1] * scale, kind="stable")
    # the sign of an eigenvector is arbitrary
    return order if order[0] < order[-1] else order[::-1]
