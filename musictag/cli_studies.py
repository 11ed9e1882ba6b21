"""The commands of `musictag` on studies: their state, their report, their runs side by side."""

from __future__ import annotations

import argparse

from musictag.places import path_argument


def add_study_commands(commands: argparse._SubParsersAction) -> None:
    """status, report and compare."""
    status = commands.add_parser(
        "status",
        help="what of a study is done, running, failed or missing, and the time left",
        description="Compare the jobs that a sweep was to run with what is there: done, running, stopped (begun, but "
        "not at work now), failed and why, missing. The exit status is 1 where a job failed.",
    )
    status.add_argument("runs", type=path_argument, metavar="FOLDER", help="of runs, such as runs/songbook")
    status.add_argument("--study", metavar="NAME", help="one study only")
    status.set_defaults(run=_status)
    _add_report(commands)
    compare = commands.add_parser(
        "compare",
        help="the finished runs of a study as a table and a picture",
        description="Put the finished runs below a folder side by side: a CSV with one line a run, a table of the "
        "means over the seeds, and a picture of PR-AUC against parameters and speed.",
    )
    compare.add_argument("runs", type=path_argument, metavar="FOLDER", help="of runs, such as runs/songbook")
    compare.add_argument("--study", metavar="NAME", help="only runs that were made with study=NAME")
    compare.add_argument(
        "--out", type=path_argument, metavar="FOLDER", default=".", help="for NAME.csv and NAME.png (default: here)"
    )
    compare.add_argument(
        "--measure", action="store_true", help="measure tagging speeds here, not as the runs noted them"
    )
    compare.set_defaults(run=_compare)


def _add_report(commands: argparse._SubParsersAction) -> None:
    report = commands.add_parser(
        "report",
        help="tables, figures and one page of a study, from its finished runs",
        description="Write what the finished runs of a study say: report.html (one page that opens offline, with songs "
        "to listen to), report.md, tables.tex, CSV files and figures. Nothing is trained or decoded.",
    )
    report.add_argument("runs", type=path_argument, metavar="FOLDER", help="of runs, such as runs/songbook")
    report.add_argument("--study", metavar="NAME", help="which study, where there are several")
    report.add_argument(
        "--out",
        type=path_argument,
        metavar="FOLDER",
        help="for the files (default: report-NAME in the folder of runs)",
    )
    report.add_argument("--songs", type=positive, default=24, metavar="N", help="test songs on the page (default: 24)")
    report.add_argument("--no-audio", action="store_true", help="songs without their sound")
    report.add_argument(
        "--resamples",
        type=positive,
        default=1000,
        metavar="N",
        help="of test songs, for intervals (default: 1000)",
    )
    report.add_argument("--compare", nargs=2, metavar=("SYSTEM", "OTHER"), help="test these two systems only")
    report.add_argument("--wandb", action="store_true", help="also log it to Weights & Biases, as a run of the study")
    report.add_argument("--wandb-workspace", action="store_true", help="also save a workspace there (online)")
    report.set_defaults(run=_report)


def _compare(options: argparse.Namespace) -> int:
    from musictag.comparison import main

    return main(options.runs, options.study, options.out, options.measure)


def _report(options: argparse.Namespace) -> int:
    from musictag.report.making import main

    main(
        options.runs,
        options.study,
        options.out,
        songs=options.songs,
        audio=not options.no_audio,
        resamples=options.resamples,
        pair=tuple(options.compare) if options.compare else None,
        wandb=options.wandb,
        workspace=options.wandb_workspace,
    )
    return 0


def _status(options: argparse.Namespace) -> int:
    from musictag.status import main

    return main(options.runs, options.study)


def positive(text: str) -> int:
    """The number of a command line; raises ArgumentTypeError below 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value
