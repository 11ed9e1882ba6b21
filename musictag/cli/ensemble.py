"""`musictag ensemble`: the mean of several finished runs as a tagger and as a run of its own."""

from __future__ import annotations

import argparse
from pathlib import Path

from musictag.common.paths import path_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `musictag ensemble`."""
    parser.description = (
        "Make one tagger of several finished runs on the same data, such as those of three seeds: a song's score is "
        "the mean of theirs. The folder is a run of its own, which `musictag tag --model FOLDER` and musictag.load use "
        "and `musictag report` shows as a system, if it is below the folder of the runs. Nothing is trained."
    )
    parser.add_argument("runs", nargs="+", type=path_argument, metavar="RUN", help="folder of a finished run")
    parser.add_argument(
        "--out",
        required=True,
        type=path_argument,
        metavar="FOLDER",
        help="where to write it, such as runs/songbook/ensemble",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the ensemble and print its scores; returns the exit status. Errors: see ``make_ensemble``."""
    from musictag.evaluation.metrics import headlines
    from musictag.experiment.results.ensemble import make_ensemble

    metrics = make_ensemble([Path(name) for name in arguments.runs], Path(arguments.out))
    scores = [
        f"{metric.label} {metrics['test'][metric.key]['value']:.3f}"
        for metric in headlines()
        if metrics["test"][metric.key]
    ]
    print(f"{metrics['config']['names']['model']}: {', '.join(scores)}")
    print(f"{arguments.out}  tag with it: musictag tag FILE --model {arguments.out}")
    return 0
