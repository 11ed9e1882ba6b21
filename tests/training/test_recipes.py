"""Runs with all parts of a recipe: stopped in the middle of an epoch and resumed, they end as ones never stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.experiments import TINY
from tests.helpers.processes import TRAIN, TWO_PROCESSES, batches, only_run, run
from tests.training.test_signals import assert_the_same

SPECTROGRAM = (
    "model=spectrogram_small", "frontend.num_filters=1", "backend.filters=8", "backend.dense_units=8",
    *(word for word in TINY if word.startswith(("data.", "trainer.", "evaluation."))), "data.patch_seconds=1.0",
)  # fmt: skip
LONG = ("data.batch_size=4", "data.patches_per_song=4", "trainer.max_epochs=3", "trainer.accumulate_grad_batches=2")
MODERN = ("recipe=modern", "callbacks.dropout.until=1.0")
OTHERS = ("recipe=[swa,late_dropout,focal_bce,mixup_log_mel,balanced]", "callbacks.averaging.start=0.34")


@pytest.fixture
def tiny(tiny_catalogue: Path, tmp_path: Path) -> list[str]:
    return ["data=catalogue", f"data.path={tiny_catalogue}", *SPECTROGRAM, *LONG, f"data_dir={tmp_path / 'data'}"]


def callbacks(run_dir: Path) -> dict[str, Any]:
    """The state of the averages in the last checkpoint."""
    states = torch.load(run_dir / "last.ckpt", weights_only=True)["callbacks"]
    return {key: state for key, state in states.items() if "Average" in key}


@pytest.mark.parametrize(
    ("recipe", "when", "words"),
    [
        (MODERN, "SIGTERM:train:0:1:5", []),
        pytest.param(OTHERS, "SIGTERM:train:0:2:5", [], marks=pytest.mark.slow),
        pytest.param(MODERN, "SIGKILL:train:0:1:9", ["callbacks.checkpoint.minutes=0.00001"], marks=pytest.mark.slow),
        pytest.param(OTHERS, "SIGTERM:validation:0:1:0", [], marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_ends_as_one_never_interrupted(
    tiny: list[str], tmp_path: Path, recipe: tuple[str, ...], when: str, words: list[str]
) -> None:
    whole, stopped = ([*TRAIN, *tiny, *recipe, f"runs_dir={tmp_path / name}"] for name in ("whole", "stopped"))
    run(whole, tmp_path / "record")
    records = tmp_path / "records"
    run([*stopped, *words], records, hurt=when, status=143 if "TERM" in when else -9)
    run([*stopped, *words], records)
    runs = [only_run(tmp_path / name) for name in ("whole", "stopped")]
    assert_the_same(*runs)
    (one,), (other,) = (callbacks(run_dir).values() for run_dir in runs)
    assert one["count"] == other["count"] > 0
    for name, value in one["average"].items():
        assert torch.equal(value, other["average"][name]), name
    # what was recorded of the audio is that after augmentation: of each batch the same, whenever it was trained on
    seen = [{(row["epoch"], row["batch"]): row["audio"] for row in batches(tmp_path / name, "train")} for name in
            ("record", "records")]  # fmt: skip
    assert seen[0] == seen[1]


@pytest.mark.slow
def test_two_processes_resume_exactly_too(tiny: list[str], tmp_path: Path) -> None:
    words = [*TWO_PROCESSES, *tiny, *MODERN]
    run([*TRAIN, *words, f"runs_dir={tmp_path / 'whole'}"], tmp_path / "record")
    stopped = [*TRAIN, *words, f"runs_dir={tmp_path / 'stopped'}"]
    run(stopped, tmp_path / "records", hurt="SIGTERM:train:1:1:5", status=143)
    run(stopped, tmp_path / "records")
    assert_the_same(only_run(tmp_path / "whole"), only_run(tmp_path / "stopped"))


@pytest.mark.slow
def test_two_processes_train_on_the_patches_of_one(tiny: list[str], tmp_path: Path) -> None:
    recipe, found = "recipe=[ema,balanced,gain,polarity,shift]", []
    for name, words in (("one", []), ("two", TWO_PROCESSES)):
        records = tmp_path / f"record-{name}"
        run([*TRAIN, *words, *tiny, recipe, "trainer.max_epochs=1", f"runs_dir={tmp_path / name}"], records)
        rows = batches(records, "train")
        patches = [(row["batch"], *patch) for row in rows for patch in zip(row["songs"], row["audio"], strict=True)]
        found.append(sorted(patches))
    assert found[0] == found[1]
    assert len(found[0]) == 48
