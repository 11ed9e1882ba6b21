"""Running out of memory names what to make smaller."""

from __future__ import annotations

import resource
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from musictag.common.errors import MusictagError
from musictag.experiment import failures
from musictag.experiment.failures import explain_failure
from musictag.models.network import TaggingNetwork
from musictag.models.summary import sketch, training_bytes
from musictag.training.callbacks.checkpoints import StepCheckpoint
from musictag.training.callbacks.history import History
from musictag.training.signals import SignalHandler
from musictag.training.trainer import build_trainer
from tests.helpers.experiments import TINY, compose_config, folders
from tests.helpers.processes import TRAIN, environment


@pytest.fixture
def tiny(tiny_catalogue: Path, tmp_path: Path) -> list[str]:
    return ["data=catalogue", f"data.path={tiny_catalogue}", *TINY, *folders(tmp_path)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["data.batch_size=4096", "data.patches_per_song=400", "frontend.channels=[256,256,256,256,256,256]"],
            "a step has data.batch_size=4096 patches of 0.5 s, each of which takes about",
        ),
        pytest.param(
            ["evaluation.batch_size=100000", "data.patch_seconds=0.1", "frontend.channels=[4096]"],
            "evaluation.batch_size=100000 patches of 0.1 s are scored together; use evaluation.batch_size=50000",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["training", "evaluation"],
)
def test_a_batch_that_is_too_large_is_named(tiny: list[str], tmp_path: Path, overrides: list[str], said: str) -> None:
    """With an address space of 6 GB."""
    room = 6 * 2**30
    done = subprocess.run(
        [*TRAIN, *tiny, *overrides], capture_output=True, text=True, env=environment(tmp_path / "records"), timeout=240,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (room, room)),
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    (reason,) = (tmp_path / "runs").glob("*/*/error.txt")
    assert said in reason.read_text()


def test_the_advised_batch_fits_by_the_memory_of_a_patch(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose_config(*tiny, "data.batch_size=48", "trainer.accumulate_grad_batches=3")
    network = TaggingNetwork(**sketch(config, 3).spec)
    trainer = build_trainer(config, tmp_path, History(tmp_path / "history.csv", announce=False), [], SignalHandler())
    next(callback for callback in trainer.callbacks if isinstance(callback, StepCheckpoint)).failed_in = "train"
    trainer.strategy._lightning_module = SimpleNamespace(tagger=network)
    per_patch = training_bytes(network)
    for memory, batch, accumulate in ((None, 24, 6), (1.3 * 24 * per_patch, 24, 6), (1.2 * 24 * per_patch, 12, 12),
                                      (per_patch, 3, 48)):  # fmt: skip
        monkeypatch.setattr(failures, "_memory", lambda device, memory=memory: memory)
        why = str(explain_failure(MemoryError(), trainer, config))
        assert f"use data.batch_size={batch} trainer.accumulate_grad_batches={accumulate}, which makes nearly" in why


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB."), r"Tried to allocate 20 GiB.*batch"),
        (MemoryError(), r"out of memory on cpu \(MemoryError\): .*evaluation.batch_size=64"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), r"data.num_workers=0"),
        (RuntimeError("anything else"), r"^anything else$"),
    ],
)
def test_what_libraries_say_of_memory_is_understood(
    tiny: list[str], tmp_path: Path, error: Exception, said: str
) -> None:
    config = compose_config(*tiny)
    trainer = build_trainer(config, tmp_path, History(tmp_path / "history.csv", announce=False), [], SignalHandler())
    why = explain_failure(error, trainer, config)
    with pytest.raises(type(why), match=said):
        raise why
    assert isinstance(why, MusictagError) == ("anything" not in str(error))
