"""`musictag evaluate`: any tagger on the test songs of any data set."""

from __future__ import annotations

import argparse
from pathlib import Path

from musictag.cli.parsing import add_hop, add_map, add_model
from musictag.common.paths import path_argument
from musictag.common.processes import importing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `musictag evaluate`."""
    parser.description = (
        "Score the test songs of a data set with a tagger that was trained elsewhere, and write what a run writes: "
        "metrics with intervals, predictions, a plot. Tags with the same name are compared. If interrupted, rerun the "
        "command to continue."
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="CATALOGUE | KEY=VALUE",
        help="a table, or data=... and its keys as for train.py; also evaluation.bootstrap_resamples, study, ...",
    )
    add_model(parser)
    add_hop(parser)
    add_map(parser)
    parser.add_argument(
        "--robustness", action="store_true", help="also with songs as MP3, with noise, transposed, faster, quieter, cut"
    )
    parser.add_argument("--out", type=path_argument, metavar="FOLDER", help="where to write (default: below runs_dir)")
    parser.set_defaults(kept="; rerun the command to continue")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, and print the scores; returns the exit status. Errors: see ``evaluate``."""
    with importing():
        from rich.console import Console
        from rich.markup import escape

        from musictag.evaluation.tables import result_table, tag_table
        from musictag.experiment.compose import configuration
        from musictag.experiment.evaluation import evaluate, read_names
        from musictag.experiment.robustness import robustness_table
        from musictag.inference.load import load
        from musictag.models.pretrained import digest, model_name

    names = read_names(Path(arguments.map)) if arguments.map else {}
    config = configuration(arguments.overrides)
    tagger = load(arguments.model, arguments.device, arguments.trust, arguments.precision)
    name, identity = model_name(arguments.model), digest(arguments.model)
    out = Path(arguments.out) if arguments.out else None
    if arguments.hop is not None:
        tagger.set_hop(arguments.hop)
        name, identity = f"{name}-hop-{arguments.hop:g}", f"{identity} hop {arguments.hop:g}"
    folder, found = evaluate(tagger, name, identity, config, names, out, arguments.robustness)
    console = Console()
    console.print(result_table(found["test"], f"{name} on {found['songs']['test']:,} test songs of {found['data']}"))
    console.print(tag_table(found["test"]))
    if (left_out := len(tagger.tag_names) - len(found["tag_names"])) > 0:
        of_all = f"{left_out} of {len(tagger.tag_names)} tags of the tagger"
        console.print(f"{of_all} are not in the data set", highlight=False)
    if arguments.robustness:
        console.print(robustness_table(found["robustness"]))
    console.print(f"  {escape(str(folder))}", highlight=False, soft_wrap=True)
    return 0
