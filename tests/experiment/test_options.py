"""Options of a training that is otherwise the same: each has its effect. Those of the optimiser, of its schedule and of
stopping: test_plain_training.py; evaluation.mode: test_evaluation.py, too."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

import musictag
from musictag.experiment.run import results_folder
from musictag.models.checkpoint import read_tagger
from musictag.training.callbacks.history import History
from musictag.training.module import TaggingModule
from musictag.training.signals import SignalHandler
from musictag.training.trainer import build_trainer
from tests.helpers.experiments import ROOT, TINY, compose_config, folders, run
from tests.helpers.plain_training import read_splits, train, train_batches, write_beginning

pytestmark = pytest.mark.usefixtures("one_thread")

#: One epoch from the same weights, with scores that a few steps move.
ONE_EPOCH = ("trainer.max_epochs=1", "frontend.norm_momentum=0.2", "backend.norm_momentum=0.2")


@pytest.fixture
def tiny(tiny_catalogue: Path, tmp_path: Path) -> list[str]:
    words = ["data=catalogue", f"data.path={tiny_catalogue}", *TINY, *ONE_EPOCH, *folders(tmp_path)]
    return [*words, write_beginning(tmp_path / "beginning.safetensors", compose_config(*words))]


def weights(run_dir: Path, name: str = "last") -> dict[str, torch.Tensor]:
    state = torch.load(run_dir / f"{name}.ckpt", weights_only=True)["state_dict"]
    return {key.removeprefix("tagger."): value for key, value in state.items()}


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest difference of a weight of any convolution or dense layer."""
    return max(float((one[name] - other[name]).abs().max()) for name in one if one[name].ndim > 1)


def test_bfloat16_is_what_layers_compute_in_and_weights_are_not(tiny: list[str], monkeypatch) -> None:
    settings = ["scheduler=constant", "trainer.precision=bf16-mixed"]
    seen = set()
    forward = torch.nn.Conv1d.forward

    def noted(layer: torch.nn.Conv1d, audio: torch.Tensor) -> torch.Tensor:
        out = forward(layer, audio)
        if not audio.is_meta:  # where only operations are counted
            seen.add((layer.training, out.dtype))
        return out

    monkeypatch.setattr(torch.nn.Conv1d, "forward", noted)
    run_dir, _ = run(*tiny, *settings)
    assert {dtype for training, dtype in seen if training} == {torch.bfloat16}
    monkeypatch.undo()
    learnt = weights(run_dir)
    assert {value.dtype for value in learnt.values() if value.is_floating_point()} == {torch.float32}
    half, full = (train(compose_config(*tiny, settings[0], *more)).states[-1] for more in (settings[1:], []))
    assert distance(half, full) > 1e-4
    assert distance(learnt, half) < distance(half, full) / 10


def test_batches_are_of_the_songs_and_sizes_that_were_asked_for(tiny: list[str], monkeypatch) -> None:
    shown: dict[str, list[dict]] = {"training": [], "validation": [], "test": []}
    for stage, batches in shown.items():
        step = getattr(TaggingModule, f"{stage}_step")

        def noted(module: TaggingModule, batch: dict, batch_idx: int, step=step, batches=batches) -> Any:
            batches.append(batch)
            return step(module, batch, batch_idx)

        monkeypatch.setattr(TaggingModule, f"{stage}_step", noted)
    words = ["data.train_songs=6", "data.patches_per_song=3", "data.batch_size=9", "evaluation.batch_size=5"]
    run_dir, metrics = run(*tiny, *words, "data.patch_seconds=0.75")
    assert [tuple(batch["audio"].shape) for batch in shown["training"]] == [(9, 12000)] * 2
    songs = Counter(song for batch in shown["training"] for song in batch["song"].tolist())
    assert songs == dict.fromkeys(range(6), 3)
    patches = {patch.numpy().tobytes() for batch in shown["training"] for patch in batch["audio"]}
    assert len(patches) == 18
    del shown["test"][: len(shown["validation"])]  # of the validation songs again, for the calibration
    for stage in ("validation", "test"):
        sizes = [len(batch["song"]) for batch in shown[stage]]
        assert set(sizes[:-1]) == {5}
        assert 1 <= sizes[-1] <= 5
    assert metrics["songs"] == {"train": 6, "validation": 5, "test": 7}
    with (run_dir / "history.csv").open() as file:
        assert [row["patches"] for row in csv.DictReader(file)] == ["18"]


def test_checkpoints_within_an_epoch_are_written_when_it_is_time(tiny: list[str], tmp_path: Path, monkeypatch) -> None:
    there: list[bool] = []
    step = TaggingModule.training_step

    def training_step(module: TaggingModule, batch: dict, batch_idx: int) -> torch.Tensor:
        there.append(bool(list(tmp_path.glob("runs/*/*/last.ckpt"))))
        return step(module, batch, batch_idx)

    monkeypatch.setattr(TaggingModule, "training_step", training_step)
    often = [*tiny, "data.patches_per_song=2"]
    run(*often, "callbacks.checkpoint.minutes=null", "seed=1")
    assert there == [False] * 6
    there.clear()
    shutil.rmtree(tmp_path / "runs")
    run(*often, "callbacks.checkpoint.minutes=0.00001")
    assert not there[0]
    assert there[-1]


def test_the_intervals_are_those_that_were_asked_for(tiny: list[str]) -> None:
    tests = []
    for confidence, resamples in (("0.95", "200"), ("0.5", "300")):
        words = [f"evaluation.confidence={confidence}", f"evaluation.bootstrap_resamples={resamples}"]
        run_dir, metrics = run(*tiny, *words)
        (run_dir / "metrics.json").unlink()  # whether these settings make another run or not, it is scored again
        tests.append(metrics["test"])
    assert [(test["confidence"], test["resamples"]) for test in tests] == [(0.95, 200), (0.5, 300)]
    wide, narrow = ((test["pr_auc"]["high"] - test["pr_auc"]["low"]) for test in tests)
    assert 0 < narrow < wide
    assert tests[0]["pr_auc"]["value"] == tests[1]["pr_auc"]["value"]


def test_a_spectrogram_is_normalised_by_the_training_songs(tiny: list[str], tmp_path: Path) -> None:
    words = [word for word in tiny if not word.startswith(("frontend", "init_from"))]
    run_dir, metrics = run(*words, "model=spectrogram_small")
    assert (metrics["frontend"], metrics["backend"]) == ("spectrogram_small", "residual")
    tagger = musictag.load(run_dir).network
    assert type(tagger.frontend).__name__ == "MusicallyMotivated"
    assert tagger.backend.norm2.weight.shape == (8,)  # the reference has a single one
    config = compose_config(*words, "data.batch_size=12")
    ((audio, _),) = train_batches(read_splits(Path(config["data"]["path"]))["train"], config, 8000, epoch=0)
    values = tagger.frontend.log_mel(audio).double()
    assert tagger.frontend.normalisation_mean.item() == pytest.approx(values.mean().item(), rel=1e-5)
    assert tagger.frontend.normalisation_std.item() == pytest.approx(values.std(correction=0).item(), rel=1e-5)


@pytest.mark.parametrize("words", [(), ("+trainer.enable_progress_bar=false",), ("+trainer.enable_progress_bar=true",)])
def test_a_terminal_has_a_progress_bar_unless_it_is_switched_off(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("musictag.training.trainer.interactive", lambda: True)
    config, history = compose_config("trainer.accelerator=cpu", *words), History(tmp_path / "history.csv", False)
    trainer = build_trainer(config, tmp_path, history, [], SignalHandler())
    assert (trainer.progress_bar_callback is None) == (words == ("+trainer.enable_progress_bar=false",))


def test_another_seed_begins_with_other_weights(tiny: list[str]) -> None:
    fresh = [word for word in tiny if not word.startswith("init_from")]
    still = [*fresh, "optimizer.lr=0", "data.batch_size=12"]
    assert distance(*(weights(run(*still, f"seed={seed}")[0]) for seed in (0, 1))) > 0.1


@pytest.mark.slow
def test_compiled_training_learns_the_same_and_names_its_weights_alike(tiny: list[str], tmp_path: Path) -> None:
    still = [*tiny, "backend.dropout=0", "scheduler=constant"]  # what a compiled dropout draws is its own affair
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    plain = weights(run(*still)[0])
    assert not torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert results_folder(compose_config(*still, "compile=true")) == results_folder(compose_config(*still))
    run_dir, _ = run(*still, "compile=true", f"runs_dir={tmp_path / 'compiled'}")
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    compiled = weights(run_dir)
    assert compiled.keys() == plain.keys()
    assert distance(compiled, plain) < 1e-3
    assert distance(compiled, read_tagger(still[-3].partition("=")[2]).state) > 1e-3
    assert not any("_orig_mod" in key for key in musictag.load(run_dir).network.state_dict())


@pytest.mark.slow
def test_without_a_compiler_nothing_is_begun(tiny: list[str], tmp_path: Path) -> None:
    environment = os.environ | {"PATH": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, str(ROOT / "train.py"), *tiny, "compile=true"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "compile=true needs a C++ compiler, such as g++; without one use compile=false" in done.stderr
    assert not results_folder(compose_config(*tiny)).exists()
