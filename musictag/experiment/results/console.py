"""What a person sees at the end of a run."""

from __future__ import annotations

import shlex
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from omegaconf import OmegaConf
from rich.console import Console
from rich.markup import escape

from musictag.common.processes import is_rank_zero
from musictag.evaluation.tables import result_table, tag_table
from musictag.models.checkpoint import MODEL_FILE, TAGGER_FILE
from musictag.training.instantiate import accepted

FILES = {
    "metrics.json": "all scores, the configuration, versions",
    TAGGER_FILE: "the tagger",
    "predictions.npz": "test songs, scores, targets",
    "tags.png": "test scores per tag",
    "curves.png": "training curves",
    "history.csv": "one row an epoch",
}
BASELINE_FILES = {
    "metrics.json": "all scores, the configuration, versions",
    MODEL_FILE: "the tagger",
    "predictions.npz": "test songs, scores, targets",
    "tags.png": "test scores per tag",
    "importances.csv": "how much each feature counts for each tag",
    "importances.png": "the features that count most",
}


#: What other projects call keys of ours.
_WORDS_OF_OTHERS = {
    "learning_rate": "lr",
    "objective": "loss",
    "criterion": "loss",
    "lr_scheduler": "scheduler",
    "schedule": "scheduler",
}


def _instead(parent: Any, key: str) -> str:
    """What may have been meant by a key that is not there: a setting that has to be added, or one elsewhere."""
    name = key.rpartition(".")[2]
    if isinstance(target := parent.get("_target_"), str) and name in accepted(get_object(target))[0]:
        return f"It can have {name}, too: type +{key}=..."
    root = parent._get_root()
    keys = [known for known in _dotted(root) if not known.startswith("hydra.")]
    same = [known for known in keys if known.rpartition(".")[2] == _WORDS_OF_OTHERS.get(name, name)]
    near = same or get_close_matches(key, keys, n=3, cutoff=0.75)
    return f"Did you mean {' or '.join(near)}?" if near else ""


def _dotted(config: Any, prefix: str = "") -> list[str]:
    found = []
    for key in config:
        found.append(f"{prefix}{key}")
        node = config._get_node(key)
        if OmegaConf.is_dict(node) and not node._is_none() and not node._is_missing():
            found += _dotted(node, f"{prefix}{key}.")
    return found


def _parameters(metrics: dict[str, Any]) -> str:
    whole, trained = metrics["parameters"], metrics.get("parameters_trained", metrics["parameters"])
    return f"{whole:,} parameters" if trained == whole else f"{trained:,} of {whole:,} parameters trained"


def _sizes(metrics: dict[str, Any]) -> str:
    """Of a baseline."""
    if metrics["parameters"] is None:
        return f"{metrics['trees']:,} trees with {metrics['leaves']:,} leaves"
    return _parameters(metrics)


def print_results(metrics: dict[str, Any], runs_dir: str) -> None:
    """The song-level result table, the best and the worst tags, and where the files lie. Rank 0 alone speaks."""
    if not is_rank_zero():
        return
    console = Console()
    run_dir = Path(runs_dir) / metrics["data"] / metrics["run"]
    songs, speed = metrics["songs"], metrics["speed"]
    is_baseline = metrics.get("baseline") is not None  # runs of earlier versions do not say
    if is_baseline:
        title = f"features and {metrics['baseline']}"
        about = f"{metrics['features']} features, {_sizes(metrics)}"
        rates = f"features and scores of {speed['test_audio_seconds_per_second']:,.0f} seconds of audio a second"
    else:
        title = metrics["config"]["names"]["model"] or f"{metrics['frontend']} + {metrics['backend']}"
        trained, tested = (speed[f"{stage}_audio_seconds_per_second"] for stage in ("train", "test"))
        if trained is None:
            about = f"{_parameters(metrics)}: the weights of {metrics['config']['init_from']} as they are"
            rates = f"tested at {tested:,.0f} seconds of audio a second"
        else:
            about = f"{_parameters(metrics)}, best epoch {metrics['best_epoch'] + 1} of {metrics['epochs']}"
            rates = f"trained at {trained:,.0f}, tested at {tested:,.0f} seconds of audio a second"
    say = partial(console.print, highlight=False, soft_wrap=True)
    say(f"\n[bold]{title}[/bold] on [bold]{metrics['data']}[/bold]: {songs['train']:,} training songs, {escape(about)}")
    console.print(result_table(metrics["test"], f"Song-level scores of {songs['test']:,} test songs"))
    console.print(tag_table(metrics["test"]))
    say(f"{rates} ({metrics['device']})\n")
    for name, meaning in (BASELINE_FILES if is_baseline else FILES).items():
        if (run_dir / name).exists():
            say(f"  {escape(str(run_dir / name))}  [dim]{meaning}[/dim]")
    model = MODEL_FILE if is_baseline else TAGGER_FILE
    say(f"\nNow try:  musictag tag song.mp3 --model {escape(shlex.quote(str(run_dir / model)))}")
