"""Feature importances of a baseline: a table per tag, and a plot of the most important ones."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np

from musictag.common.files import atomic_write
from musictag.common.plotting import BLUE, FAINT, GREEN, STYLE, new_figure, save_figure
from musictag.data.features.descriptors import feature_family, feature_names
from musictag.inference.song_features import Descriptors

if TYPE_CHECKING:
    from musictag.inference.feature_tagger import FeatureTagger

IMPORTANCE_COLUMNS = ("tag", "feature", "share")
_SHOWN_FEATURES = 25


def write_importances(tagger: FeatureTagger, run_dir: Path) -> list[tuple[str, str, float]]:
    """Write importances.csv and importances.png into ``run_dir``; returns the rows of the former.

    One row per tag and feature with an importance above 0, the most important feature first: its share of the gain of
    the trees, or of the absolute weights on standardised features.
    """
    shares = np.array([tag["importances"] for tag in tagger.fitted])
    rows = importance_rows(tagger.tag_names, tagger.features.names, shares)
    with atomic_write(run_dir / "importances.csv", "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(IMPORTANCE_COLUMNS)
        writer.writerows((tag, feature, f"{share:.6g}") for tag, feature, share in rows)
    if isinstance(tagger.features, Descriptors):  # those of a network have numbers, and nothing to say
        plot_importances(shares, run_dir / "importances.png")
    return rows


def importance_rows(tags: Sequence[str], names: Sequence[str], shares: np.ndarray) -> list[tuple[str, str, float]]:
    """(tag, feature, share), tag by tag, largest share first; ``names`` of the D features, ``shares`` is K×D."""
    return [
        (tag, names[i], float(of_tag[i]))
        for tag, of_tag in zip(tags, shares, strict=True)
        for i in np.argsort(-of_tag, kind="stable").tolist()
        if of_tag[i] > 0
    ]


def plot_importances(shares: np.ndarray, path: str | Path) -> None:
    """Write a PNG: importances of the most important features, and of groups of features; means over the tags.

    ``shares`` is K×D.
    """
    names, mean = feature_names(), shares.mean(axis=0)
    top = np.argsort(-mean, kind="stable")[:_SHOWN_FEATURES]
    families: dict[str, float] = {}
    for name, share in zip(names, mean.tolist(), strict=True):
        families[feature_family(name)] = families.get(feature_family(name), 0.0) + share
    ordered = sorted(families.items(), key=lambda item: -item[1])
    with matplotlib.rc_context(STYLE):
        figure = new_figure(10, 5.6)
        left, right = figure.subplots(1, 2)
        for axes, labels, values, color, title in (
            (left, [names[i] for i in top], mean[top], BLUE, f"The {len(top)} features that count most"),
            (right, [name for name, _ in ordered], [share for _, share in ordered], GREEN, "By what they describe"),
        ):
            places = range(len(labels))
            axes.barh(places, np.multiply(values, 100), height=0.72, color=color)
            axes.set_yticks(places, labels)
            axes.set_ylim(len(labels) - 0.4, -0.6)
            axes.tick_params(axis="y", length=0)
            axes.grid(True, axis="x")
            axes.set_title(title)
            axes.set_xlabel(f"% of all importance, mean over {len(shares)} tags", color=FAINT)
        save_figure(figure, path)
