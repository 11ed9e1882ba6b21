"""`musictag compare`: the finished runs of a study side by side, as a CSV file, a table and a figure."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from musictag.common.paths import path_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `musictag compare`."""
    parser.description = (
        "Compare the finished runs below a folder: a CSV file with one line per run, a table of the "
        "means over the seeds, and a figure of PR-AUC against parameters and speed."
    )
    parser.add_argument("runs", type=path_argument, metavar="FOLDER", help="folder of runs, such as runs/songbook")
    parser.add_argument("--study", metavar="NAME", help="only runs that were started with study=NAME")
    parser.add_argument(
        "--out",
        type=path_argument,
        metavar="FOLDER",
        default=".",
        help="where to write NAME.csv and NAME.png (default: here)",
    )
    parser.add_argument(
        "--measure",
        action="store_true",
        help="measure tagging speeds on this machine instead of using those of the runs",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the table and write ``<study>.csv`` and ``<study>.png``; returns the exit status.

    Raises MusictagError for runs that cannot be compared.
    """
    from musictag.report.comparison import measure, plot, read_rows, table, write_csv

    folder = Path(arguments.runs)
    rows = read_rows(folder, arguments.study)
    if arguments.measure:
        rows = measure(rows, folder)
    target = Path(arguments.out) / (arguments.study or "comparison")
    write_csv(rows, Path(f"{target}.csv"))
    Console().print(table(rows))
    print(f"{target}.csv  one line per run")
    if rows[0]["pr_auc"] is not None:
        plot(rows, Path(f"{target}.png"))
        print(f"{target}.png  PR-AUC against parameters and speed")
    return 0
