"""What other choices of the best epoch would have given. They choose nothing: the run's own is made before any test."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from musictag.common.errors import MusictagError
from musictag.data.loading.datamodule import SongDataModule
from musictag.evaluation.metrics import METRICS
from musictag.evaluation.song_metrics import song_metrics
from musictag.models.checkpoint import read_tagger
from musictag.training.best_epoch import CHOICES_FOLDER, choice_path, rules


def other_choices(config: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The epoch that each rule chooses, with its validation scores; a rule whose metric there is not is left out."""
    found = {}
    for name, rule in rules(config["monitor"], config["monitor_smoothing"]).items():
        epoch = rule.choose(history)
        if epoch is not None:
            values = {key: history[epoch][key] for key in history[epoch] if key.startswith("val_")}
            found[name] = {"epoch": epoch, "validation": values, "test": None}
    return found


def score_choices(
    choices: Mapping[str, Mapping[str, Any]],
    own_epoch: int,
    run_dir: Path,
    score: Callable[[Mapping[str, Tensor]], np.ndarray],
) -> dict[int, np.ndarray]:
    """Scores of the test songs (float32 S×K) by the epochs that are not the run's own. ``score``: with these weights.

    Raises MusictagError for a tagger that is missing or damaged.
    """
    found: dict[int, np.ndarray] = {}
    for name, choice in choices.items():
        if (epoch := choice["epoch"]) in (own_epoch, *found):
            continue
        stored = read_tagger(choice_path(run_dir, name))
        if stored.description["epoch"] != epoch:
            raise MusictagError(
                f"{choice_path(run_dir, name)} is the tagger of epoch {stored.description['epoch']}, not of {epoch}; "
                "delete the folder to train again"
            )
        found[epoch] = score(stored.state)
    return found


def with_test(
    choices: Mapping[str, dict[str, Any]], scores: Mapping[int, np.ndarray], data: SongDataModule
) -> dict[str, dict[str, Any]]:
    """``choices`` with the test scores of the epochs for which there are ``scores`` (float32 S×K)."""
    targets, names, kinds = data.targets("test"), [tag.name for tag in data.tags], [tag.kind for tag in data.tags]
    test = {}
    for epoch, of_songs in scores.items():
        metrics = song_metrics(of_songs, targets, names, kinds, resamples=0)
        test[epoch] = {key: metrics[key]["value"] for key in METRICS if metrics[key] is not None}
    return {name: choice | {"test": test.get(choice["epoch"])} for name, choice in choices.items()}


def remove_choices(run_dir: Path) -> None:
    """Remove the taggers that other rules have chosen; their scores are in metrics.json."""
    if (run_dir / CHOICES_FOLDER).exists():
        shutil.rmtree(run_dir / CHOICES_FOLDER)
