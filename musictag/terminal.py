"""What a person sees at the end of a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rich.console import Console

from musictag.plots import result_table, tag_table

FILES = {
    "metrics.json": "all scores, the configuration, versions",
    "best.ckpt": "the tagger",
    "predictions.npz": "test songs, scores, targets",
    "tags.png": "test scores per tag",
    "curves.png": "training curves",
    "history.csv": "one row an epoch",
}


def print_results(metrics: dict[str, Any], run_dir: Path) -> None:
    """The song-level result table, the best and the worst tags, and where the files lie. Rank 0 alone speaks."""
    if int(os.environ.get("LOCAL_RANK", 0)) != 0:
        return
    console = Console()
    songs = metrics["songs"]
    console.print(
        result_table(
            metrics["test"],
            f"{metrics['frontend']} + {metrics['backend']} on {metrics['data']}: {songs['test']:,} test songs, "
            f"{songs['train']:,} training songs, {metrics['parameters']:,} parameters",
        )
    )
    console.print(tag_table(metrics["test"]))
    speed = metrics["speed"]
    console.print(
        f"trained at {speed['train_audio_seconds_per_second']:,.0f} and tested at "
        f"{speed['test_audio_seconds_per_second']:,.0f} seconds of audio a second ({metrics['device']}); "
        f"best epoch {metrics['best_epoch'] + 1} of {metrics['epochs']}",
        highlight=False,
    )
    console.print()
    for name, meaning in FILES.items():
        console.print(f"  {run_dir / name}  [dim]{meaning}[/dim]", highlight=False, soft_wrap=True)
    console.print(f"\nNow try:  musictag tag song.mp3 --model {run_dir / 'best.ckpt'}", highlight=False, soft_wrap=True)
