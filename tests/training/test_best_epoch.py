"""What validation decides: which epoch is kept and tested, when the rate falls, when training ends.

The scores of the epochs are made up; all else is a real run.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

import musictag
from musictag.experiment import run as experiment
from musictag.experiment.sweeps.jobs import objective
from musictag.models.checkpoint import read_checkpoint, read_tagger
from musictag.training.callbacks import checkpoints as callbacks
from musictag.training.module import TaggingModule
from tests.helpers.experiments import TINY, compose_config, folders
from tests.helpers.marks import first_fast

HIGHER_IS_BETTER, LOWER_IS_BETTER = ("val_roc_auc", "val_pr_auc"), ("val_loss", "val_rmse")
#: Where higher is better epoch 1 is the best, and epoch 4 the worst; the others come from 1 - these.
SCORES = (0.60, 0.70, 0.65, 0.66, 0.50, 0.68, 0.69, 0.62)
RATE, FACTOR = 0.002, 0.3


@pytest.fixture
def settings(tiny_catalogue: Path, tmp_path: Path) -> list[str]:
    words = [f"trainer.max_epochs={len(SCORES)}", f"optimizer.lr={RATE}", "data.train_songs=4"]
    return ["data=catalogue", f"data.path={tiny_catalogue}", *TINY, *words, *folders(tmp_path)]


def script(monkeypatch: pytest.MonkeyPatch, monitor: str, scores: Sequence[float]) -> list[dict[str, torch.Tensor]]:
    """Each epoch validates with one of these scores of ``monitor``; other scores stay what they are. The list that is
    returned gets the weights that each epoch ends with."""
    states: list[dict[str, torch.Tensor]] = []

    def on_validation_epoch_end(self: TaggingModule) -> None:
        states.append({name: value.clone() for name, value in self.tagger.state_dict().items()})
        values = dict.fromkeys((*HIGHER_IS_BETTER, *LOWER_IS_BETTER, "train_loss"), 0.5)
        self.log_dict(values | {monitor: scores[self.current_epoch]})

    monkeypatch.setattr(TaggingModule, "on_validation_epoch_end", on_validation_epoch_end)
    return states


def scores_of(monitor: str) -> list[float]:
    return [score if monitor in HIGHER_IS_BETTER else 1 - score for score in SCORES]


def rates(config: dict) -> list[float]:
    """The learning rate of each epoch, and the one that the next would have."""
    folder = experiment.results_folder(config)
    with open(folder / "history.csv", newline="") as file:
        found = [float(row["learning_rate"]) for row in csv.DictReader(file)]
    (optimizer,) = read_checkpoint(folder / "last.ckpt")["optimizer_states"]
    return [*found, optimizer["param_groups"][0]["lr"]]


@pytest.mark.parametrize("monitor", first_fast(["val_pr_auc", "val_loss", "val_roc_auc", "val_rmse"], 2))
def test_the_best_epoch_is_kept_and_training_ends_when_none_is_better(
    settings: list[str], monkeypatch: pytest.MonkeyPatch, monitor: str
) -> None:
    states = script(monkeypatch, monitor, scores_of(monitor))
    config = compose_config(*settings, f"monitor={monitor}", "callbacks.early_stopping.patience=4")
    metrics = experiment.run(config)
    folder = experiment.results_folder(config)
    assert metrics["best_epoch"] == read_tagger(folder / "tagger.safetensors").description["epoch"] == 1
    description = read_tagger(folder / "tagger.safetensors").description
    assert description["validation"][monitor] == pytest.approx(scores_of(monitor)[1])
    assert description["test"]["pr_auc"] == metrics["test"]["pr_auc"]["value"]
    assert metrics["epochs"] == 6  # four epochs, 2 to 5, were no better than epoch 1
    # what is told of validation is that epoch's, and it is what a search for settings goes by
    assert metrics["validation"]["epoch"] == 1
    assert metrics["validation"][monitor] == pytest.approx(scores_of(monitor)[1])
    assert objective(metrics) == metrics["validation"]["val_pr_auc"]
    # its weights are kept, and they are the ones that the test songs are scored with
    kept = musictag.load(folder / "tagger.safetensors")
    for name, value in kept.network.state_dict().items():
        assert torch.equal(value, states[1][name]), name
    assert not torch.equal(kept.network.backend.output.weight, states[5]["backend.output.weight"])
    predictions = np.load(folder / "predictions.npz")
    source = experiment.build_source(config)
    paths = dict(zip(source.manifest().song_ids, source.manifest().paths, strict=True))
    for song_id, scores in zip(predictions["song_ids"], predictions["scores"], strict=True):
        tagged = kept.tag(Path(config["data"]["path"]).parent / paths[song_id])
        np.testing.assert_allclose([tagged[name] for name in kept.tag_names], scores, atol=1e-6)


@pytest.mark.parametrize("monitor", first_fast(["val_pr_auc", "val_loss", "val_roc_auc", "val_rmse"], 2))
def test_the_rate_falls_by_the_factor_after_epochs_without_a_better_score(
    settings: list[str], monkeypatch: pytest.MonkeyPatch, monitor: str
) -> None:
    script(monkeypatch, monitor, scores_of(monitor))
    plateau = ["scheduler.patience=1", f"scheduler.factor={FACTOR}"]
    config = compose_config(*settings, f"monitor={monitor}", *plateau)
    experiment.run(config)
    # one epoch without a better score is put up with: after 2 and 3, after 4 and 5, after 6 and 7 it is enough
    falls = [0, 0, 0, 0, 1, 1, 2, 2, 3]
    assert rates(config) == pytest.approx([RATE * FACTOR**times for times in falls])


def test_a_constant_learning_rate_ignores_the_scores(settings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, "val_loss", [0.5] * len(SCORES))
    config = compose_config(*settings, "scheduler=constant")
    assert experiment.run(config)["best_epoch"] == 0  # of equals the first
    assert rates(config) == [RATE] * (len(SCORES) + 1)


def test_without_patience_training_goes_on_to_the_last_epoch(
    settings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script(monkeypatch, "val_loss", np.linspace(0.5, 0.9, len(SCORES)).tolist())
    metrics = experiment.run(compose_config(*settings, "callbacks.early_stopping=null"))
    assert (metrics["epochs"], metrics["best_epoch"]) == (len(SCORES), 0)


def test_the_checkpoint_within_an_epoch_comes_every_so_many_minutes(
    settings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock that each batch advances by 25 seconds; that it is time is agreed on a batch later."""
    now, saved = [0.0], []
    start, save = TaggingModule.on_train_batch_start, pl.Trainer.save_checkpoint

    def on_train_batch_start(self: TaggingModule, batch: dict, batch_idx: int) -> None:
        now[0] += 25
        start(self, batch, batch_idx)

    def save_checkpoint(self: pl.Trainer, path: Path, *more: Any, **settings: Any) -> None:
        if not self.validating and not self.fit_loop.epoch_loop.batch_progress.is_last_batch:
            saved.append(self.fit_loop.epoch_loop.batch_idx)
        save(self, path, *more, **settings)

    monkeypatch.setattr(callbacks, "time", SimpleNamespace(monotonic=lambda: now[0], perf_counter=time.perf_counter))
    monkeypatch.setattr(TaggingModule, "on_train_batch_start", on_train_batch_start)
    monkeypatch.setattr(pl.Trainer, "save_checkpoint", save_checkpoint)
    short = ["trainer.max_epochs=1", "data.patches_per_song=12", "callbacks.checkpoint.minutes=1"]
    experiment.run(compose_config(*settings, *short))
    assert saved == [4, 9]  # of 12 batches; at 75 s, and 75 s after 125 s
