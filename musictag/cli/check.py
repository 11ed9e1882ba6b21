"""`musictag data check`: all errors and warnings in a catalogue."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from musictag.common.paths import path_argument
from musictag.common.text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `musictag data check`."""
    parser.description = (
        "Read a catalogue and inspect every file that it names; print all errors and warnings with their "
        "rows. The exit status is 1 if there is an error. Nothing is written or decoded."
    )
    parser.add_argument("catalogue", type=path_argument, metavar="CATALOGUE", help="a .csv, .tsv or .parquet table")
    parser.add_argument(
        "--root",
        type=path_argument,
        metavar="FOLDER",
        help="folder that the paths are relative to (default: the table's)",
    )
    parser.add_argument(
        "--tags",
        nargs="+",
        metavar="TAG",
        help="the tag columns (default: all others); TAG=regression sets the kind of a tag",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print errors and warnings; returns the exit status. Raises MusictagError for a table that cannot be read."""
    from musictag.data.catalogue.check import check

    report = check(arguments.catalogue, arguments.root, _kinds_by_tag(arguments.tags))
    # not through rich: paths and tags are not markup, and a row should stay on one line
    print(printable(report))
    return 1 if report.errors else 0


def _kinds_by_tag(words: Sequence[str] | None) -> dict[str, str | None] | None:
    """``TAG`` and ``TAG=KIND`` as a mapping; None if no tags were chosen."""
    from musictag.data.manifest import KINDS

    if words is None:
        return None
    pairs = (word.rpartition("=") for word in words)
    return dict((tag, kind) if kind in KINDS and tag else (f"{tag}{mark}{kind}", None) for tag, mark, kind in pairs)
