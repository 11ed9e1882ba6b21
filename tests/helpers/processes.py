"""Real runs in processes of their own, watched (see recording/sitecustomize.py) and, where a test wants it, hurt."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.helpers.experiments import ROOT

TRAIN = (sys.executable, str(ROOT / "train.py"))
#: On CPUs, where batch norm cannot be synchronised.
TWO_PROCESSES = ("trainer=ddp", "trainer.devices=2", "trainer.sync_batch_norm=false")
RECORDING = str(ROOT / "tests" / "helpers" / "recording")
#: Seconds after which a run hangs; machines may be slow.
HANGS = 240


def environment(records: Path, hurt: str | None = None, **more: str) -> dict[str, str]:
    """For a process that writes its ``records``; nothing of a cluster or of another run is left in it."""
    told = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "RECORD_HURT")
    kept = {key: value for key, value in os.environ.items() if key not in told and not key.startswith("SLURM_")}
    records.mkdir(exist_ok=True, parents=True)
    own = {"PYTHONPATH": RECORDING, "RECORD_FOLDER": str(records), "OMP_NUM_THREADS": "1", "COLUMNS": "140"}
    return kept | own | ({"RECORD_HURT": hurt} if hurt else {}) | more


def run(
    command: Sequence[str], records: Path, hurt: str | None = None, status: int = 0, **more: str
) -> subprocess.CompletedProcess[str]:
    """Runs the command, which must end with ``status``."""
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(records, hurt, **more), timeout=HANGS
    )
    assert done.returncode == status, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def batches(records: Path, stage: str) -> list[dict[str, Any]]:
    """What was computed in this stage, by rank, epoch and batch; what was computed twice stands there twice."""
    rows = [json.loads(line) for path in records.glob("*.jsonl") for line in path.read_text().splitlines()]
    chosen = [row for row in rows if row["stage"] == stage]
    return sorted(chosen, key=lambda row: (row["run"], row["rank"], row["epoch"], row["batch"]))


def only_run(runs: Path) -> Path:
    """The one run folder below ``runs``."""
    (folder,) = runs.glob("*/*/config.json")
    return folder.parent


def scores(run_dir: Path) -> dict[str, Any]:
    """What of metrics.json must not depend on when, how often and by how many processes a run was made."""
    metrics = json.loads((run_dir / "metrics.json").read_text())
    validation = {key: value for key, value in metrics["validation"].items() if key != "seconds"}
    return {key: metrics[key] for key in ("test", "best_epoch", "epochs", "songs")} | {"validation": validation}


def without_seconds(run_dir: Path) -> list[str]:
    """The rows of history.csv; its last column is the time that an epoch took."""
    return [line.rpartition(",")[0] for line in (run_dir / "history.csv").read_text().splitlines()]
