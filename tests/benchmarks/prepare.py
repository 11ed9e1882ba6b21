"""Overhead of preparation over decoding: the bare decoder against ``prepare``, with the same files and processes."""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import soundfile

from musictag.common.processes import available_cores
from musictag.data.audio.decode import read_song
from musictag.data.datasets.audio_files import AudioFiles
from musictag.data.manifest import Manifest, Tag
from musictag.data.preparation.prepare import prepare
from tests.benchmarks.bare import decode
from tests.benchmarks.figures import Figure

_REPETITIONS = 3
_FILES = 4


class Kind(NamedTuple):
    """One kind of files: ``songs`` per process, made of ``_FILES`` files that may be read many times."""

    name: str
    seconds: tuple[float, float]
    rate: int
    channels: int
    songs: int


_KINDS = (
    Kind("MP3 44.1 kHz stereo, 60-120 s", (60.0, 120.0), 44100, 2, 24),
    Kind("MP3 16 kHz mono, 29 s", (29.0, 29.0), 16000, 1, 200),
)


class MadeFiles(AudioFiles):
    """``num_songs`` songs in a few generated audio files: decaying tones and noise."""

    name = "made"

    def __init__(self, root: Path, kind: Kind, num_songs: int) -> None:
        super().__init__(root)
        self.num_songs = num_songs
        for number, seconds in enumerate(np.linspace(*kind.seconds, _FILES)):
            make_song(root / f"{number}.mp3", seconds, kind.rate, kind.channels, seed=number)

    def _load(self) -> Manifest:
        ids = [str(number) for number in range(self.num_songs)]
        columns = {
            "song_id": ids,
            "path": [f"{number % _FILES}.mp3" for number in range(self.num_songs)],
            "split": ["train"] * self.num_songs,
            "group": ids,
            "duration": [None] * self.num_songs,
        }
        return Manifest(pa.table(columns | {"tag": [0.0] * self.num_songs}), [Tag("tag")], self.name)


def benchmark() -> Iterator[Figure]:
    """Speed of ``prepare`` compared with the bare decoder, and with our reading alone, which is faster than that.

    All of them include starting and ending processes.
    """
    workers = available_cores()
    for kind in _KINDS:
        with tempfile.TemporaryDirectory() as folder:
            source = MadeFiles(Path(folder), kind, kind.songs * workers)
            paths = [Path(folder) / path for path in source.manifest().paths]
            works: dict[str, Callable[[Path], object]] = {
                "bare decoder": lambda _, paths=paths: _in_processes(decode, paths, workers),
                "reading alone": lambda _, paths=paths: _in_processes(_read, paths, workers),
                "prepare": partial(prepare, source, workers=workers),
            }
            seconds: dict[str, list[float]] = {name: [] for name in works}
            for number in range(_REPETITIONS):  # alternating, so that load affects all of them
                for name, work in works.items():
                    began = time.perf_counter()
                    work(Path(folder) / f"prepared-{number}")
                    seconds[name].append(time.perf_counter() - began)
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        for name, median in medians.items():
            yield Figure(f"{kind.name}: {name}", len(paths) / median, f"songs / s, {workers} processes")
        for name in ("bare decoder", "reading alone"):
            yield Figure(f"{kind.name}: prepare / {name}", medians[name] / medians["prepare"] * 100, "%")


def _in_processes(work: Callable[[Path], int], paths: list[Path], workers: int) -> None:
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        for _ in pool.map(work, paths, chunksize=8):
            pass


def _read(path: Path) -> int:
    return len(read_song(path))


def make_song(path: Path, seconds: float, rate: int, channels: int, seed: int) -> None:
    """Two notes per second, each of five partials, over quiet noise; the channels differ a little in level."""
    rng = np.random.default_rng(seed)
    time_ = np.arange(rate) / rate
    with soundfile.SoundFile(path, "w", rate, channels) as file:
        for _ in range(round(seconds)):
            second = rng.normal(0, 0.01, (rate, channels))
            for begin in (0, rate // 2):
                pitch = 110 * 2 ** (rng.integers(0, 36) / 12)
                decay = np.exp(-6 * time_[: rate - begin])
                for partial_ in range(1, 6):
                    tone = np.sin(2 * np.pi * partial_ * pitch * time_[: rate - begin]) * decay / partial_
                    second[begin:] += 0.15 * tone[:, None] * rng.uniform(0.5, 1.0, channels)
            file.write(second.clip(-1, 1))
