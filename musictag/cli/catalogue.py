"""`musictag catalogue`: build a catalogue from labels in any of several forms."""

from __future__ import annotations

import argparse

from musictag.cli.parsing import positive
from musictag.common.paths import path_argument
from musictag.common.text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `musictag catalogue`."""
    parser.description = (
        "Make the table that training reads, with one row per song and a column of 0 and 1 per tag, from: "
        "one folder per genre; genre, mood or grouping tags inside the files; a table with the genres as text, one or "
        "several per cell or one row per tag; tracks.csv of the FMA data set. The form is detected. A song gets 0 for "
        "every tag that it is not labelled with. Nothing is decoded, and no file is overwritten without --force."
    )
    parser.add_argument(
        "source", type=path_argument, metavar="PATH", help="a folder of songs, or a .csv, .tsv or .parquet table"
    )
    parser.add_argument(
        "-o",
        "--out",
        type=path_argument,
        default="catalogue.csv",
        metavar="FILE",
        help=".csv (default: catalogue.csv), .tsv or .parquet",
    )
    parser.add_argument(
        "--from",
        dest="form",
        choices=("folders", "files", "table", "fma"),
        help="the form of the labels: folder names, tags inside files, a table, FMA (default: detected)",
    )
    parser.add_argument(
        "--min-songs", type=positive, default=3, metavar="N", help="drop tags with fewer songs (default: 3)"
    )
    parser.add_argument(
        "--root",
        type=path_argument,
        metavar="FOLDER",
        help="folder that the paths in the catalogue are relative to (default: the catalogue's)",
    )
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")
    files = parser.add_argument_group("tags inside files")
    files.add_argument(
        "--fields",
        nargs="+",
        choices=("genre", "mood", "grouping"),
        default=(),
        help="which tags to read (default: genre)",
    )
    table = parser.add_argument_group("tables")
    table.add_argument(
        "--audio",
        type=path_argument,
        metavar="FOLDER",
        help="folder that the paths in the table are relative to (default: the table's); of FMA: that of 000, 001, ...",
    )
    table.add_argument("--path-column", metavar="NAME", help="column with the paths (default: path, file, ...)")
    table.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="NAME",
        help="column with tags, may be repeated (default: genre, tags, mood, ...)",
    )
    table.add_argument(
        "--separator",
        metavar="TEXT",
        help="separator of tags within a cell, also inside files; none: a cell is one tag (default: detected)",
    )
    fma = parser.add_argument_group("FMA")
    fma.add_argument("--subset", choices=("small", "medium", "large", "full"), help="only the songs of this subset")
    fma.add_argument("--genres", choices=("top", "all"), help="use genre_top or genres_all (default: top)")


def run(arguments: argparse.Namespace) -> int:
    """Make the catalogue and print the report; returns the exit status. Errors: see ``make_catalogue``."""
    from musictag.data.catalogue.making.make import Options, make_catalogue

    options = Options(
        form=arguments.form,
        audio=arguments.audio,
        root=arguments.root,
        fields=arguments.fields,
        path_column=arguments.path_column,
        label_columns=arguments.column,
        separator=arguments.separator,
        subset=arguments.subset,
        genres=arguments.genres,
        min_songs=arguments.min_songs,
        force=arguments.force,
    )
    print(printable(make_catalogue(arguments.source, arguments.out, options)))
    return 0
