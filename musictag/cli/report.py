"""`musictag report`: the results of a study, from its finished runs alone."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from musictag.cli.parsing import positive
from musictag.common.errors import MusictagError
from musictag.common.paths import path_argument

if TYPE_CHECKING:
    from musictag.report.study import Study

DEFAULT_PROJECT = "musictag"  # as in conf/logger/wandb.yaml


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `musictag report`."""
    parser.description = (
        "Write the results of a study's finished runs: report.html (one page that opens offline, with songs "
        "to listen to), report.md, tables.tex, CSV files and figures. Nothing is trained or decoded."
    )
    parser.add_argument("runs", type=path_argument, metavar="FOLDER", help="folder of runs, such as runs/songbook")
    parser.add_argument("--study", metavar="NAME", help="which study, if there are several")
    parser.add_argument(
        "--out",
        type=path_argument,
        metavar="FOLDER",
        help="where to write the files (default: report-NAME in the folder of runs)",
    )
    parser.add_argument("--songs", type=positive, default=24, metavar="N", help="test songs on the page (default: 24)")
    parser.add_argument("--no-audio", action="store_true", help="leave out the audio excerpts")
    parser.add_argument(
        "--resamples",
        type=positive,
        default=1000,
        metavar="N",
        help="bootstrap resamples of the test songs, for the intervals (default: 1000)",
    )
    parser.add_argument("--compare", nargs=2, metavar=("SYSTEM", "OTHER"), help="test these two systems only")
    parser.add_argument(
        "--target",
        type=_target,
        action="append",
        default=[],
        metavar="METRIC=SCORE",
        help="say how many training songs a score needs, such as pr_auc=0.45; may be repeated for other metrics",
    )
    parser.add_argument("--wandb", action="store_true", help="also log it to Weights & Biases, as a run of the study")
    parser.add_argument("--wandb-workspace", action="store_true", help="also save a workspace there (online)")


def run(arguments: argparse.Namespace) -> int:
    """Write the report of a study and print where it is, with its main findings; returns the exit status.

    Raises MusictagError if there is nothing to report, or more than one study to choose from.
    """
    from musictag.report.build import make_report
    from musictag.report.study import read_study
    from musictag.report.wandb.log import log_report
    from musictag.report.wandb.workspace import check_workspaces, save_workspace

    if arguments.wandb_workspace:
        check_workspaces()
    folder, study = Path(arguments.runs), arguments.study
    found = read_study(folder, study if study is not None else _only_study(folder))
    target = Path(arguments.out) if arguments.out else folder / f"report-{found.name or 'runs'}"
    try:
        report = make_report(
            found,
            target,
            songs=arguments.songs,
            audio=not arguments.no_audio,
            resamples=arguments.resamples,
            pair=tuple(arguments.compare) if arguments.compare else None,
            targets=dict(arguments.target),
            command=shlex.join(["musictag", "report", str(folder), *(["--study", found.name] if found.name else [])]),
        )
    except OSError as error:
        raise MusictagError(f"cannot write to {target}: {error.strerror}; choose another folder with --out") from error
    for sentence in report.answers:
        print(sentence)
    for problem in found.problems:
        print(f"incomplete: {problem}")
    print(f"\n{target / 'report.html'}  everything on one page\n{target / 'report.md'}  and tables.tex, *.csv, figures")
    if arguments.wandb:
        log_report(report, *_wandb_place(found))
    if arguments.wandb_workspace:
        for address in save_workspace(report, *_wandb_place(found)):
            print(address)
    return 0


def _target(text: str) -> tuple[str, float]:
    metric, _, score = text.partition("=")
    try:
        return metric, float(score)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a metric and a score, such as pr_auc=0.45") from None


def _only_study(folder: Path) -> str | None:
    from musictag.report.page.summary import list_studies
    from musictag.report.study import find_runs

    names = {run.metrics["study"] for run in find_runs(folder)}
    if len(names) > 1:
        listed = "\n  ".join(list_studies(folder))
        raise MusictagError(f"there are several studies in {folder}; choose one with --study NAME:\n  {listed}")
    return names.pop() if names else None


def _wandb_place(study: Study) -> tuple[str, str | None]:
    """Project and entity of the runs that were logged to Weights & Biases; the defaults if none was."""
    loggers = [run.config["logger"]["wandb"] for run in study.runs if run.config["logger"].get("wandb")]
    return (loggers[0]["project"], loggers[0].get("entity")) if loggers else (DEFAULT_PROJECT, None)
