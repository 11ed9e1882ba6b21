"""The commands of `musictag` on data sets: decode one, look for errors, describe it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from musictag.cli_studies import positive
from musictag.places import path_argument


def add_data_commands(commands: argparse._SubParsersAction) -> None:
    """catalogue, prepare and data."""
    _add_catalogue(commands)
    _add_prepare(commands)
    _add_data(commands)


def _add_catalogue(commands: argparse._SubParsersAction) -> None:
    catalogue = commands.add_parser(
        "catalogue",
        help="make a catalogue from labels in whatever form you have them",
        description="Make the table that training reads, one row per song and a column of 0 and 1 for each tag, from: "
        "a folder per genre; genre, mood or grouping inside the files; a table with genres as words, one or several in "
        "a cell or one row per tag; tracks.csv of FMA. Which of these it is, is seen from what is there. A song gets 0 "
        "for every tag that nothing gives it. Nothing is decoded, and no file is overwritten.",
    )
    catalogue.add_argument(
        "source", type=path_argument, metavar="PATH", help="a folder of songs, or a .csv, .tsv or .parquet table"
    )
    catalogue.add_argument(
        "-o",
        "--out",
        type=path_argument,
        default="catalogue.csv",
        metavar="FILE",
        help=".csv (default: catalogue.csv), .tsv or .parquet",
    )
    catalogue.add_argument(
        "--from",
        dest="form",
        choices=("folders", "files", "table", "fma"),
        help="the form of the labels: names of folders, tags inside files, a table, FMA (default: found out)",
    )
    catalogue.add_argument(
        "--min-songs", type=positive, default=3, metavar="N", help="leave out tags of fewer songs (default: 3)"
    )
    catalogue.add_argument(
        "--root",
        type=path_argument,
        metavar="FOLDER",
        help="that the paths in the catalogue start from (default: the catalogue's folder)",
    )
    catalogue.add_argument("--force", action="store_true", help="replace a file of that name")
    files = catalogue.add_argument_group("tags inside files")
    files.add_argument(
        "--fields", nargs="+", choices=("genre", "mood", "grouping"), default=(), help="which (default: genre)"
    )
    table = catalogue.add_argument_group("tables")
    table.add_argument(
        "--audio",
        type=path_argument,
        metavar="FOLDER",
        help="that the paths in the table start from (default: the table's folder); of FMA: that holds 000, 001, ...",
    )
    table.add_argument("--path-column", metavar="NAME", help="that names the files (default: path, file, ...)")
    table.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="NAME",
        help="that holds tags, may be given several times (default: genre, tags, mood, ...)",
    )
    table.add_argument(
        "--separator",
        metavar="TEXT",
        help="between the tags of a cell, also inside files; none: a cell is one tag (default: found out)",
    )
    fma = catalogue.add_argument_group("FMA")
    fma.add_argument("--subset", choices=("small", "medium", "large", "full"), help="only its songs")
    fma.add_argument("--genres", choices=("top", "all"), help="genre_top or genres_all (default: top)")
    catalogue.set_defaults(run=_catalogue)


def _add_prepare(commands: argparse._SubParsersAction) -> None:
    prepare = commands.add_parser(
        "prepare",
        help="decode a data set now instead of at the first training",
        description="Decode the songs of a data set once, in parallel, as the first training with the same words "
        "would: musictag prepare catalogue.csv, musictag prepare data=jamendo data.root=FOLDER. Interrupted, the same "
        "command goes on.",
    )
    prepare.add_argument(
        "words", nargs="*", metavar="CATALOGUE | KEY=VALUE", help="a table, or as for train.py: data=... and its keys"
    )
    prepare.add_argument("--verify", action="store_true", help="also read what is there, and mend what is damaged")
    prepare.set_defaults(run=_prepare, kept="; the same command goes on with what is finished")


def _add_data(commands: argparse._SubParsersAction) -> None:
    data = commands.add_parser("data", help="look into a data set: check, describe")
    actions = data.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser(
        "check",
        help="everything that is wrong with a catalogue of your own",
        description="Read a catalogue and look at every file that it names; print all errors and warnings with their "
        "rows. The exit status is 1 where there is an error. Nothing is written or decoded.",
    )
    check.add_argument("catalogue", type=path_argument, metavar="CATALOGUE", help="a .csv, .tsv or .parquet table")
    check.add_argument(
        "--root", type=path_argument, metavar="FOLDER", help="that the paths start from (default: the table's folder)"
    )
    check.add_argument(
        "--tags",
        nargs="+",
        metavar="TAG",
        help="the tag columns (default: all others); TAG=regression decides its kind",
    )
    check.set_defaults(run=_check)
    describe = actions.add_parser(
        "describe",
        help="songs, hours, splits, tags and how they go together, as tables and pictures",
        description="Describe a data set: musictag data describe catalogue.csv, or with the words of train.py: "
        "musictag data describe data=jamendo data.root=FOLDER.",
    )
    describe.add_argument("words", nargs="+", metavar="CATALOGUE | KEY=VALUE", help="a table, or data=... and its keys")
    describe.add_argument(
        "--out", type=path_argument, metavar="FOLDER", help="for the pictures (default: describe-<name>)"
    )
    describe.set_defaults(run=_describe)


def _catalogue(options: argparse.Namespace) -> int:
    from musictag.data.cataloguing.making import Wishes, main

    wishes = Wishes(
        form=options.form,
        audio=options.audio,
        root=options.root,
        fields=options.fields,
        path_column=options.path_column,
        label_columns=options.column,
        separator=options.separator,
        subset=options.subset,
        genres=options.genres,
        min_songs=options.min_songs,
        force=options.force,
    )
    return main(options.source, options.out, wishes)


def _prepare(options: argparse.Namespace) -> int:
    from musictag import preparing

    return preparing.main(options.words, options.verify)


def _check(options: argparse.Namespace) -> int:
    from musictag.data.check import check
    from musictag.untrusted import printable

    report = check(options.catalogue, options.root, _kinds_by_tag(options.tags))
    # not through rich: paths and tags are no markup, and a row should stay one line
    print(printable(report))
    return 1 if report.errors else 0


def _describe(options: argparse.Namespace) -> int:
    from musictag.describing import main

    return main(options.words, options.out)


def _kinds_by_tag(words: Sequence[str] | None) -> dict[str, str | None] | None:
    """``TAG`` and ``TAG=KIND`` as a mapping; None where no tags are chosen."""
    from musictag.data.manifest import KINDS

    if words is None:
        return None
    pairs = (word.rpartition("=") for word in words)
    return dict((tag, kind) if kind in KINDS and tag else (f"{tag}{mark}{kind}", None) for tag, mark, kind in pairs)
