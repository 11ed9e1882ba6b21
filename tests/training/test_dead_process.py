"""A process that dies ends its run within a minute, with a status and a reason, and never a hang; a sweep goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from musictag.training.distributed.launcher import dead_process
from tests.helpers.experiments import TINY, folders
from tests.helpers.processes import TRAIN, TWO_PROCESSES, batches, environment, only_run, run, scores

SOON = 60  # seconds


@pytest.fixture
def tiny(tiny_catalogue: Path, tmp_path: Path) -> list[str]:
    return ["data=catalogue", f"data.path={tiny_catalogue}", *TINY, *folders(tmp_path), *TWO_PROCESSES]


def hurt_and_watch(command: list[str], records: Path, hurt: str) -> tuple[int, float, str]:
    """Status, seconds from the injury to the end of all processes, and what was said."""
    with open(records.with_suffix(".log"), "w+") as log:
        process = subprocess.Popen(command, env=environment(records, hurt), stdout=log, stderr=log)
        try:
            give_up = time.monotonic() + 240
            while not (records / "hurt").exists():
                assert process.poll() is None, log.read()
                assert time.monotonic() < give_up
                time.sleep(0.05)
            began = time.monotonic()
            status = process.wait(timeout=2 * SOON)
            pids = [int(path.stem) for path in records.glob("*.jsonl")]
            while any(Path(f"/proc/{pid}").exists() for pid in pids):
                assert time.monotonic() - began < 2 * SOON, "a process lives on"
                time.sleep(0.05)
        finally:
            process.kill()
        log.seek(0)
        return status, time.monotonic() - began, log.read()


@pytest.mark.parametrize(
    ("launcher", "where", "status"),
    [
        pytest.param("lightning", "train:1:1:1", 1, marks=pytest.mark.slow),
        pytest.param("lightning", "train:0:1:1", -signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param("lightning", "validation:1:0:0", 1, marks=pytest.mark.slow),
        pytest.param("lightning", "test:1:0:0", 1, marks=pytest.mark.slow),
        pytest.param("torchrun", "train:1:1:1", 1, marks=pytest.mark.slow),
        pytest.param("torchrun", "train:0:1:1", 1, marks=pytest.mark.slow),
    ],
)
def test_a_killed_process_ends_the_run_with_its_reason(
    tiny: list[str], tmp_path: Path, launcher: str, where: str, status: int
) -> None:
    command = [*TRAIN, *tiny]
    if launcher == "torchrun":
        command[1:1] = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    records = tmp_path / "records"
    ended, seconds, said = hurt_and_watch(command, records, f"SIGKILL:{where}")
    assert ended == status, said
    assert seconds < SOON
    run_dir = only_run(tmp_path / "runs")
    if where.split(":")[1] == "1" and launcher == "lightning":
        reason = (run_dir / "error.txt").read_text()
        assert "rank 1 of this run's 2 processes was killed by SIGKILL" in reason
        assert reason.strip() in said
    elif launcher == "lightning":
        # a broken connection tells, and where none is open, the parent that is another one
        reason = (run_dir / "error.txt").read_text()
        assert "rank 1 of 2 processes lost the others" in reason or "rank 0 of this run, which started" in reason
        assert reason.strip() in said
    else:
        assert "Signal 9 (SIGKILL)" in said  # torchrun's report
    assert not (run_dir / "metrics.json").exists()


@pytest.mark.slow
def test_a_run_of_which_a_process_was_killed_goes_on_to_the_same_end(tiny: list[str], tmp_path: Path) -> None:
    records = tmp_path / "records"
    hurt_and_watch([*TRAIN, *tiny], records, "SIGKILL:train:1:1:1")
    run([*TRAIN, *tiny], records)
    run([*TRAIN, *tiny, f"runs_dir={tmp_path / 'whole'}"], tmp_path / "record")
    run_dir = only_run(tmp_path / "runs")
    assert scores(run_dir) == scores(only_run(tmp_path / "whole"))
    assert not (run_dir / "error.txt").exists()


@pytest.mark.slow
def test_a_frozen_process_ends_the_run_when_its_time_is_up(tiny: list[str], tmp_path: Path) -> None:
    records = tmp_path / "records"
    words = [*TRAIN, *tiny, "trainer.strategy.timeout.minutes=0.25"]
    status, seconds, said = hurt_and_watch(words, records, "SIGSTOP:train:1:1:1")
    assert status == 1, said
    assert seconds < 2 * SOON
    assert only_run(tmp_path / "runs").joinpath("error.txt").exists()


@pytest.mark.slow
def test_a_sweep_goes_on_after_a_job_of_which_a_process_died(tiny: list[str], tmp_path: Path) -> None:
    records = tmp_path / "records"
    words = ["-m", "seed=0,1", *tiny]
    run([*TRAIN, *words], records, hurt="SIGKILL:train:1:1:1")
    (dead,) = (tmp_path / "runs").glob("*/*/error.txt")
    (finished,) = (tmp_path / "runs").glob("*/*/metrics.json")
    assert "was killed by SIGKILL" in dead.read_text()
    assert json.loads(finished.read_text())["seed"] == 1
    run([*TRAIN, *words], records)
    assert len(list((tmp_path / "runs").glob("*/*/metrics.json"))) == 2


@pytest.mark.slow
@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_sweep_that_is_stopped_saves_its_job_and_ends(
    tiny: list[str], tmp_path: Path, name: str, status: int
) -> None:
    records = tmp_path / "records"
    words = [*TRAIN, "-m", "seed=0,1", *tiny, "trainer.devices=1", "trainer.max_epochs=400",
             "callbacks.early_stopping=null"]  # fmt: skip
    process = subprocess.Popen(words, env=environment(records), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, start_new_session=True)  # fmt: skip
    while len(batches(records, "train")) < 5 and process.poll() is None:
        time.sleep(0.1)
    if name == "SIGINT":
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    else:
        process.terminate()
    said = process.communicate(timeout=120)[0]
    assert process.returncode == status, said
    assert "has saved" in said or "is saved" in said
    assert [path.name for path in (tmp_path / "runs").glob("*/*/*.ckpt")].count("last.ckpt") == 1
    assert not list((tmp_path / "runs").glob("*/*/error.txt"))
    assert {row["run"] for row in batches(records, "train")} == {only_run(tmp_path / "runs").name}


def test_a_dead_process_is_described() -> None:
    codes = ("pass", "raise SystemExit(3)", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    ended = [subprocess.Popen([sys.executable, "-c", code]) for code in codes]
    for process in ended:
        process.wait()
    assert dead_process([]) is None
    assert dead_process(ended[:1]) is None
    assert dead_process(ended[:2]) == "rank 2 of this run's 3 processes ended with status 3"
    assert "rank 1 of this run's 2 processes was killed by SIGKILL (perhaps the" in dead_process(ended[2:])
    dying = [
        subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read(); sys.exit(3)"], stdin=subprocess.PIPE)
    ]
    assert dead_process(dying, within_seconds=0.1) is None
    dying[0].stdin.close()
    assert dead_process(dying, within_seconds=60) == "rank 1 of this run's 2 processes ended with status 3"
