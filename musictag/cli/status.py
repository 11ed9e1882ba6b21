"""`musictag status`: which jobs of a study are done, running, failed or missing, and how long the rest will take."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from musictag.common.errors import MusictagError
from musictag.common.paths import path_argument

if TYPE_CHECKING:
    from musictag.experiment.sweeps.status import Job

_STYLES = {"done": "green", "running": "bold", "stopped": "yellow", "failed": "red", "missing": "dim"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `musictag status`."""
    parser.description = (
        "Show the state of a sweep's jobs: done, running, stopped (begun, but not running now), failed and "
        "why, missing. The exit status is 1 if a job failed."
    )
    parser.add_argument("runs", type=path_argument, metavar="FOLDER", help="folder of runs, such as runs/songbook")
    parser.add_argument("--study", metavar="NAME", help="only this study")


def run(arguments: argparse.Namespace) -> int:
    """Print the state of the studies below a folder; returns the exit status: 1 if a job failed.

    Raises MusictagError for a missing folder or study, and for a damaged list of jobs.
    """
    from musictag.experiment.sweeps.status import read_study_status
    from musictag.experiment.sweeps.study import find_studies

    folder, study = arguments.runs, arguments.study
    if not Path(folder).is_dir():
        raise MusictagError(f"there is no folder {folder}; give the folder of the runs, such as runs/songbook")
    found = list(find_studies(Path(folder)))
    chosen = [(name, path) for name, path in found if study in (None, name)]
    if not chosen:
        there = f"; there are {', '.join(sorted({name for name, _ in found}))}" if found else ""
        raise MusictagError(f"no sweep was started{f' as study {study}' if study else ''} in {folder}{there}")
    console = Console()
    failed = False
    for name, path in chosen:
        jobs = read_study_status(path)
        show(name, jobs, console)
        failed = failed or any(job.state == "failed" for job in jobs)
    return 1 if failed else 0


def show(name: str, jobs: Sequence[Job], console: Console) -> None:
    """Print a line for each job that is not done, and the counts by state."""
    from musictag.evaluation.metrics import headlines
    from musictag.experiment.sweeps.status import STATES, readable_time, time_left

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left", title=f"[bold]{escape(name)}[/bold]")
    table.add_column("job", overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("epochs", justify="right", no_wrap=True)
    for metric in headlines():
        table.add_column(metric.label, justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    for job in jobs:
        scores = job.scores or {}
        epochs = f"{job.epochs} of {job.max_epochs}" if job.max_epochs and job.epochs else str(job.epochs or "")
        table.add_row(
            escape(job.name),
            f"[{_STYLES[job.state]}]{job.state}[/]",
            epochs,
            *(metric.show(scores[metric.key]) if scores.get(metric.key) is not None else "" for metric in headlines()),
            readable_time(job.seconds) if job.seconds else "",
        )
    console.print(table)
    for job in jobs:
        if job.reason:
            console.print(
                f"  [red]failed[/red] {escape(job.name)}: {escape(job.reason)}", highlight=False, soft_wrap=True
            )
            if (job.folder / "error.txt").exists():
                console.print(f"         {escape(str(job.folder / 'error.txt'))}", highlight=False, soft_wrap=True)
    counts = Counter(job.state for job in jobs)
    parts = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    left = time_left(jobs)
    rest = "" if left == 0.0 else "; time left not known yet" if left is None else f"; about {readable_time(left)} left"
    console.print(f"{len(jobs)} jobs: {parts}{rest}", highlight=False)
