"""Whoever is asked to stop saves first, in the middle of an epoch, too; what goes on from there ends the same."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from musictag.experiment.sweeps.slurm import requeue
from musictag.training.signals import SignalHandler, Stopped
from tests.helpers.experiments import TINY, compose_config
from tests.helpers.plain_training import assert_is, train, write_beginning
from tests.helpers.processes import TRAIN, TWO_PROCESSES, batches, only_run, run, scores, without_seconds

#: 24 batches of two patches an epoch, with dropout, a schedule that steps by batch, and accumulated gradients.
LONG = (
    "data.batch_size=2", "data.patches_per_song=4", "scheduler=one_cycle", "trainer.accumulate_grad_batches=2",
    "frontend.norm_momentum=0.2", "backend.norm_momentum=0.2",
)  # fmt: skip


@pytest.fixture
def tiny(tiny_catalogue: Path, tmp_path: Path) -> list[str]:
    words = ["data=catalogue", f"data.path={tiny_catalogue}", *TINY, *LONG, f"data_dir={tmp_path / 'data'}"]
    return [*words, write_beginning(tmp_path / "beginning.safetensors", compose_config(*words))]


def assert_the_same(one: Path, other: Path, rows: tuple[list, list] | None = None) -> None:
    """Two runs, one of which was interrupted: bit for bit the same."""
    assert scores(one) == scores(other)
    assert without_seconds(one) == without_seconds(other)
    predictions = [np.load(folder / "predictions.npz") for folder in (one, other)]
    np.testing.assert_array_equal(predictions[0]["scores"], predictions[1]["scores"])
    states = [torch.load(folder / "last.ckpt", weights_only=True)["state_dict"] for folder in (one, other)]
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
    assert not [path for path in other.rglob("*") if path.suffix == ".part" or path.name == "error.txt"]


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("SIGTERM", 143, []),
        pytest.param("SIGINT", 130, ["data.num_workers=2"], marks=pytest.mark.slow),
        pytest.param("SIGUSR2", 140, ["trainer.accumulate_grad_batches=1"], marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_stopped_saves_and_ends_as_one_never_stopped(
    tiny: list[str], tmp_path: Path, name: str, status: int, words: list[str]
) -> None:
    whole, stopped = ([*TRAIN, *tiny, *words, f"runs_dir={tmp_path / name}"] for name in ("whole", "stopped"))
    run(whole, tmp_path / "record")
    records = tmp_path / "records"
    done = run(stopped, records, hurt=f"{name}:train:0:1:7", status=status)
    assert f"{name}: saving after this batch" in done.stderr
    assert f"stopped by {name}: finished work is saved" in done.stdout
    assert "Traceback" not in done.stderr
    run_dir = only_run(tmp_path / "stopped")
    assert (run_dir / "last.ckpt").exists()
    assert not (run_dir / "error.txt").exists()
    before = batches(records, "train")
    assert before[-1]["batch"] < 12  # the epoch has 24
    assert "after 1 finished epochs" in run(stopped, records).stdout
    # each batch once, with the same patches
    kept = ("epoch", "batch", "songs", "audio")
    both = [
        [{key: row[key] for key in kept} for row in batches(folder, "train")]
        for folder in (tmp_path / "record", records)
    ]
    assert both[0] == both[1]
    assert_the_same(only_run(tmp_path / "whole"), run_dir)
    assert_is(run_dir, train(compose_config(*tiny, *words)))


@pytest.mark.slow
def test_all_processes_stop_after_the_same_batch(tiny: list[str], tmp_path: Path) -> None:
    """One of two hears the signal; resumed by two, the run ends as one never stopped."""
    each_two = ["data.batch_size=4", "data.patches_per_song=8"]  # patches in each process, as batch norm needs
    both = [*TRAIN, *TWO_PROCESSES, *tiny, *each_two]
    whole, stopped = ([*both, f"runs_dir={tmp_path / name}"] for name in ("whole", "stopped"))
    run(whole, tmp_path / "record")
    records = tmp_path / "records"
    run(stopped, records, hurt="SIGTERM:train:1:0:5", status=143)
    last = {row["rank"]: row["batch"] for row in batches(records, "train")}
    assert last[0] == last[1] < 12
    run(stopped, records)
    assert len(batches(records, "train")) == 2 * 2 * 24
    assert_the_same(only_run(tmp_path / "whole"), only_run(tmp_path / "stopped"))


@pytest.mark.slow
def test_a_killed_run_goes_on_from_the_middle_of_its_epoch(tiny: list[str], tmp_path: Path) -> None:
    """kill -9 leaves no time to save: what is lost is what came after the last checkpoint within the epoch."""
    whole, killed = ([*TRAIN, *tiny, f"runs_dir={tmp_path / name}"] for name in ("whole", "killed"))
    run(whole, tmp_path / "record")
    records = tmp_path / "records"
    often = "callbacks.checkpoint.minutes=0.00001"
    run([*killed, often], records, hurt="SIGKILL:train:0:1:13", status=-signal.SIGKILL)
    run([*killed, often], records)
    trained = [row["batch"] for row in batches(records, "train") if row["epoch"] == 1]
    assert len(trained) < 24 + 6  # a few of 24 came twice
    assert_the_same(only_run(tmp_path / "whole"), only_run(tmp_path / "killed"))
    assert_is(only_run(tmp_path / "killed"), train(compose_config(*tiny)))


@pytest.mark.slow
@pytest.mark.parametrize("where", ["validation:0:0:1", "test:0:0:1", "train:0:1:23", "train:0:0:22"])
def test_a_signal_at_any_time_loses_nothing(tiny: list[str], tmp_path: Path, where: str) -> None:
    whole, stopped = ([*TRAIN, *tiny, f"runs_dir={tmp_path / name}"] for name in ("whole", "stopped"))
    small = "evaluation.batch_size=4"  # several batches
    run([*whole, small], tmp_path / "record")
    records = tmp_path / "records"
    run([*stopped, small], records, hurt=f"SIGTERM:{where}", status=143)
    assert only_run(tmp_path / "stopped").joinpath("last.ckpt").exists()
    run([*stopped, small], records)
    assert len(batches(records, "train")) == len(batches(tmp_path / "record", "train"))
    assert_the_same(only_run(tmp_path / "whole"), only_run(tmp_path / "stopped"))


#: What of Slurm is asked: it writes down the words, and says in which state the job is.
SCONTROL = """#!/bin/sh
echo "$@" >> "$SCONTROL_LOG"
[ "$1" = show ] && echo "JobId=4711 JobName=x JobState=$SCONTROL_STATE Reason=None"
exit ${SCONTROL_STATUS:-0}
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The words that a stand-in of scontrol got."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/scontrol").write_text(SCONTROL)
    (tmp_path / "bin/scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("SCONTROL_LOG", str(tmp_path / "asked"))
    monkeypatch.setenv("SCONTROL_STATE", "RUNNING")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SUBMITIT_EXECUTOR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "asked").touch()
    return tmp_path / "asked"


@pytest.mark.parametrize(
    ("name", "told", "asked"),
    [
        ("SIGTERM", {}, ["show job -o 4711", "requeue 4711"]),
        ("SIGUSR1", {}, ["show job -o 4711", "requeue 4711"]),
        ("SIGUSR2", {"SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3"}, ["show job -o 12_3", "requeue 12_3"]),
        ("SIGTERM", {"SCONTROL_STATE": "CANCELLED"}, ["show job -o 4711"]),
        ("SIGTERM", {"SUBMITIT_EXECUTOR": "slurm"}, ["show job -o 4711", "requeue 4711"]),
        ("SIGUSR2", {"SUBMITIT_EXECUTOR": "slurm"}, []),  # submitit does
        ("SIGINT", {}, []),
        ("SIGTERM", {"SLURM_JOB_ID": "1; touch x"}, []),
    ],
)
def test_a_job_of_slurm_goes_back_into_the_queue(
    slurm: Path, monkeypatch: pytest.MonkeyPatch, name: str, told: dict[str, str], asked: list[str]
) -> None:
    for key, value in told.items():
        monkeypatch.setenv(key, value)
    said = requeue(getattr(signal, name))
    assert slurm.read_text().splitlines() == asked
    assert (said is None) == (not asked)
    assert ("is requeued" in (said or "")) == any("requeue" in words for words in asked)


def test_a_queue_that_refuses_is_told(slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCONTROL_STATUS", "1")
    assert "could not be requeued" in requeue(signal.SIGTERM)
    monkeypatch.setenv("PATH", "/nowhere")
    assert "submit it again" in requeue(signal.SIGUSR1)


@pytest.mark.slow
def test_a_pre_empted_job_saves_and_is_put_back(tiny: list[str], tmp_path: Path, slurm: Path) -> None:
    records = tmp_path / "records"
    told = {key: os.environ[key] for key in ("PATH", "SCONTROL_LOG", "SCONTROL_STATE")} | {
        "SLURM_JOB_ID": "4711", "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0",
        "SLURM_JOB_NAME": "musictag", "SLURM_NODELIST": "localhost",
    }  # fmt: skip
    words = [*TRAIN, *tiny, f"runs_dir={tmp_path / 'runs'}"]
    done = run(words, records, hurt="SIGTERM:train:0:0:5", status=143, **told)
    assert slurm.read_text().splitlines() == ["show job -o 4711", "requeue 4711"]
    assert "Slurm job 4711 is requeued" in done.stdout
    assert "after 0 finished epochs" in run(words, records, **told).stdout
    assert len(batches(records, "train")) == 2 * 24


def test_signals_are_heard_in_the_main_thread_alone_and_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    signal_handler = SignalHandler()
    with signal_handler.installed():
        assert signal.getsignal(signal.SIGTERM) != before
        with pytest.raises(Stopped, match="stopped by SIGTERM"):
            os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before

    heard = []

    def elsewhere() -> None:
        with SignalHandler().installed():
            heard.append(signal.getsignal(signal.SIGTERM) == before)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert heard == [True]


def test_nobody_need_read_what_is_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    """In `python train.py 2>&1 | tee log`, Ctrl-C stops tee, too."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        monkeypatch.setattr("sys.__stderr__", closed)
        handler = SignalHandler(promise="saving")
        with handler.installed():
            handler.defer(True)
            os.kill(os.getpid(), signal.SIGINT)
            assert handler.signum == signal.SIGINT


def test_while_training_a_signal_waits_and_a_second_ctrl_c_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    signal_handler = SignalHandler()
    with signal_handler.installed():
        signal_handler.defer(True)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)  # the same press, which came through the parent, too
        assert signal_handler.signum == signal.SIGINT
        monkeypatch.setattr(signal_handler, "_received_at", signal_handler._received_at - 10)
        os.kill(os.getpid(), signal.SIGTERM)  # who pre-empts may say so often
        with pytest.raises(Stopped, match="SIGINT"):
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Stopped):
            signal_handler.defer(False)
