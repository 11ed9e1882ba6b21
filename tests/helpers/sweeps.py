"""Sweeps from the command line, and their configuration."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from tests.helpers.experiments import ROOT
from tests.helpers.processes import program

#: Instead of the budget of a study.
FEW = ("trainer.max_epochs=1", "data.patches_per_epoch=8")


def sweep_config(*overrides: str) -> DictConfig:
    """The configuration of a sweep, Hydra's own part included."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    return cfg


def sweep(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python train.py WORDS`, as a person types it."""
    return program("train.py", *words, environment={**os.environ, "OMP_NUM_THREADS": "1", **environment})


def finished(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((tmp_path / "runs").glob("*/*/metrics.json"))]
