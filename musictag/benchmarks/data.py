"""How fast batches are made of prepared songs, and how long a training waits for them."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from musictag.benchmarks.figures import Figure
from musictag.data.datamodule import SongData
from musictag.data.manifest import Manifest, Tag
from musictag.data.sources import Source

_SONGS = 2000
_SONG_SECONDS = 10
_PATCH_SECONDS = 3.0
_BATCH_SIZE = 32
_STEP_MILLISECONDS = (2, 5, 20)
_STEPS = 150


class NoiseSongs(Source):
    """A source of songs of white noise: reading them costs what reading music costs, once they are prepared."""

    name = "noise"

    def fingerprint(self) -> dict[str, str | int | float | None]:
        return {"noise": 1, "seconds": _SONG_SECONDS}

    def manifest(self) -> Manifest:
        numbers = np.arange(_SONGS)
        ids = [f"{number:05d}" for number in numbers]
        # a few songs for validation and test, which a SongData needs
        split = ["validation" if n < 2 else "test" if n < 4 else "train" for n in numbers]
        columns = {
            "song_id": ids,
            "path": ids,
            "split": split,
            "group": ids,
            "duration": [float(_SONG_SECONDS)] * _SONGS,
        }
        return Manifest(pa.table(columns | {"odd": (numbers % 2).astype(np.float32)}), [Tag("odd")], self.name)

    def reader(self) -> Callable[[str, str], np.ndarray]:
        return _noise


def _noise(song_id: str, path: str) -> np.ndarray:
    samples = np.random.default_rng(int(song_id)).bytes(2 * 16000 * _SONG_SECONDS)
    return np.frombuffer(samples, dtype=np.int16)


def benchmark() -> Iterator[Figure]:
    """How fast prepared songs become batches, and how long a training step waits for one."""
    with tempfile.TemporaryDirectory() as folder:
        data = _noise_data(Path(folder), num_workers=0)
        loader = data.train_dataloader()
        patches, epoch = loader.dataset, list(loader.batch_sampler)
        for batch in epoch:  # from warm memory: the files are in the page cache, the maps are made
            patches.__getitems__(batch)
        rates = []
        for _ in range(7):
            began = time.perf_counter()
            for batch in epoch:
                patches.__getitems__(batch)
            rates.append(len(epoch) * _BATCH_SIZE / (time.perf_counter() - began))
        yield Figure(
            f"patches of {_PATCH_SECONDS:g} s in batches of {_BATCH_SIZE}, one core",
            statistics.median(rates),
            "patches a second",
        )

        for workers in (0, 2):
            batches = _endless(_noise_data(Path(folder), workers))
            for milliseconds in _STEP_MILLISECONDS:
                waits, shares = [], []
                for _ in range(_STEPS):
                    began = time.perf_counter()
                    next(batches)
                    waited = time.perf_counter() - began
                    time.sleep(milliseconds / 1000)  # what the step does happens on the device
                    waits.append(waited * 1000)
                    shares.append(waited / (time.perf_counter() - began) * 100)
                what = f"{workers} workers, steps of {milliseconds} ms"
                yield Figure(f"{what}: wait for a batch", statistics.median(waits), "ms")
                yield Figure(f"{what}: waiting", statistics.median(shares), "% of the time")


def _noise_data(folder: Path, num_workers: int) -> SongData:
    data = SongData(
        NoiseSongs(),
        folder,
        patch_seconds=_PATCH_SECONDS,
        batch_size=_BATCH_SIZE,
        num_workers=num_workers,
        prepare_workers=1,
    )
    data.prepare_data()
    data.setup()
    return data


def _endless(data: SongData) -> Iterator[dict[str, torch.Tensor]]:
    loader = data.train_dataloader()
    while True:
        yield from loader
        data.epoch += 1
