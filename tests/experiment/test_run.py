"""Whole experiments through the real entry point and the shipped configuration, on synthetic audio."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import musictag
from musictag import cli
from musictag.common.errors import MusictagError
from musictag.data.audio.decode import read_song
from musictag.experiment import run as experiment
from tests.helpers.experiments import ROOT, TINY, compose_config, folders
from tests.helpers.plain_training import assert_is, read_splits, write_beginning
from tests.helpers.plain_training import train as train_plainly
from tests.helpers.processes import program

TRAIN = (sys.executable, str(ROOT / "train.py"))
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "140"}


def train(*overrides: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """`python train.py OVERRIDES`, as a person types it."""
    done = program("train.py", *overrides)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def comparable(metrics: dict) -> dict:
    """What of metrics.json must not depend on when and how often a run was started."""
    return {key: metrics[key] for key in ("test", "best_epoch", "epochs", "songs", "parameters")} | {
        "validation": {k: v for k, v in metrics["validation"].items() if k != "seconds"}
    }


@pytest.fixture
def tiny(tiny_catalogue: Path, tmp_path: Path) -> list[str]:
    return ["data=catalogue", f"data.path={tiny_catalogue}", *TINY, *folders(tmp_path)]


def test_the_entry_point_leaves_a_finished_run_and_finds_it_again(
    tiny: list[str], tiny_catalogue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = train(*tiny)
    (run_dir,) = (tmp_path / "runs" / tiny_catalogue.stem).iterdir()
    assert run_dir.name.startswith("waveform-residual-")
    assert {path.name for path in run_dir.iterdir()} == {
        "config.json", "history.csv", "last.ckpt", "tagger.safetensors", "predictions.npz", "tags.png", "curves.png",
        "metrics.json",
    }  # fmt: skip
    assert "ROC-AUC" in first.stdout
    assert str(run_dir / "metrics.json") in first.stdout

    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert metrics["epochs"] == 2
    assert len(list(csv.DictReader((run_dir / "history.csv").open()))) == 2
    assert metrics["test"]["songs"] == metrics["songs"]["test"]
    for headline in ("roc_auc", "pr_auc"):
        entry = metrics["test"][headline]
        assert 0 <= entry["low"] <= entry["value"] <= entry["high"] <= 1
    assert metrics["test"]["chance_pr_auc"] == pytest.approx(
        np.mean([tag["prevalence"] for tag in metrics["test"]["tags"] if tag["roc_auc"] is not None])
    )
    assert torch.__version__.startswith(metrics["versions"]["torch"])
    assert metrics["config"]["data"]["batch_size"] == 4
    rows = list(csv.DictReader((run_dir / "history.csv").open()))
    heard, took = 0.5 * sum(int(row["patches"]) for row in rows), sum(float(row["seconds"]) for row in rows)
    assert metrics["speed"]["train_audio_seconds_per_second"] == pytest.approx(heard / took)
    heard = sum(len(audio) for audio in read_splits(tiny_catalogue)["test"].audio) / 16000
    assert metrics["speed"]["test_audio_seconds_per_second"] == pytest.approx(
        heard / metrics["seconds"]["test"], rel=0.1
    )
    assert set(metrics["git"] or {"commit", "changed"}) == {"commit", "changed"}

    predictions = np.load(run_dir / "predictions.npz", allow_pickle=False)
    tagger = musictag.load(run_dir / "tagger.safetensors")
    assert predictions["tags"].tolist() == list(tagger.tag_names)
    assert predictions["scores"].shape == (metrics["songs"]["test"], len(tagger.tag_names))

    # what the test wrote and what tagging a file says are the same numbers
    rows = {row["song_id"]: row["path"] for row in csv.DictReader(tiny_catalogue.open())}
    for song_id, scores in zip(predictions["song_ids"], predictions["scores"], strict=True):
        path = tiny_catalogue.parent / rows[str(song_id)]
        tagged = tagger.tag(path)
        np.testing.assert_allclose([tagged[name] for name in tagger.tag_names], scores, atol=1e-5)
    assert cli.main(["tag", str(path), str(path), "--model", str(run_dir / "tagger.safetensors"), "--json"]) == 0
    (printed,) = json.loads(capsys.readouterr().out).values()
    assert printed == pytest.approx(tagged)

    written = {path: path.stat().st_mtime_ns for path in run_dir.iterdir()}
    second = train(*tiny, "trainer.devices=auto", "data.num_workers=1")
    assert "Finished before" in second.stdout
    assert {path: path.stat().st_mtime_ns for path in run_dir.iterdir()} == written


@pytest.mark.slow
@pytest.mark.parametrize(("after_epochs", "workers"), [(1, 0), (3, 1)])
def test_a_killed_run_ends_as_one_never_killed(
    tiny: list[str], tmp_path: Path, after_epochs: int, workers: int
) -> None:
    tiny = [*tiny, "frontend.norm_momentum=0.2", "backend.norm_momentum=0.2"]
    tiny.append(write_beginning(tmp_path / "beginning.safetensors", compose_config(*tiny)))
    settings = [*tiny, "trainer.max_epochs=6", "scheduler.patience=0", "callbacks.early_stopping.patience=3",
                "optimizer.lr=0.01", f"data.num_workers={workers}"]  # fmt: skip
    whole = compose_config(*settings)
    train(*settings)
    settings.append(f"runs_dir={tmp_path / 'killed'}")
    killed = compose_config(*settings)
    run_dir = experiment.results_folder(killed)
    process = subprocess.Popen(
        [*TRAIN, *settings], env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if (run_dir / "history.csv").exists() and len(
            (run_dir / "history.csv").read_text().splitlines()
        ) > after_epochs:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.002)
    assert process.wait() == -signal.SIGKILL
    assert not (run_dir / "metrics.json").exists()
    checkpointed = (run_dir / "last.ckpt").exists()
    assert ("finished epochs" in train(*settings).stdout) == checkpointed
    resumed, never_killed = experiment.results(killed), experiment.results(whole)
    assert comparable(resumed) == comparable(never_killed)
    predictions = [np.load(experiment.results_folder(config) / "predictions.npz") for config in (whole, killed)]
    np.testing.assert_array_equal(predictions[0]["scores"], predictions[1]["scores"])
    assert_is(run_dir, train_plainly(killed))


def test_a_run_killed_after_early_stopping_trains_no_further_epoch(tiny: list[str]) -> None:
    config = compose_config(*tiny, "optimizer.lr=0", "callbacks.early_stopping.patience=1", "trainer.max_epochs=9")
    metrics = experiment.run(config)
    assert metrics["epochs"] < 9
    run_dir = experiment.results_folder(config)
    (run_dir / "metrics.json").unlink()
    assert comparable(experiment.run(config)) == comparable(metrics)


@pytest.mark.slow
def test_two_processes_score_as_one(tiny: list[str], tmp_path: Path) -> None:
    # nothing is learned, so that both test the very same weights; 7 test songs over 2 ranks
    still = [
        *tiny,
        "optimizer.lr=0",
        "trainer.max_epochs=1",
        "frontend.norm_momentum=0",
        "backend.norm_momentum=0",
    ]
    one = experiment.run(compose_config(*still))
    assert one["songs"]["test"] % 2 == 1
    two = [*still, f"runs_dir={tmp_path / 'two'}"]
    train(
        *two,
        "trainer=ddp",
        "trainer.devices=2",
        "trainer.sync_batchnorm=false",
        *[o for o in still if o.startswith("trainer.")],
    )
    (path,) = (tmp_path / "two").glob("*/*/metrics.json")
    result = json.loads(path.read_text())
    for name in ("roc_auc", "pr_auc"):
        assert result["test"][name]["value"] == pytest.approx(one["test"][name]["value"], abs=1e-6)
    assert result["validation"]["val_loss"] == pytest.approx(one["validation"]["val_loss"], abs=1e-6)
    alone = np.load(next((tmp_path / "runs").glob("*/*/predictions.npz")))
    together = np.load(path.parent / "predictions.npz")
    np.testing.assert_array_equal(alone["song_ids"], together["song_ids"])
    np.testing.assert_allclose(alone["scores"], together["scores"], atol=1e-6)


def test_what_cannot_change_the_result_does_not_change_the_run(tiny: list[str]) -> None:
    plain = experiment.results_folder(compose_config(*tiny))
    same = (
        "logger=wandb",
        "trainer=ddp",
        "trainer.devices=2",
        "+trainer.log_every_n_steps=3",
        "callbacks.checkpoint.minutes=1",
        "data.num_workers=7",
        "study=a",
        "evaluation.batch_size=3",
        "trainer.accelerator=auto",
    )
    assert experiment.results_folder(compose_config(*tiny, *same)) == plain
    for other in (
        "seed=1",
        "optimizer.lr=0.01",
        "data.patch_seconds=0.6",
        "loss=mse",
        "backend.filters=9",
    ):
        assert experiment.results_folder(compose_config(*tiny, other)) != plain


def test_a_catalogue_with_other_songs_is_another_run(tiny: list[str], tiny_catalogue: Path) -> None:
    config = compose_config(*tiny)
    before = experiment.results_folder(config)
    lines = tiny_catalogue.read_text().splitlines()
    tiny_catalogue.write_text("\n".join(lines[:-1]) + "\n")
    assert experiment.results_folder(config) != before


def test_a_mended_file_makes_another_run(tiny: list[str], tiny_catalogue: Path) -> None:
    config = compose_config(*tiny)
    before = experiment.results_folder(config)
    path = next(tiny_catalogue.parent.rglob("*.wav"))
    os.utime(path, ns=(1, 1))
    assert experiment.results_folder(config) != before


def test_a_number_is_the_same_however_it_is_written(tiny: list[str]) -> None:
    one, other = (compose_config(*tiny, f"data.patch_seconds={text}") for text in ("1", "1.0"))
    assert experiment.results_folder(one) == experiment.results_folder(other)
    assert experiment.results_folder(compose_config(*tiny, "data.patch_seconds=1.5")) != experiment.results_folder(one)


def test_results_that_cannot_be_logged_are_results_all_the_same(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path))
    config = compose_config(*tiny, "logger=wandb", "logger.wandb.audio_songs=-1", "trainer.max_epochs=1")
    with pytest.warns(UserWarning, match="Weights & Biases failed"):
        metrics = experiment.run(config)
    assert experiment.results(config)["test"] == metrics["test"]
    assert not (experiment.results_folder(config) / "error.txt").exists()


@pytest.mark.slow
def test_each_job_of_a_multirun_has_its_process_and_a_failing_one_stops_nothing(
    tiny: list[str], tmp_path: Path
) -> None:
    done = train("-m", *tiny, "data.patch_seconds=0.01,0.5", "trainer.max_epochs=1")
    finished = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/*/metrics.json")]
    assert [metrics["config"]["data"]["patch_seconds"] for metrics in finished] == [0.5]
    assert "data.patch_seconds" in done.stderr


def test_songs_survive_the_whole_pipeline_sample_for_sample(tiny: list[str], tiny_catalogue: Path) -> None:
    config = compose_config(*tiny)
    source = experiment.build_source(config)
    rows = {row["song_id"]: row["path"] for row in csv.DictReader(tiny_catalogue.open())}
    reader = source.reader()
    for song_id, path in list(rows.items())[:3]:
        manifest = source.manifest()
        stored = reader(song_id, str(manifest.paths[list(manifest.song_ids).index(song_id)]))
        np.testing.assert_array_equal(stored, read_song(tiny_catalogue.parent / path))


def test_a_checkpoint_of_another_tag_list_is_not_resumed(tiny: list[str]) -> None:
    config = compose_config(*tiny)
    experiment.run(config)
    run_dir = experiment.results_folder(config)
    checkpoint = torch.load(run_dir / "last.ckpt", weights_only=True)
    checkpoint["hyper_parameters"]["tagger"]["tags"][0]["name"] = "something else"
    torch.save(checkpoint, run_dir / "last.ckpt")
    (run_dir / "metrics.json").unlink()
    with pytest.raises(MusictagError, match=r"trained for other tags .*something else"):
        experiment.run(config)
    (run_dir / "last.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(MusictagError, match="is damaged"):
        experiment.run(config)
