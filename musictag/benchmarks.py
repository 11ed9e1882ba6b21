"""Speeds of this machine, measured: ``python -m musictag.benchmarks [section ...]``; less than a minute a section.

Figures are medians over repetitions, on one thread a process; what happens once is timed once. Run it on an idle
machine: other work shows.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from rich.console import Console
from rich.table import Table

from musictag.data.datamodule import SongData
from musictag.data.manifest import Manifest, Tag
from musictag.data.sources import Source
from musictag.data.sources.songbook import Songbook
from musictag.errors import MusictagError
from musictag.metrics import song_metrics
from musictag.objective import Objective
from musictag.tagger import Tagger

_SONGS = 2000
_SONG_SECONDS = 10
_PATCH_SECONDS = 3.0
_BATCH_SIZE = 32
_STEP_MILLISECONDS = (2, 5, 20)
_STEPS = 150
_REPETITIONS = 5
_RENDERED_SONGS = 60
_TEST_SETS = ((2_000, 50, 1000), (30_000, 50, 1000))


class Figure(NamedTuple):
    what: str
    value: float
    unit: str


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


def benchmark_data() -> Iterator[Figure]:
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


#: Front-end and back-end of the shipped configuration, with its numbers.
_MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "waveform": (
        {"_target_": "musictag.frontends.waveform.SampleLevel"},
        {"_target_": "musictag.backends.residual.Residual"},
    ),
    "spectrogram": (
        {"_target_": "musictag.frontends.spectrogram.MusicallyMotivated", "normalise": "none"},
        {"_target_": "musictag.backends.residual.Residual"},
    ),
    "spectrogram, small": (
        {
            "_target_": "musictag.frontends.spectrogram.MusicallyMotivated",
            "normalise": "none",
            "num_filters": 8,
            "n_fft": 1024,
            "hop_samples": 512,
            "num_mels": 64,
        },
        {
            "_target_": "musictag.backends.residual.Residual",
            "filters": 128,
            "dense_units": 200,
            "batch_norm": "per_channel",
        },
    ),
}
_MODEL_BATCH = 16
_MODEL_TAGS = 50


def benchmark_models() -> Iterator[Figure]:
    """How much audio the models train on and tag in a second, on one thread of this machine's processor."""
    context = multiprocessing.get_context("spawn")
    for name in _MODELS:
        # each in its own process: what one model leaves in the allocator and the caches shall not favour the next
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            training, tagging = pool.submit(_model_speeds, name).result()
        yield Figure(f"{name}: training, batches of {_MODEL_BATCH} x {_PATCH_SECONDS:g} s", training, "s of audio / s")
        yield Figure(f"{name}: tagging", tagging, "s of audio / s")


def _model_speeds(name: str) -> tuple[float, float]:
    """Seconds of audio a second: forward and backward, forward alone."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    frontend, backend = _MODELS[name]
    tags = [{"name": f"tag {number}"} for number in range(_MODEL_TAGS)]
    tagger = Tagger(frontend, backend, tags, _PATCH_SECONDS)
    waveform = 0.1 * torch.randn(_MODEL_BATCH, tagger.patch_samples)
    targets = torch.zeros(_MODEL_BATCH, _MODEL_TAGS)
    objective = Objective("bce")
    audio_seconds = _MODEL_BATCH * _PATCH_SECONDS

    def train() -> None:
        tagger.zero_grad()
        objective(tagger(waveform), targets).backward()

    def tag() -> None:
        with torch.inference_mode():
            tagger(waveform)

    training = audio_seconds / _median_seconds(train)
    tagger.eval()
    return training, audio_seconds / _median_seconds(tag)


def benchmark_songbook() -> Iterator[Figure]:
    """How fast songbook is made: reading the scores (once), tagging a song, rendering a song."""
    with tempfile.TemporaryDirectory() as folder:
        source = Songbook(folder, num_songs=_RENDERED_SONGS, validation_songs=1, test_songs=1, workers=1)
        began = time.perf_counter()
        manifest = source.manifest()
        yield Figure("all scores read, one core", time.perf_counter() - began, "s")
        read, seconds = source.reader(), []
        for song_id, path in zip(manifest.song_ids, manifest.paths, strict=True):
            began = time.perf_counter()
            read(song_id, path)
            seconds.append(time.perf_counter() - began)
        yield Figure("songs of 10 s rendered, one core", 1 / statistics.median(seconds), "songs / s")


def benchmark_metrics() -> Iterator[Figure]:
    """How long the scores of a test set take, intervals included."""
    rng = np.random.default_rng(0)
    for songs, tags, resamples in _TEST_SETS:
        scores = rng.random((songs, tags), dtype=np.float32)
        targets = (rng.random((songs, tags)) < 0.05).astype(np.float32)
        names, kinds = [str(tag) for tag in range(tags)], ["classification"] * tags
        began = time.perf_counter()
        song_metrics(scores, targets, names, kinds, resamples=resamples)
        yield Figure(f"{songs:,} songs x {tags} tags, {resamples:,} resamples", time.perf_counter() - began, "s")


def _median_seconds(work: Callable[[], None]) -> float:
    work()
    seconds = []
    for _ in range(_REPETITIONS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


SECTIONS: dict[str, Callable[[], Iterator[Figure]]] = {
    "data": benchmark_data,
    "models": benchmark_models,
    "songbook": benchmark_songbook,
    "metrics": benchmark_metrics,
}


def main(names: list[str]) -> int:
    """Runs the named sections (all if none is named) and prints their figures."""
    torch.set_num_threads(1)
    if unknown := [name for name in names if name not in SECTIONS]:
        raise MusictagError(f"no benchmark {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    for name in names or SECTIONS:
        table = Table("what", "median", "unit", title=name, title_justify="left")
        for figure in SECTIONS[name]():
            table.add_row(
                figure.what, f"{figure.value:,.0f}" if figure.value >= 100 else f"{figure.value:,.2f}", figure.unit
            )
        Console().print(table)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except MusictagError as error:
        sys.exit(str(error))
