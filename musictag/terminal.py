"""What a person sees at the end of a run."""

from __future__ import annotations

import shlex
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

from hydra.errors import OverrideParseException
from hydra.utils import get_object
from omegaconf import OmegaConf
from omegaconf.errors import GrammarParseError, InterpolationResolutionError
from rich.console import Console
from rich.markup import escape

from musictag.instantiation import accepted
from musictag.plots import result_table, tag_table
from musictag.published import MODEL_FILE, TAGGER_FILE
from musictag.ranks import is_rank_zero

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


def explain(error: Exception) -> str:
    """What Hydra or OmegaConf says of a command line that cannot be composed, with the keys that exist where one was
    mistyped, and how to write what they read otherwise than it was meant."""
    text = str(error).partition("Config search path:")[0]
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, InterpolationResolutionError | GrammarParseError):
            return (
                f"{' '.join(str(cause).split())}. ${{...}} stands for the value of another key; where these characters "
                "belong to a name, write \\${ in quotes: 'key=\"a\\${b}\"'"
            )
        # OmegaConf's errors know the group in which the key was looked for
        parent, key = getattr(cause, "parent_node", None), getattr(cause, "full_key", None)
        if parent is not None and key and hasattr(parent, "keys"):
            group, _, name = str(key).rpartition(".")
            where = f"{group} has no key {name}; it has" if group else f"there is no key {name}; the keys are"
            there = f"{where} {', '.join(sorted(str(k) for k in parent if k != 'hydra'))}"
            return f"{there}. {_instead(parent, str(key))}".strip()
        cause = cause.__cause__ or cause.__context__
    lines = [line for line in text.splitlines() if line.strip()]
    if isinstance(error, OverrideParseException):
        lines.append(
            "A value with spaces, quotes or letters beyond a to z wants quotes of its own: \"key='the value'\""
        )
    return "\n".join(lines)


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
