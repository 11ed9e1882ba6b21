"""The summary of a finished run in the terminal."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from musictag.common.processes import is_rank_zero
from musictag.evaluation.tables import result_table, tag_table
from musictag.experiment.run import make_run


def print_results(metrics: dict[str, Any], runs_dir: str) -> None:
    """The song-level result table, the best and the worst tags, and the run's files. Only rank 0 prints."""
    if not is_rank_zero():
        return
    console = Console()
    run_dir = Path(runs_dir) / metrics["data"] / metrics["run"]
    run, songs = make_run(metrics["config"]), metrics["songs"]
    name, trained, speed = run.describe(metrics)
    say = partial(console.print, highlight=False, soft_wrap=True)
    data = f"[bold]{escape(metrics['data'])}[/bold]"
    say(f"\n[bold]{name}[/bold] on {data}: {songs['train']:,} training songs, {escape(trained)}")
    console.print(result_table(metrics["test"], f"Song-level scores of {songs['test']:,} test songs"))
    console.print(tag_table(metrics["test"]))
    say(f"{speed} ({metrics['device']})\n")
    for file, meaning in run.files.items():
        if (run_dir / file).exists():
            say(f"  {escape(str(run_dir / file))}  [dim]{meaning}[/dim]")
    say(f"\nNow try:  musictag tag song.mp3 --model {escape(shlex.quote(str(run_dir / run.model_file)))}")
