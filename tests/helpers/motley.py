"""Collections of runs as people really make them: few, uneven, of old versions, or with too many settings.

``python -m tests.helpers.motley FOLDER [NAME ...]`` writes them with their reports, to be looked at.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.helpers.studies import write_run

FAMILIES = {"waveform_small": "waveform", "spectrogram_small": "spectrogram", "gbt": "baseline", "linear": "baseline"}
#: Six settings that go together.
QUICK = {
    "frontend.norm_momentum": 0.05,
    "backend.norm_momentum": 0.05,
    "data.batch_size": 16,
    "callbacks.early_stopping.patience": 0,
    "optimizer.lr": 0.002,
    "trainer.max_epochs": 12,
}
SONGS = {"songs": 80, "tags": 8}


def six_settings(folder: Path) -> None:
    """Sixteen runs of four systems that differ in six settings."""
    for seed in (0, 1):
        for name in ("waveform_small", "spectrogram_small"):
            for settings in ({}, QUICK, QUICK | {"trainer.max_epochs": 30}):
                _run(folder, name, settings, seed)
        for name in ("gbt", "linear"):
            _run(folder, name, {}, seed)


def nested_key(folder: Path) -> None:
    """Only one key, deep inside, differs; and only in one system."""
    for seed in (0, 1):
        for patience in (0, 5, 10):
            _run(folder, "waveform_small", {"callbacks.early_stopping.patience": patience}, seed)
        _run(folder, "spectrogram_small", {}, seed)


def old_versions(folder: Path) -> None:
    """Half of the runs are of a version that did not have some keys."""
    old = ("lr_scaling", "data.patches_per_song", "monitor", "trainer.sync_batchnorm")
    for seed in (0, 1):
        for name in ("waveform_small", "spectrogram_small", "gbt"):
            _run(folder, name, {}, seed)
            _run(folder, name, {"optimizer.lr": 0.003} if name != "gbt" else {}, seed + 2, missing=old)


def one_run(folder: Path) -> None:
    _run(folder, "waveform_small", {})


def different_seeds(folder: Path) -> None:
    """Two systems without a seed in common."""
    for name, seeds in (("waveform_small", (0, 1)), ("spectrogram_small", (7, 8, 9))):
        for seed in seeds:
            _run(folder, name, {}, seed)


def sizes_and_more(folder: Path) -> None:
    """The number of training songs, and a second number; the trees have only the first."""
    for seed in (0, 1):
        for size in (250, 500, 1000):
            for filters in (16, 32, 64):
                for name in ("waveform_small", "spectrogram_small"):
                    _run(folder, name, {"data.train_songs": size, "backend.filters": filters}, seed)
            _run(folder, "gbt", {"data.train_songs": size}, seed)


def labels(folder: Path) -> None:
    """Settings that the user has named, beside some without a name."""
    for seed in (0, 1):
        for name in ("waveform_small", "spectrogram_small"):
            _run(folder, name, {}, seed, label="paper")
            _run(folder, name, QUICK, seed, label="quick recipe")
            _run(folder, name, QUICK | {"backend.dropout": 0.0}, seed)
        _run(folder, "gbt", {}, seed)


def long_names(folder: Path) -> None:
    """Systems and labels with names that fit nowhere."""
    for place, label in enumerate((None, "the learning rate that we found by hand in the spring and never wrote down")):
        for family in ("waveform", "spectrogram"):
            name = f"our_own_{family}_network_with_squeeze_and_excitation_and_attention_pooling_version_17"
            _run(folder, name, {"optimizer.lr": 0.001 * (1 + place)}, label=label, family=family)


def forty_conditions(folder: Path) -> None:
    """A search over three settings, in two systems, with a seed each."""
    for rate in (0.0003, 0.001, 0.003, 0.01):
        for dropout in (0.0, 0.1, 0.25, 0.4, 0.5):
            for decay in (0.0, 0.01):
                settings = {"optimizer.lr": rate, "backend.dropout": dropout, "optimizer.weight_decay": decay}
                for name in ("waveform_small", "spectrogram_small"):
                    _run(folder, name, settings)


def only_baselines(folder: Path) -> None:
    for seed in (0, 1):
        for size in (250, 500, 1000):
            for name in ("gbt", "linear"):
                _run(folder, name, {"data.train_songs": size}, seed)


def mixed_parts(folder: Path) -> None:
    """Parts that are exchanged or left out: their own keys come and go with them."""
    sgd = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9}}
    for seed in (0, 1):
        for name in ("waveform_small", "spectrogram_small"):
            for settings in ({}, sgd, {"scheduler": None}, {"callbacks.early_stopping": None}):
                _run(folder, name, settings, seed)
        _run(folder, "waveform_small", {"trainer.gradient_clip_val": 1.0}, seed)


COLLECTIONS: dict[str, Callable[[Path], None]] = {
    make.__name__: make
    for make in (
        six_settings, nested_key, old_versions, one_run, different_seeds, sizes_and_more, labels, long_names,
        forty_conditions, only_baselines, mixed_parts,
    )
}  # fmt: skip


def _run(folder: Path, name: str, settings: Mapping[str, Any], seed: int = 0, **more: Any) -> None:
    family = more.pop("family", None) or FAMILIES[name]
    score = {"waveform": 0.70, "spectrogram": 0.74, "baseline": 0.68}[family] + 0.01 * len(settings)
    score += 0.00005 * settings.get("data.train_songs", 500)
    write_run(folder, name, family, min(score, 0.95), settings=settings, seed=seed, study="motley", **SONGS, **more)


def main(folder: Path, names: list[str]) -> None:
    from musictag.cli import main as musictag

    for name in names or COLLECTIONS:
        COLLECTIONS[name](folder / name)
        musictag(["report", str(folder / name), "--out", str(folder / name / "report"), "--resamples", "100"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
