"""A loss that is no number ends the run with the songs at hand; what was saved before is kept and finite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from musictag.common.errors import MusictagError
from musictag.experiment import run as experiment
from musictag.training.losses import BCE
from musictag.training.module import TaggingModule
from tests.helpers.catalogues import read_rows, write_table
from tests.helpers.experiments import compose_config, folders
from tests.helpers.plain_training import assert_is, train, write_beginning
from tests.helpers.reliability import SETTINGS, Bench, check_whole, epochs_done, only, weights

CHOSEN = ("trainer.", "optimizer.", "scheduler", "callbacks.", "data.batch_size", "data.patches_per_song")
TWO = (
    "trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "trainer.sync_batchnorm=false",
)  # fmt: skip


def songs_named(reason: str) -> list[str]:
    """The training songs that an error names."""
    return [word.strip(" .,") for word in reason.replace("\n", " ").split() if word.startswith("train-")]


@pytest.mark.slow
def test_weights_that_become_nan_leave_the_epochs_before_and_the_same_command_mends_it(run: Bench) -> None:
    """As a fault of the memory does, once, in the third epoch of three batches each."""
    failure = {"do": "poison", "call": "training_step", "nth": 8}
    status, said = run.lab.run(*run.words("poisoned"), failure=failure)
    assert status == 1
    folder = only(run.folder / "poisoned")
    reason = (folder / "error.txt").read_text()
    assert "the loss became nan in epoch 2" in reason
    assert len(songs_named(reason)) == 4  # the batch
    assert said.splitlines()[-1].startswith("musictag: the loss became nan")
    assert not (folder / "metrics.json").exists()
    assert epochs_done(run.folder / "poisoned") == 2
    for name in ("last.ckpt", "tagger.safetensors"):
        assert all(np.isfinite(weight).all() for weight in weights(folder, name).values())
    assert run.lab.run(*run.words("poisoned"))[0] == 0
    check_whole(folder, run.whole)


@pytest.mark.slow
def test_a_loss_that_explodes_on_one_of_two_processes_ends_both(run: Bench) -> None:
    words = run.words("two", *TWO, *(word for word in SETTINGS if word.startswith(CHOSEN)))
    failure = {"do": "poison", "call": "training_step", "nth": 8}
    started = run.lab.start(*words, failure=failure)
    assert started.wait() != 0
    assert not started.children()
    folder = only(run.folder / "two")
    reason = (folder / "error.txt").read_text()
    assert "the loss became nan in epoch 2" in reason
    assert songs_named(reason)
    for name in ("last.ckpt", "tagger.safetensors"):
        assert all(np.isfinite(weight).all() for weight in weights(folder, name).values())
    assert run.lab.run(*words)[0] == 0
    undisturbed = [
        word.replace(f"runs_dir={run.folder / 'two'}", f"runs_dir={run.folder / 'two whole'}") for word in words
    ]
    assert run.lab.run(*undisturbed)[0] == 0
    check_whole(folder, only(run.folder / "two whole"))


@pytest.mark.slow
def test_a_learning_rate_that_no_float_can_follow_ends_two_processes(run: Bench) -> None:
    settings = [word for word in SETTINGS if word.startswith(CHOSEN)]
    explosive = ("optimizer.lr=1e30", "trainer.gradient_clip_val=null")
    started = run.lab.start(*run.words("explosive", *TWO, *settings, *explosive))
    assert started.wait() != 0
    assert not started.children()
    folder = only(run.folder / "explosive")
    assert songs_named((folder / "error.txt").read_text())
    assert not (folder / "metrics.json").exists()


@pytest.mark.parametrize("batches", [2, 3, 4], ids="checkpoint {} batches before the end of the epoch".format)
def test_no_checkpoint_is_written_after_a_loss_that_is_not_finite(
    tiny_catalogue: Path, tmp_path: Path, batches: int
) -> None:
    """The first step ruins the weights, the loss of the second batch tells, and after it a checkpoint is due."""
    words = ["data=catalogue", f"data.path={tiny_catalogue}", *SETTINGS, f"data.batch_size={12 // batches}"]
    words += ["optimizer.lr=1e30", "trainer.gradient_clip_val=null", "callbacks.checkpoint.minutes=1e-9"]
    config = compose_config(*words, f"runs_dir={tmp_path / 'runs'}", f"data_dir={tmp_path / 'data'}")
    with pytest.raises(MusictagError, match=r"the loss became (nan|inf) in epoch 0") as told:
        experiment.run(config)
    assert len(songs_named(str(told.value))) == 12 // batches
    assert not list(experiment.results_folder(config).glob("*.ckpt"))


def test_weights_that_a_step_has_ruined_are_not_saved() -> None:
    module = TaggingModule(tagger_spec(), loss=BCE(), optimizer=torch.optim.Adam)
    checkpoint: dict[str, Any] = {}
    module.on_save_checkpoint(checkpoint)
    assert "epoch_loss" in checkpoint
    next(value for name, value in module.named_buffers() if "running_var" in name)[0] = np.inf
    with pytest.raises(MusictagError, match=r"weights became infinite or NaN in epoch 0, and are not saved: lower"):
        module.on_save_checkpoint({})


def tagger_spec() -> dict[str, Any]:
    config = compose_config(*SETTINGS)
    tags = [{"name": "a", "kind": "classification"}]
    return {"frontend": config["frontend"], "backend": config["backend"], "tags": tags, "patch_seconds": 0.5}


def test_silence_noise_and_unknown_tags_are_no_reason_to_fail(tiny_catalogue: Path, tmp_path: Path) -> None:
    """What comes nearest to a damaged song in int16: digital silence, then noise as loud as it gets."""
    rows = read_rows(tiny_catalogue)
    for number, row in enumerate(row for row in rows if row["split"] == "train"):
        if number < 3:
            noise = np.random.default_rng(number).choice(np.array([-32768, 32767], np.int16), 16000)
            soundfile.write(
                tiny_catalogue.parent / row["path"], np.concatenate([np.zeros(32000, np.int16), noise]), 16000
            )
        elif number < 9:
            row.update(high="", noisy="", brightness="")
    write_table(tiny_catalogue, rows)
    words = ["data=catalogue", f"data.path={tiny_catalogue}", *SETTINGS, "data.batch_size=2", "trainer.max_epochs=2"]
    words += ["frontend.norm_momentum=0.2", "backend.norm_momentum=0.2", *folders(tmp_path)]
    config = compose_config(*words, write_beginning(tmp_path / "beginning.safetensors", compose_config(*words)))
    metrics = experiment.run(config)
    assert metrics["songs"]["train"] == 12
    expected = train(config)
    assert 0.0 in expected.batch_losses  # of a batch without any known target
    assert_is(experiment.results_folder(config), expected)
