from __future__ import annotations

from functools import partial

import numpy as np
import pyarrow as pa

from musictag.data.datasets import Source
from musictag.data.manifest import Manifest, Tag

RATE = 16000
#: Songs of each split for one of training, at least four.
SHARES = {"train": 1.0, "validation": 0.5, "test": 0.5}


class Tones(Source):
    """Low and high tones, with and without noise: songs that are computed. ``num_songs`` are for training."""

    name = "tones"

    def __init__(self, num_songs: int = 16, seconds: float = 2.0) -> None:
        self.num_songs, self.seconds = num_songs, seconds

    def fingerprint(self) -> dict[str, str | int | float | None]:
        return {"source": "tones", "version": 1, "seconds": self.seconds}

    def manifest(self) -> Manifest:
        rows = []
        for split, share in SHARES.items():
            for number in range(max(4, round(share * self.num_songs))):
                song = f"{split}-{number}"
                tags = {"high": float(number % 2), "noisy": float(number // 2 % 2)}
                rows.append({"song_id": song, "path": song, "split": split, "group": song, "duration": None, **tags})
        return Manifest(pa.Table.from_pylist(rows), [Tag("high"), Tag("noisy")], self.name)

    def reader(self) -> partial:
        return partial(_tone, self.seconds)


def _tone(seconds: float, song_id: str, path: str) -> np.ndarray:
    split, number = song_id.split("-")
    rng = np.random.default_rng([len(split), int(number)])
    time = np.arange(round(seconds * RATE)) / RATE
    audio = np.sin(2 * np.pi * (880 if int(number) % 2 else 110) * rng.uniform(0.9, 1.1) * time)
    if int(number) // 2 % 2:
        audio = audio + rng.normal(0, 0.5, len(time))
    return (0.2 * 32767 * audio).clip(-32768, 32767).astype(np.int16)
