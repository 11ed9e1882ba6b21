"""Weights & Biases, recorded for real, offline."""

from __future__ import annotations

import csv
import os
import signal
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from musictag.experiment import run as experiment
from musictag.experiment.tracking import wandb_session as wandb_runs
from musictag.experiment.tracking.tracker import curve_names, make_tracker, precision_recall_rows, summary
from musictag.experiment.tracking.wandb_session import has_api_key, run_id
from tests.helpers.experiments import ROOT, TINY, compose_config, folders
from tests.helpers.wandb_files import read, recorded, wait_for
from tests.helpers.wandb_server import wandb_server

pytestmark = pytest.mark.usefixtures("nobody_is_logged_in")


def tiny(catalogue: Path, tmp_path: Path, *more: str) -> dict[str, Any]:
    return compose_config(
        "data=catalogue", f"data.path={catalogue}", *TINY, *folders(tmp_path), "logger=wandb", "study=a study", *more
    )


def test_a_run_is_recorded_offline_with_everything_and_says_where(
    tiny_catalogue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_X_STATS_SAMPLING_INTERVAL", "0.1")
    config = tiny(tiny_catalogue, tmp_path, "logger.wandb.audio_songs=3")
    metrics = experiment.run(config)
    run_dir = experiment.results_folder(config)
    assert f"recording offline in {run_dir / 'wandb'}" in capsys.readouterr().out
    folder, record = recorded(run_dir)
    assert (record.run.run_group, record.run.job_type, record.run.project) == ("a study", "train", "musictag")
    assert record.run.run_id == run_dir.name.replace("_", "-")
    assert list(record.run.tags) == ["waveform", "residual"]
    assert record.config["system"] == "waveform+residual"
    assert record.config["trainer"]["max_epochs"] == 2
    assert record.exit_code == 0

    test = metrics["test"]
    assert record.summary["test_roc_auc"] == pytest.approx(test["roc_auc"]["value"])
    assert record.summary["test_pr_auc_low"] == pytest.approx(test["pr_auc"]["low"])
    assert record.summary["train_songs"] == metrics["songs"]["train"]
    assert record.summary["parameters"] == metrics["parameters"]
    assert record.summary["test_rmse_high"] == pytest.approx(test["rmse"]["high"])
    assert record.summary["best_val_loss"] == pytest.approx(metrics["validation"]["val_loss"])
    assert (record.summary["epochs"], record.summary["best_epoch"]) == (2, metrics["best_epoch"])
    assert record.summary["seconds_train"] == metrics["seconds"]["train"]
    assert summary(metrics).items() <= record.summary.items()

    # the curves are history.csv
    with (run_dir / "history.csv").open() as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    for row in rows:
        row["patches_per_second"] = row["patches"] / row["seconds"]
    logged = {name: {row["epoch"]: row[name] for row in record.history if name in row} for name in curve_names()}
    for name, curve in logged.items():
        assert curve == pytest.approx({row["epoch"]: row[name] for row in rows}, rel=1e-6), name
    assert all(record.axes[name] == "epoch" for name in curve_names())

    tags = record.table(folder, "tags")
    assert tags["columns"][:2] == ["name", "kind"]
    assert [dict(zip(tags["columns"], row, strict=True)) for row in tags["data"]] == test["tags"]
    songs = record.table(folder, "songs")
    assert songs["columns"] == ["song", "audio", "true tags", "predicted tags"]
    predictions = np.load(run_dir / "predictions.npz")
    assert [row[0] for row in songs["data"]] == predictions["song_ids"][[0, 3, 6]].tolist()
    for row, song in zip(songs["data"], (0, 3, 6), strict=True):
        two = dict(zip(("high", "noisy"), predictions["scores"][song, :2], strict=True))
        assert row[2] == ", ".join(tag for k, tag in enumerate(two) if predictions["targets"][song, k] == 1)
        assert row[3] == ", ".join(f"{tag} {two[tag]:.2f}" for tag in sorted(two, key=lambda tag: -two[tag]))
    staged = (path for path in (run_dir / "wandb" / "artifacts").rglob("*") if path.is_file())
    clips = [path for path in staged if path.read_bytes()[:4] == b"RIFF"]
    assert len(clips) == 3
    assert all(soundfile.info(clip).samplerate == 16000 for clip in clips)

    assert {"cpu", "memory_percent", "proc.memory.rssMB"} <= record.system  # W&B's own, once in 15 s by default


def test_a_run_without_a_trainer_is_recorded_too(tiny_catalogue: Path, tmp_path: Path) -> None:
    config = tiny(tiny_catalogue, tmp_path)
    config["names"] |= {"frontend": None, "backend": None, "baseline": "gbt"}
    tracker = make_tracker(config, tmp_path / "gbt-01234567")
    tracker.start()
    tracker.log_table("importances", ["tag", "feature", "gain"], [("a", "centroid mean", 0.5), ("b", "tempo", None)])
    tracker.close(exit_code=0)
    folder, record = recorded(tmp_path / "gbt-01234567")
    assert list(record.run.tags) == ["gbt"]
    assert record.config["system"] == "gbt"
    assert record.table(folder, "importances")["data"] == [["a", "centroid mean", 0.5], ["b", "tempo", None]]


def test_a_run_that_fails_before_it_begins_leaves_nothing(tiny_catalogue: Path, tmp_path: Path) -> None:
    tracker = make_tracker(tiny(tiny_catalogue, tmp_path), tmp_path / "run-01234567")
    assert tracker.loggers
    tracker.close(exit_code=1)
    assert not (tmp_path / "run-01234567").exists()


def test_where_nothing_answers_the_run_goes_on_offline(
    tiny_catalogue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    config = tiny(
        tiny_catalogue, tmp_path, "logger.wandb.audio_songs=0", "logger.wandb.start_seconds=1", "trainer.max_epochs=1"
    )
    began = time.perf_counter()
    with pytest.warns(UserWarning, match="Weights & Biases does not work online: "):
        experiment.run(config)
    assert time.perf_counter() - began < 60  # W&B itself would wait for 90 s
    _, record = recorded(experiment.results_folder(config))
    assert "test_roc_auc" in record.summary


def test_a_mistyped_key_is_no_reason_to_stop(
    tiny_catalogue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "mistyped")
    tracker = make_tracker(tiny(tiny_catalogue, tmp_path), tmp_path / "run-01234567")
    with pytest.warns(UserWarning, match="does not work online: .*API key"):
        tracker.start()
    tracker.close(exit_code=0)
    assert recorded(tmp_path / "run-01234567")[1].exit_code == 0


def test_switched_off_it_records_nothing(tiny_catalogue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    config = tiny(tiny_catalogue, tmp_path, "trainer.max_epochs=1")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Weights & Biases")
        experiment.run(config)
    assert not (experiment.results_folder(config) / "wandb").exists()


def test_when_the_server_vanishes_the_end_does_not_wait_for_it(
    tiny_catalogue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(wandb_runs, "UPLOAD_SECONDS", 1.0)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.address)
        tracker = make_tracker(tiny(tiny_catalogue, tmp_path), tmp_path / "run-01234567")
        tracker.start()
    (began,) = (asked for name, asked in server.asked if name == "UpsertBucket")
    assert (began["groupName"], began["jobType"], began["name"]) == ("a study", "train", "run-01234567")
    assert f"Weights & Biases: {server.address}/somebody/" in capsys.readouterr().out
    tracker.loggers[0].log_metrics({"epoch": 0, "val_loss": 0.5})
    began = time.perf_counter()
    with pytest.warns(UserWarning, match=r"did not receive the whole run \(TimeoutError: .*wandb sync .*/wandb/run-"):
        tracker.close(exit_code=0)
    assert time.perf_counter() - began < 60  # W&B itself would wait on and on
    (folder,) = (tmp_path / "run-01234567" / "wandb").glob("run-*")
    assert wait_for(lambda: [row["val_loss"] for row in read(folder).history] == [0.5])


def test_when_its_service_dies_the_work_goes_on(tiny_catalogue: Path, tmp_path: Path) -> None:
    tracker = make_tracker(tiny(tiny_catalogue, tmp_path), tmp_path / "run-01234567")
    tracker.loggers[0].log_metrics({"epoch": 0, "val_loss": 0.5})
    os.kill(service_of_wandb(), signal.SIGKILL)
    with warnings.catch_warnings(record=True) as said:
        for epoch in range(1, 50):  # what is sent first may still find room in a buffer
            tracker.loggers[0].log_metrics({"epoch": epoch, "val_loss": 0.5})
            time.sleep(0.01)
        tracker.close(exit_code=0)
    assert [str(warning.message)[:24] for warning in said] == ["Weights & Biases failed ", "Weights & Biases did not"]
    assert "wandb sync" in str(said[-1].message)
    following = make_tracker(tiny(tiny_catalogue, tmp_path), tmp_path / "run-89abcdef")
    following.start()
    following.close(exit_code=0)
    assert recorded(tmp_path / "run-89abcdef")[1].exit_code == 0


def service_of_wandb() -> int:
    """The process that this one has started to record for it."""
    for status in Path("/proc").glob("[0-9]*/status"):
        text = status.read_text()
        if "Name:\twandb-core" in text and f"PPid:\t{os.getpid()}\n" in text:
            return int(status.parent.name)
    raise AssertionError("there is no wandb-core")


def test_a_key_is_found_where_wandb_login_puts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not has_api_key()
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password 0123456789\n")
    assert has_api_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert not has_api_key()
    monkeypatch.setenv("WANDB_API_KEY", "0123456789")
    assert has_api_key()


def test_ids_are_letters_digits_and_dashes() -> None:
    assert run_id("report", "my/catalogue", "a study: 2") == "report-my-catalogue-a-study-2"


def test_precision_and_recall_of_a_ranking() -> None:
    scores = np.array([[0.9], [0.8], [0.7], [0.1], [0.5]])
    targets = np.array([[1.0], [0.0], [1.0], [0.0], [np.nan]])
    rows = precision_recall_rows(scores, targets, [{"name": "a", "pr_auc": 0.8}])
    assert rows == [("a", 0.5, 1.0), ("a", 0.5, 0.5), ("a", 1.0, pytest.approx(2 / 3)), ("a", 1.0, 0.5)]
    assert precision_recall_rows(scores, targets, [{"name": "a", "pr_auc": None}]) == []


def test_the_guide_names_every_key() -> None:
    guide = (ROOT / "docs" / "wandb.md").read_text()
    names = {"roc_auc": {"value": 0.5, "low": 0.4, "high": 0.6}, "pr_auc": None, "rmse": None}
    metrics = {
        "test": names | {"chance_pr_auc": 0.1, "tags_scored": 3},
        "songs": {"train": 1, "validation": 1, "test": 1},
        "validation": {"val_loss": 0.25, "val_roc_auc": 0.75},
        "speed": {"train_audio_seconds_per_second": 1.0},
        "seconds": {},
    } | dict.fromkeys(("parameters", "parameters_trained", "epochs", "best_epoch"), 1)
    shown = summary(metrics)
    assert (shown["best_val_loss"], shown["best_val_roc_auc"], shown["test_roc_auc_high"]) == (0.25, 0.75, 0.6)
    keys = {key.removesuffix("_low").removesuffix("_high") for key in shown}
    assert [key for key in (*keys, *curve_names(), "tags", "pr_curves", "songs") if f"`{key}`" not in guide] == []
    assert "test_pr_auc" not in keys
