"""Speed of making batches from prepared songs, and how long training waits for them."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from musictag.data.datasets import Source
from musictag.data.loading.datamodule import SongDataModule
from musictag.data.manifest import Manifest, Tag
from musictag.data.store.store import SHARD_FOLDER
from tests.benchmarks.figures import Figure
from tests.benchmarks.million import in_fresh_process

_SONGS = 2000
_SONG_SECONDS = 10
_PATCH_SECONDS = 3.0
_BATCH_SIZE = 32
_STEP_MILLISECONDS = (2, 5, 20)
_STEPS = 150
_PROCESSES = 5


class NoiseSongs(Source):
    """A source of white-noise songs: once prepared, reading them costs the same as reading music."""

    name = "noise"

    def __init__(self, num_songs: int) -> None:
        self._num_songs = num_songs

    def fingerprint(self) -> dict[str, str | int | float | None]:
        return {"noise": 1, "seconds": _SONG_SECONDS}

    def manifest(self) -> Manifest:
        numbers = np.arange(self._num_songs)
        ids = [f"{number:05d}" for number in numbers]
        # a few songs for validation and test, which SongDataModule needs
        split = ["validation" if n < 2 else "test" if n < 4 else "train" for n in numbers]
        columns = {
            "song_id": ids,
            "path": ids,
            "split": split,
            "group": ids,
            "duration": [float(_SONG_SECONDS)] * self._num_songs,
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
        _noise_data(Path(folder), _SONGS, num_workers=0)
        rates = [in_fresh_process(_patch_rates, Path(folder), _SONGS) for _ in range(_PROCESSES)]
        what = f"patches of {_PATCH_SECONDS:g} s in batches of {_BATCH_SIZE}, one core"
        yield Figure(what, statistics.median(later for _, later in rates), "patches / s")
        what += ", verified against checksums: first access"
        yield Figure(what, statistics.median(first for first, _ in rates), "patches / s")

        for workers in (0, 2):
            batches = _endless(_noise_data(Path(folder), _SONGS, workers))
            for milliseconds in _STEP_MILLISECONDS:
                waits, shares = [], []
                for _ in range(_STEPS):
                    began = time.perf_counter()
                    next(batches)
                    waited = time.perf_counter() - began
                    time.sleep(milliseconds / 1000)  # the step's work happens on the device
                    waits.append(waited * 1000)
                    shares.append(waited / (time.perf_counter() - began) * 100)
                what = f"{workers} workers, steps of {milliseconds} ms"
                yield Figure(f"{what}: wait for a batch", statistics.median(waits), "ms")
                yield Figure(f"{what}: waiting", statistics.median(shares), "% of the time")


def _patch_rates(folder: Path, num_songs: int) -> tuple[float, float]:
    """Patches per second in the epoch in which songs are mapped and verified against checksums, and in later ones.

    The files are in the page cache both times.
    """
    torch.set_num_threads(1)
    data = _noise_data(folder, num_songs, num_workers=0)
    for path in (data.store.folder / SHARD_FOLDER).iterdir():
        path.read_bytes()
    loader = data.train_dataloader()
    patches, epoch = loader.dataset, list(loader.batch_sampler)

    def draw() -> float:
        began = time.perf_counter()
        for batch in epoch:
            patches.__getitems__(batch)
        return len(epoch) * _BATCH_SIZE / (time.perf_counter() - began)

    first = draw()
    return first, statistics.median(draw() for _ in range(7))


def _noise_data(folder: Path, num_songs: int, num_workers: int) -> SongDataModule:
    data = SongDataModule(
        NoiseSongs(num_songs),
        folder,
        patch_seconds=_PATCH_SECONDS,
        batch_size=_BATCH_SIZE,
        num_workers=num_workers,
        prepare_workers=1,
    )
    data.prepare_data()
    data.setup()
    return data


def _endless(data: SongDataModule) -> Iterator[dict[str, torch.Tensor]]:
    loader = data.train_dataloader()
    while True:
        yield from loader
        data.epoch += 1
