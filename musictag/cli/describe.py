"""`musictag data describe`: a data set as tables in the terminal and as figures."""

from __future__ import annotations

import argparse
import math
import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from musictag.common.errors import MusictagError
from musictag.common.paths import path_argument

if TYPE_CHECKING:
    from musictag.data.describe.statistics import Description, TagShares


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `musictag data describe`."""
    parser.description = (
        "Describe a data set: musictag data describe catalogue.csv, or with the overrides of train.py: "
        "musictag data describe data=jamendo data.root=FOLDER."
    )
    parser.add_argument(
        "overrides", nargs="+", metavar="CATALOGUE | KEY=VALUE", help="a table, or data=... and its keys"
    )
    parser.add_argument(
        "--out", type=path_argument, metavar="FOLDER", help="where to write the figures (default: describe-<name>)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Describe the catalogue, or the data set of the overrides; returns the exit status.

    A catalogue without a ``split`` column is split here as it would be for training. Raises MusictagError for bad
    input.
    """
    from musictag.data.describe.plots import plot_prevalence, plot_together
    from musictag.data.describe.statistics import describe, song_seconds
    from musictag.experiment.builders import build_source
    from musictag.experiment.compose import configuration
    from musictag.experiment.identity import check_keys

    config = configuration(arguments.overrides)
    check_keys(config)
    source = build_source(config)
    every = source.manifest()
    manifest = every.labelled()
    seconds, where = song_seconds(source, manifest, config["data_dir"])
    if len(every) > len(manifest):
        where += f"; {len(every) - len(manifest):,} unlabelled songs are not described"
    description = describe(manifest, seconds)
    folder = Path(arguments.out or f"describe-{source.name}")
    try:
        plot_prevalence(description, folder / "prevalence.png")
        drawn = plot_together(description, folder / "together.png")
    except OSError as error:
        raise MusictagError(f"cannot write to {folder}: {error.strerror}; choose another folder with --out") from error
    _print(description, where)
    together = (
        f", {folder / 'together.png'}"
        if drawn
        else "; no figure of co-occurrence, because fewer than two tags have songs"
    )
    print(f"figures: {folder / 'prevalence.png'}{together}")
    return 0


def _print(description: Description, where: str) -> None:
    console = Console()

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    console.print(_split_table(description))
    say(where + (f"; unknown for {description.unknown_length:,} songs" if description.unknown_length else ""))
    if description.groups["all"]:
        say(_about_groups(description))
    console.print(_tag_table(description))
    counts = description.tags_per_song
    if description.together.tags:
        middle = statistics.median(counts.tolist())
        say(
            f"classification tags per song: mean {counts.mean():.1f}, median {middle:g}, "
            f"maximum {counts.max()}; {int((counts == 0).sum()):,} songs have none"
        )
    if pairs := description.together.strongest():
        console.print(_pair_table(pairs))


def _split_table(description: Description) -> Table:
    from musictag.data.describe.statistics import PARTS
    from musictag.data.manifest import SPLITS

    table = Table(title=escape(description.name), title_justify="left")
    for heading in ("split", "songs", "hours", *(["groups"] if description.groups["all"] else [])):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    for part in PARTS:
        known = description.hours[part] > 0
        cells = [part, f"{description.songs[part]:,}", _hours(description.hours[part]) if known else "unknown"]
        if description.groups["all"]:
            cells.append(f"{description.groups[part]:,}")
        table.add_row(*cells, end_section=part == SPLITS[-1])
    return table


def _about_groups(description: Description) -> str:
    without = description.songs_without_group
    text = f"{without:,} songs have no group; " if without else ""
    shared = description.shared_groups
    if not shared:
        return f"{text}no group appears in two splits"
    exposed = " and ".join(f"{count:,} songs of {split}" for split, count in description.exposed.items())
    return (
        f"{text}{len(shared):,} groups appear in more than one split, such as {', '.join(shared[:3])}: "
        f"{exposed} belong to groups of the training split"
    )


def _tag_table(description: Description) -> Table:
    from musictag.data.describe.statistics import PARTS

    table = Table(title="Tags: share of the songs for which the tag is known, or mean ± standard deviation")
    table.title_justify = "left"
    table.add_column("tag", overflow="fold")
    for heading in ("unknown", *PARTS):
        table.add_column(heading, justify="right")
    classes = [tag for tag in description.tags if tag.kind == "classification"]
    ranked = sorted(classes, key=lambda tag: 1.0 if math.isnan(tag.mean["all"]) else -tag.mean["all"])
    for tag in [*ranked, *(tag for tag in description.tags if tag.kind == "regression")]:
        last_class = bool(ranked) and tag is ranked[-1]
        unknown = _percent(tag.unknown) if tag.unknown else ""
        table.add_row(escape(tag.name), unknown, *(_share(tag, part) for part in PARTS), end_section=last_class)
    return table


def _pair_table(pairs: list[tuple[str, str, int, float, float]]) -> Table:
    table = Table(title="Tags that occur together most often")
    table.title_justify = "left"
    table.caption = "Jaccard: songs with both tags among those with either; lift: how many times as often as by chance"
    table.caption_justify = "left"
    table.add_column("tag", overflow="fold")
    table.add_column("with", overflow="fold")
    for heading in ("songs", "Jaccard", "lift"):
        table.add_column(heading, justify="right")
    for first, second, songs, jaccard, lift in pairs:
        table.add_row(escape(first), escape(second), f"{songs:,}", f"{jaccard:.2f}", f"{lift:.1f}")
    return table


def _share(tag: TagShares, part: str) -> str:
    mean = tag.mean[part]
    if math.isnan(mean):
        return "-"
    return _percent(mean) if tag.kind == "classification" else f"{mean:.2f} ± {tag.deviation[part]:.2f}"


def _hours(hours: float) -> str:
    return f"{hours:,.1f}" if hours >= 1 else f"{hours:.3f}"


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.01 or not share else f"{share:.2%}"
