"""Real runs in separate processes, recorded (see recording/sitecustomize.py) and, on request, sent a signal.

Loading the libraries takes longer than these runs: on Linux, commands are forked from a process that has loaded them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.helpers.experiments import ROOT

TRAIN = (sys.executable, str(ROOT / "train.py"))
#: For CPUs, where batch norm cannot be synchronised.
TWO_PROCESSES = ("trainer=ddp", "trainer.devices=2", "trainer.sync_batchnorm=false")
RECORDING = str(ROOT / "tests" / "helpers" / "recording")
#: Seconds after which a run counts as hung; machines may be slow.
HANGS = 240


def environment(records: Path, hurt: str | None = None, **more: str) -> dict[str, str]:
    """The environment of a process that writes its ``records``, without variables of a cluster or another run."""
    told = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "RECORD_HURT")
    kept = {key: value for key, value in os.environ.items() if key not in told and not key.startswith("SLURM_")}
    records.mkdir(exist_ok=True, parents=True)
    own = {"PYTHONPATH": RECORDING, "RECORD_FOLDER": str(records), "OMP_NUM_THREADS": "1", "COLUMNS": "140"}
    return kept | own | ({"RECORD_HURT": hurt} if hurt else {}) | more


def program(
    name: str, *words: str, environment: Mapping[str, str] | None = None, folder: Path = ROOT, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """`python NAME WORDS` for a file at the root, `python -m NAME WORDS` for a module, in ``folder``, to its end."""
    env = environment or {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "140"}
    if sys.platform != "linux":
        command = [sys.executable, *([str(ROOT / name)] if name.endswith(".py") else ["-m", name]), *words]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, env=env, cwd=folder, timeout=HANGS)
    from tests.helpers.failures import shared_lab

    started = shared_lab().start(
        *words, program=name, environment=env, whole_environment=True, apart=True, folder=folder, stdin=stdin
    )
    return subprocess.CompletedProcess([name, *words], started.wait(), started.stdout, started.stderr)


def run(
    command: Sequence[str], records: Path, hurt: str | None = None, status: int = 0, **more: str
) -> subprocess.CompletedProcess[str]:
    """Runs the command, which must exit with ``status``."""
    env = environment(records, hurt, **more)
    if tuple(command[:2]) == TRAIN:
        done = program("train.py", *command[2:], environment=env)
    else:
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=HANGS)
    assert done.returncode == status, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def batches(records: Path, stage: str) -> list[dict[str, Any]]:
    """What was computed in this stage, by rank, epoch and batch; work done twice appears twice."""
    rows = [json.loads(line) for path in records.glob("*.jsonl") for line in path.read_text().splitlines()]
    chosen = [row for row in rows if row["stage"] == stage]
    return sorted(chosen, key=lambda row: (row["run"], row["rank"], row["epoch"], row["batch"]))


def only_run(runs: Path) -> Path:
    """The one run folder below ``runs``."""
    (folder,) = runs.glob("*/*/config.json")
    return folder.parent


def scores(run_dir: Path) -> dict[str, Any]:
    """The part of metrics.json that must not depend on when, how often and by how many processes a run was made."""
    metrics = json.loads((run_dir / "metrics.json").read_text())
    validation = {key: value for key, value in metrics["validation"].items() if key != "seconds"}
    return {key: metrics[key] for key in ("test", "best_epoch", "epochs", "songs")} | {"validation": validation}


def without_seconds(run_dir: Path) -> list[str]:
    """The rows of history.csv without the last column, the duration of the epoch."""
    return [line.rpartition(",")[0] for line in (run_dir / "history.csv").read_text().splitlines()]
