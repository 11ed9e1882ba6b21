"""What a person sees at the end of a run."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from musictag.plots import result_table, tag_table
from musictag.ranks import is_rank_zero

FILES = {
    "metrics.json": "all scores, the configuration, versions",
    "best.ckpt": "the tagger",
    "predictions.npz": "test songs, scores, targets",
    "tags.png": "test scores per tag",
    "curves.png": "training curves",
    "history.csv": "one row an epoch",
}


def explain(error: Exception) -> str:
    """What Hydra says of a command line that it cannot compose, and the keys that exist where one was mistyped."""
    text = str(error).partition("Config search path:")[0]
    cause: BaseException | None = error
    while cause is not None:
        # OmegaConf's errors know the group in which the key was looked for
        parent, key = getattr(cause, "parent_node", None), getattr(cause, "full_key", None)
        if parent is not None and key and hasattr(parent, "keys"):
            group, _, name = str(key).rpartition(".")
            where = f"{group} has no key {name}; it has" if group else f"there is no key {name}; the keys are"
            return f"{where} {', '.join(sorted(str(k) for k in parent if k != 'hydra'))}"
        cause = cause.__cause__ or cause.__context__
    return "\n".join(line for line in text.splitlines() if line.strip())


def _parameters(metrics: dict[str, Any]) -> str:
    whole, trained = metrics["parameters"], metrics.get("parameters_trained", metrics["parameters"])
    return f"{whole:,} parameters" if trained == whole else f"{trained:,} of {whole:,} parameters trained"


def print_results(metrics: dict[str, Any], runs_dir: str) -> None:
    """The song-level result table, the best and the worst tags, and where the files lie. Rank 0 alone speaks."""
    if not is_rank_zero():
        return
    console = Console()
    run_dir = Path(runs_dir) / metrics["data"] / metrics["run"]
    songs = metrics["songs"]
    say = partial(console.print, highlight=False, soft_wrap=True)
    say(
        f"\n[bold]{metrics['frontend']} + {metrics['backend']}[/bold] on [bold]{metrics['data']}[/bold]: "
        f"{songs['train']:,} training songs, {_parameters(metrics)}, best epoch "
        f"{metrics['best_epoch'] + 1} of {metrics['epochs']}"
    )
    console.print(result_table(metrics["test"], f"Song-level scores of {songs['test']:,} test songs"))
    console.print(tag_table(metrics["test"]))
    speed = metrics["speed"]
    say(
        f"trained at {speed['train_audio_seconds_per_second']:,.0f}, tested at "
        f"{speed['test_audio_seconds_per_second']:,.0f} seconds of audio a second ({metrics['device']})\n"
    )
    for name, meaning in FILES.items():
        say(f"  {run_dir / name}  [dim]{meaning}[/dim]")
    say(f"\nNow try:  musictag tag song.mp3 --model {run_dir / 'best.ckpt'}")
