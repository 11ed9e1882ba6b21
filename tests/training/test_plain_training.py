"""Whole runs against the same training written in plain PyTorch (plain_training.py): weights, history, test scores."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from musictag.experiment import run as experiment
from musictag.training.module import TaggingModule
from musictag.training.signals import Stopped
from tests.helpers.experiments import TINY, compose_config, folders
from tests.helpers.marks import first_fast
from tests.helpers.plain_training import assert_is, train, write_beginning
from tests.helpers.processes import TRAIN, only_run, run

pytestmark = pytest.mark.usefixtures("one_thread")

#: Every way in which settings of the trainer decide what is learnt.
SETTINGS = {
    "plateau": (
        "trainer.max_epochs=5", "optimizer.lr=0.004", "scheduler.patience=0",
        "scheduler.factor=0.3", "seed=5",
    ),
    "rising": (
        "trainer.max_epochs=9", "optimizer.lr=0.001", "monitor=val_pr_auc",
        "scheduler.patience=0", "scheduler.factor=0.5", "callbacks.early_stopping.patience=2",
        "trainer.gradient_clip_val=0.1", "seed=5",
    ),
    "one_cycle": (
        "trainer.max_epochs=3", "optimizer.lr=0.01", "scheduler=one_cycle", "loss=mse",
        "trainer.accumulate_grad_batches=2", "data.patches_per_song=3", "data.batch_size=7",
    ),
    "constant": (
        "trainer.max_epochs=2", "scheduler=constant", "optimizer.weight_decay=0.1", "trainer.gradient_clip_val=null",
        "evaluation.mode=whole", "data.patch_seconds=1.5", "data.num_workers=1",
    ),
}  # fmt: skip
#: So that songs' scores differ by more than rounding after a few steps.
MOMENTUM = ("frontend.norm_momentum=0.2", "backend.norm_momentum=0.2")


def composed(catalogue: Path, tmp_path: Path, *overrides: str) -> dict[str, Any]:
    words = ["data=catalogue", f"data.path={catalogue}", *TINY, *MOMENTUM, *folders(tmp_path), *overrides]
    return compose_config(*words, write_beginning(tmp_path / "beginning.safetensors", compose_config(*words)))


@pytest.mark.parametrize("name", first_fast(["plateau", "one_cycle", "rising", "constant"], 2))
def test_a_run_is_what_a_plain_loop_makes(tiny_catalogue: Path, tmp_path: Path, name: str) -> None:
    config = composed(tiny_catalogue, tmp_path, *SETTINGS[name])
    experiment.run(config)
    expected = train(config)
    assert_is(experiment.results_folder(config), expected)
    # and these settings show what they are here to show
    if "Plateau" in config["scheduler"]["_target_"]:
        assert len({row["learning_rate"] for row in expected.rows}) > 1
        assert 0 < expected.best_epoch < len(expected.rows) - 1
    assert (len(expected.rows) < config["trainer"]["max_epochs"]) == (name == "rising")


@pytest.mark.parametrize(
    ("name", "epoch", "batch"),
    [
        ("plateau", 3, 1),
        pytest.param("rising", 4, 0, marks=pytest.mark.slow),
        pytest.param("one_cycle", 1, 1, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_stopped_and_resumed_is_what_a_plain_loop_makes(
    tiny_catalogue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, epoch: int, batch: int
) -> None:
    """Nothing that a checkpoint has to hold may be lost, even if a run that is never stopped lacks it, too."""
    config = composed(tiny_catalogue, tmp_path, *SETTINGS[name])
    step = TaggingModule.training_step
    begun = []

    def training_step(module: TaggingModule, batch_: dict, batch_idx: int) -> torch.Tensor:
        begun.append((module.current_epoch, batch_idx))
        if begun[-1] == (epoch, batch) and begun.count(begun[-1]) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(module, batch_, batch_idx)

    monkeypatch.setattr(TaggingModule, "training_step", training_step)
    with pytest.raises(Stopped):
        experiment.run(config)
    assert begun[-1][0] == epoch
    experiment.run(config)
    assert len(begun) == len(set(begun))  # it went on where it was
    assert_is(experiment.results_folder(config), train(config))


@pytest.mark.slow
@pytest.mark.parametrize(("epoch", "batch", "minutes"), [(0, 1, "15"), (2, 2, "0.00001"), (4, 0, "15")])
def test_a_run_that_is_killed_and_resumed_is_what_a_plain_loop_makes(
    tiny_catalogue: Path, tmp_path: Path, epoch: int, batch: int, minutes: str
) -> None:
    """kill -9, with and without checkpoints within the epochs."""
    words = [*SETTINGS["plateau"], "data.patches_per_song=2", f"callbacks.checkpoint.minutes={minutes}"]
    config = composed(tiny_catalogue, tmp_path, *words)
    command = [*TRAIN, "data=catalogue", f"data.path={tiny_catalogue}", *TINY, *MOMENTUM, *folders(tmp_path), *words]
    command.append(f"init_from={config['init_from']}")
    run(command, tmp_path / "records", hurt=f"SIGKILL:train:0:{epoch}:{batch}", status=-signal.SIGKILL)
    run(command, tmp_path / "records")
    assert_is(only_run(tmp_path / "runs"), train(config))
