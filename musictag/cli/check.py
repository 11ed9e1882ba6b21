"""`musictag data check`: everything that is wrong with a catalogue."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from musictag.common.paths import path_argument
from musictag.common.text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What stands after `musictag data check`."""
    parser.description = (
        "Read a catalogue and look at every file that it names; print all errors and warnings with their "
        "rows. The exit status is 1 where there is an error. Nothing is written or decoded."
    )
    parser.add_argument("catalogue", type=path_argument, metavar="CATALOGUE", help="a .csv, .tsv or .parquet table")
    parser.add_argument(
        "--root", type=path_argument, metavar="FOLDER", help="that the paths start from (default: the table's folder)"
    )
    parser.add_argument(
        "--tags",
        nargs="+",
        metavar="TAG",
        help="the tag columns (default: all others); TAG=regression decides its kind",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print what is wrong; returns the exit status. Raises MusictagError for a table that cannot be read."""
    from musictag.data.catalogue.check import check

    report = check(arguments.catalogue, arguments.root, _kinds_by_tag(arguments.tags))
    # not through rich: paths and tags are no markup, and a row should stay one line
    print(printable(report))
    return 1 if report.errors else 0


def _kinds_by_tag(words: Sequence[str] | None) -> dict[str, str | None] | None:
    """``TAG`` and ``TAG=KIND`` as a mapping; None where no tags are chosen."""
    from musictag.data.manifest import KINDS

    if words is None:
        return None
    pairs = (word.rpartition("=") for word in words)
    return dict((tag, kind) if kind in KINDS and tag else (f"{tag}{mark}{kind}", None) for tag, mark, kind in pairs)
