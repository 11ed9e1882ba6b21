"""Synthetic songs in real files, with audible tags, and their catalogue."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from musictag.data.datasets.catalogue import CatalogueFile

if TYPE_CHECKING:  # it loads Lightning, which processes that only prepare are spared
    from musictag.data.loading.datamodule import SongDataModule

#: Splits of the 24 songs in the smallest catalogue: 12, 5 and 7.
SPLIT_SIZES = (("train", 12), ("validation", 5), ("test", 7))


def synthetic_song(seconds: float, high: bool, noisy: bool, brightness: float, seed: int) -> np.ndarray:
    """Float32 N at 16 kHz: a low or a high tone with overtones of strength ``brightness``, with or without noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * 16000)) / 16000
    pitch = (880 if high else 110) * rng.uniform(0.9, 1.1)
    audio = np.sin(2 * np.pi * pitch * time) + brightness * np.sin(2 * np.pi * 5 * pitch * time)
    if noisy:
        audio += rng.normal(0, 0.5, len(time))
    return (0.2 * audio).clip(-1, 1).astype(np.float32)


def write_catalogue(folder: Path, seconds: tuple[float, float] = (1.0, 5.0), seed: int = 0) -> Path:
    """Write 24 WAV files of ``seconds`` to ``folder``/audio and their table next to it; returns the table's path.

    Tags: ``high`` and ``noisy`` (classification) and ``brightness`` (regression, unknown for one song).
    """
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rows = []
    for split, size in SPLIT_SIZES:
        for number in range(size):
            high, noisy = number % 2 == 0, number % 3 == 0
            brightness = round(float(rng.uniform(0.1, 0.9)), 3)
            name = f"{split}-{number:02d}"
            audio = synthetic_song(rng.uniform(*seconds), high, noisy, brightness, seed=len(rows))
            soundfile.write(folder / "audio" / f"{name}.wav", audio, 16000, subtype="PCM_16")
            rows.append(
                {
                    "song_id": name,
                    "path": f"audio/{name}.wav",
                    "split": split,
                    "group": f"artist of {name}",
                    "high": int(high),
                    "noisy": int(noisy),
                    "brightness": "" if not rows else brightness,
                }
            )
    return write_table(folder / "catalogue.csv", rows)


def write_songs(folder: Path, count: int, seconds: float = 1.0) -> list[str]:
    """Write ``count`` different WAV files to ``folder``; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{number}.wav" for number in range(count)]
    for number, name in enumerate(names):
        audio = synthetic_song(seconds, number % 2 == 0, False, 0.5, seed=number)
        soundfile.write(folder / name, audio, 16000, subtype="PCM_16")
    return names


def write_table(path: Path, rows: list[dict]) -> Path:
    """Write rows as a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def read_rows(path: Path) -> list[dict]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def song_data(catalogue: Path, **settings: object) -> SongDataModule:
    """The data module of a catalogue, with settings that are fast in a test."""
    from musictag.data.loading.datamodule import SongDataModule

    settings = {"patch_seconds": 0.5, "batch_size": 4, "num_workers": 0, "prepare_workers": 1} | settings
    return SongDataModule(CatalogueFile(catalogue), catalogue.parent / "data", **settings)


def ready(catalogue: Path, **settings: object) -> SongDataModule:
    """The same, prepared and set up."""
    data = song_data(catalogue, **settings)
    data.prepare_data()
    data.setup()
    return data
