"""Jobs of submitit: told to go, a job saves, goes back into the queue, and ends as one never told to."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.helpers.experiments import TINY
from tests.helpers.processes import (
    HANGS,
    TRAIN,
    TWO_PROCESSES,
    batches,
    environment,
    only_run,
    run,
    scores,
    without_seconds,
)

pytestmark = pytest.mark.slow


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize("processes", [1, 2])
def test_a_job_of_submitit_that_is_pre_empted_goes_on(tiny_catalogue: Path, tmp_path: Path, processes: int) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    tiny = ["data=catalogue", f"data.path={tiny_catalogue}", *TINY, f"data_dir={tmp_path / 'data'}",
            f"data.batch_size={2 * processes}", f"data.patches_per_song={8 * processes}"]  # fmt: skip
    if processes == 2:
        tiny += TWO_PROCESSES
    run([*TRAIN, *tiny, f"runs_dir={tmp_path / 'whole'}"], tmp_path / "record")
    records = tmp_path / "records"
    job = [*TRAIN, "-m", "seed=0", *tiny, f"runs_dir={tmp_path / 'runs'}", "hydra/launcher=submitit_local"]
    with open(tmp_path / "log", "w+") as log:
        process = subprocess.Popen(job, env=environment(records), stdout=log, stderr=log)
        give_up = time.monotonic() + HANGS
        while not batches(records, "train"):
            assert process.poll() is None, log.read()
            assert time.monotonic() < give_up
            time.sleep(0.05)
        # the first process of the run is a child of submitit's, which is what Slurm would tell
        starter = min(int(path.stem) for path in records.glob("*.jsonl"))
        os.kill(parent_of(starter), signal.SIGUSR2)
        assert process.wait(timeout=HANGS) == 0, log.read()
    run_dir = only_run(tmp_path / "runs")
    assert scores(run_dir) == scores(only_run(tmp_path / "whole"))
    assert without_seconds(run_dir) == without_seconds(only_run(tmp_path / "whole"))
    assert len({path.stem for path in records.glob("*.jsonl")}) == 2 * processes  # it was started twice
    assert len(batches(records, "train")) == len(batches(tmp_path / "record", "train"))
    said = "".join(path.read_text() for path in tmp_path.glob("runs/multirun/.submitit/*/*.out"))
    assert "SIGUSR2" in said + "".join(p.read_text() for p in tmp_path.glob("runs/multirun/.submitit/*/*.err"))
