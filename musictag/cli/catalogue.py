"""`musictag catalogue`: a catalogue made from labels in whatever form people have them."""

from __future__ import annotations

import argparse

from musictag.cli.parsing import positive
from musictag.common.paths import path_argument
from musictag.common.text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What stands after `musictag catalogue`."""
    parser.description = (
        "Make the table that training reads, one row per song and a column of 0 and 1 for each tag, from: "
        "a folder per genre; genre, mood or grouping inside the files; a table with genres as words, one or several in "
        "a cell or one row per tag; tracks.csv of FMA. Which of these it is, is seen from what is there. A song gets 0 "
        "for every tag that nothing gives it. Nothing is decoded, and no file is overwritten."
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
        help="the form of the labels: names of folders, tags inside files, a table, FMA (default: found out)",
    )
    parser.add_argument(
        "--min-songs", type=positive, default=3, metavar="N", help="leave out tags of fewer songs (default: 3)"
    )
    parser.add_argument(
        "--root",
        type=path_argument,
        metavar="FOLDER",
        help="that the paths in the catalogue start from (default: the catalogue's folder)",
    )
    parser.add_argument("--force", action="store_true", help="replace a file of that name")
    files = parser.add_argument_group("tags inside files")
    files.add_argument(
        "--fields", nargs="+", choices=("genre", "mood", "grouping"), default=(), help="which (default: genre)"
    )
    table = parser.add_argument_group("tables")
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
    fma = parser.add_argument_group("FMA")
    fma.add_argument("--subset", choices=("small", "medium", "large", "full"), help="only its songs")
    fma.add_argument("--genres", choices=("top", "all"), help="genre_top or genres_all (default: top)")


def run(arguments: argparse.Namespace) -> int:
    """Make the catalogue and print the report; returns the exit status. Raises MusictagError as ``make_catalogue``."""
    from musictag.data.catalogue.making.making import Options, make_catalogue

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
