"""Helpers for tests of whole experiments: the shipped configuration, composed as on the command line, made small."""

from __future__ import annotations

import copy
import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from musictag.experiment.compose import compose
from musictag.experiment.search_path import plugin_folders

ROOT = Path(__file__).resolve().parents[2]

#: A model and a budget that train in a second or two.
TINY = (
    "frontend=waveform",
    "frontend.channels=[8,8,8,8,8,8]",
    "backend=residual",
    "backend.filters=8",
    "backend.dense_units=8",
    "backend.dropout=0.25",
    "backend.batch_norm=per_channel",
    "backend.norm_momentum=0.1",
    "data.patch_seconds=0.5",
    "data.num_workers=0",
    "data.prepare_workers=1",
    "trainer.max_epochs=2",
    "data.batch_size=4",
    "trainer.accelerator=cpu",
    "evaluation.bootstrap_resamples=20",
)

#: Baselines that are fitted in a second or two.
SMALL = ("data.prepare_workers=1", "baseline.threads=1", "evaluation.bootstrap_resamples=20")
SMALL_TREES = ("baseline=gbt", "baseline.min_child_samples=1", "baseline.max_rounds=15", *SMALL)


def folders(tmp_path: Path) -> list[str]:
    """Overrides that keep everything inside ``tmp_path``."""
    return [f"runs_dir={tmp_path / 'runs'}", f"data_dir={tmp_path / 'data'}"]


def compose_config(*overrides: str) -> dict[str, Any]:
    """The configuration that `python train.py OVERRIDES` would run, as plain containers."""
    last = dict(word.partition("=")[::2] for word in overrides)
    places = {key: value for key, value in last.items() if _is_place(key, value)}
    words = (word for word in overrides if word.partition("=")[0] not in places)
    config = copy.deepcopy(_composed((*words, *(f"{key}=/{key}" for key in places)), str(plugin_folders())))
    for key, value in places.items():
        *group, name = key.split(".")
        (config[group[0]] if group else config)[name] = value
    return config


def _is_place(key: str, value: str) -> bool:
    """Whether the folders of two tests differ in it, and nothing else does."""
    places = ("runs_dir", "data_dir", "data.path", "init_from", "teacher")
    return key in places and os.path.isabs(value) and "," not in value


@lru_cache(256)
def _composed(overrides: tuple[str, ...], plugins: str) -> dict[str, Any]:
    """Composing takes a fifth of a second; tests differ in their folders, which are put in afterwards."""
    return compose(overrides)


def run(*overrides: str) -> tuple[Path, dict[str, Any]]:
    """Run `python train.py OVERRIDES` within this process; returns the run folder and metrics.json."""
    from musictag.experiment import run as experiment  # imports Lightning

    config = compose_config(*overrides)
    experiment.run(config)
    run_dir = experiment.results_folder(config)
    return run_dir, json.loads((run_dir / "metrics.json").read_text())
