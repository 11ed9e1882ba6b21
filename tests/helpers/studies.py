"""Finished runs of studies with known true scores: simulated predictions, written as an experiment writes them.

Legend: S songs, K tags.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from math import log2, sqrt
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from musictag.common.files import write_json
from musictag.evaluation.song_metrics import song_metrics
from tests.helpers.experiments import compose_config


class System(NamedTuple):
    """``family``: waveform, spectrogram, baseline; expected ROC-AUC under the first condition, and gain per step."""

    family: str
    roc_auc: float
    gain: float


#: Waveform overtakes spectrogram two doublings above the smallest size.
SYSTEMS = {"waveform_small": System("waveform", 0.64, 0.05), "spectrogram_small": System("spectrogram", 0.70, 0.02)}
#: The same with a baseline of features and trees.
WITH_TREES = SYSTEMS | {"gbt": System("baseline", 0.69, 0.015)}


def write_study(
    folder: Path,
    *,
    sizes: Sequence[float] = (250, 500, 1000, 2000),
    systems: Mapping[str, System] = SYSTEMS,
    seeds: Sequence[int] = (0, 1, 2),
    songs: int = 200,
    tags: int = 12,
    regression_tags: int = 2,
    study: str | None = "sizes",
    factor: str = "data.train_songs",
    seed_deviation: float = 0.004,
    music: int = 0,
) -> dict[tuple[str, float, int], Path]:
    """The run folders by system, size and seed.

    The expected macro ROC-AUC of a system is a straight line over the doublings of ``sizes``, plus a normal deviation
    per run. ``factor``: the dotted configuration key for the sizes; if it is not the number of training songs,
    baselines do not have it and are written once per seed. ``music`` seeds the songs and the noise.
    """
    written = {}
    for name, (family, roc_auc, gain) in systems.items():
        own_sizes = sizes if family != "baseline" or factor == "data.train_songs" else sizes[:1]
        for size in own_sizes:
            for seed in seeds:
                drawn = np.random.default_rng([music, _number(name), round(1000 * size), seed, 1])
                expected = roc_auc + gain * log2(size / sizes[0]) + seed_deviation * drawn.standard_normal()
                written[name, size, seed] = write_run(
                    folder, name, family, expected, settings={factor: size}, seed=seed, study=study, songs=songs,
                    tags=tags, regression_tags=regression_tags, music=music,
                )  # fmt: skip
    return written


def write_run(
    folder: Path,
    name: str,
    family: str,
    roc_auc: float,
    *,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    study: str | None = "sizes",
    songs: int = 200,
    tags: int = 12,
    regression_tags: int = 2,
    music: int = 0,
    label: str | None = None,
    missing: Sequence[str] = (),
) -> Path:
    """Write a run whose expected macro ROC-AUC is ``roc_auc``; its expected RMSE falls with it.

    ``settings``: dotted configuration keys with their values; ``missing``: keys that the run's version did not
    have. Half of the noise in the scores belongs to the song and is shared by all runs, as some songs are hard for all
    of them.
    """
    config = copy.deepcopy(_config(family))
    for key, value in ({"data.train_songs": 500} | dict(settings or {})).items():
        *groups, last = key.split(".")
        place = config
        for group in groups:
            place = place[group]
        place[last] = value
    config["names"] |= {"model": name, "baseline": name if family == "baseline" else None}
    for key in missing:
        *groups, last = key.split(".")
        place = config
        for group in groups:
            place = place[group]
        del place[last]
    config |= {"label": label} if label else {}
    config |= {"seed": seed, "study": study, "baseline": {"trees": 100} if family == "baseline" else None}
    targets, kinds, names = draw_songs(songs, tags, regression_tags, music)
    rng = np.random.default_rng([music, _number(f"{name}{sorted((settings or {}).items())}"), seed])
    scores = _scores(targets, kinds, roc_auc, rng, music)
    run = f"{name}-{hashlib.sha256(repr(config).encode()).hexdigest()[:8]}"
    (folder / run).mkdir(parents=True)
    np.savez_compressed(
        folder / run / "predictions.npz",
        song_ids=np.array([f"song-{row:05d}" for row in range(songs)]),
        tags=np.array(names),
        kinds=np.array(kinds),
        scores=scores,
        targets=targets,
    )
    is_baseline = family == "baseline"
    metrics = {
        "run": run,
        "family": family,
        "input": family,
        "data": "songbook",
        "locations": [],
        "frontend": None if is_baseline else config["names"]["frontend"],
        "backend": None if is_baseline else config["names"]["backend"],
        "baseline": name if is_baseline else None,
        "seed": seed,
        "study": study,
        "songs": {"train": config["data"]["train_songs"], "validation": 50, "test": songs},
        "songs_unusable": 0,
        "test": song_metrics(scores, targets, names, kinds, resamples=20, seed=seed),
        "validation": {"epoch": 8, "val_loss": 0.3, "val_roc_auc": roc_auc, "seconds": 2.0},
        "epochs": None if is_baseline else 10,
        "best_epoch": None if is_baseline else 8,
        "parameters": None if is_baseline else 300_000 + 1_000 * len(name),
        "parameters_trained": None if is_baseline else 300_000 + 1_000 * len(name),
        "speed": {"train_audio_seconds_per_second": 300.0, "test_audio_seconds_per_second": 1200.0},
        "seconds": {"prepare": 10.0, "train": 60.0, "test": 3.0, "epochs": 55.0},
        "device": "cpu",
        "machine": "Linux",
        "versions": {"python": "3.11", "musictag": "0.1.0", "torch": "2.14.1", "numpy": "2.4.6"},
        "git": {"commit": "0" * 40, "changed": False},
        "config": config,
    }
    write_json(folder / run / "config.json", config)
    write_json(folder / run / "metrics.json", metrics)
    return folder / run


def draw_songs(songs: int, tags: int, regression_tags: int, music: int) -> tuple[np.ndarray, list[str], list[str]]:
    """Targets (S×K float32), kinds and names. Prevalences range from 0.4 to 0.08; the first two tags never co-occur."""
    rng = np.random.default_rng([music, 2])
    prevalence = np.geomspace(0.4, 0.08, tags)
    classes = (rng.random((songs, tags)) < prevalence).astype(np.float32)
    if tags > 1:
        classes[classes[:, 0] > 0, 1] = 0
    # every tag has songs of both classes, even with few songs
    for k in range(2, tags):
        classes[k % songs, k], classes[(k + 1) % songs, k] = 1, 0
    levels = rng.uniform(0.35, 0.65, (songs, regression_tags)).astype(np.float32)
    kinds = ["classification"] * tags + ["regression"] * regression_tags
    names = [f"tag {k:02d}" for k in range(tags)] + [f"level {k}" for k in range(regression_tags)]
    return np.concatenate([classes, levels], axis=1), kinds, names


def expected_rmse(roc_auc: float) -> float:
    return 0.3 - 0.25 * roc_auc


def _scores(
    targets: np.ndarray, kinds: Sequence[str], roc_auc: float, rng: np.random.Generator, music: int
) -> np.ndarray:
    """Two normal distributions per tag, separated to give the ROC-AUC, through a sigmoid that keeps the prevalence."""
    shared = np.random.default_rng([music, 3]).standard_normal(targets.shape)
    noise = sqrt(0.5) * shared + sqrt(0.5) * rng.standard_normal(targets.shape)
    distance = sqrt(2) * NormalDist().inv_cdf(roc_auc)
    is_ranked = np.array([kind == "classification" for kind in kinds], dtype=bool)
    prevalence = targets.mean(axis=0).clip(0.01, 0.99)
    logits = distance * (targets - prevalence) + noise + np.log(prevalence / (1 - prevalence))
    levels = targets + expected_rmse(roc_auc) * noise
    return np.where(is_ranked, 1 / (1 + np.exp(-logits)), levels.clip(0, 1)).astype(np.float32)


@cache
def _config(family: str) -> dict[str, Any]:
    """The shipped configuration of a small model; for a baseline the network's part is not read."""
    return compose_config("model=spectrogram_small" if family == "spectrogram" else "model=waveform_small")


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
