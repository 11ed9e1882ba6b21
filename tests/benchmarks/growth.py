"""How time and memory grow with songs, tags, batches and patches: ``python -m tests.benchmarks growth [SERIES ...]``.

Every size is measured in a process of its own. An exponent is the slope of the logarithm of a cost over that of the
size: 1 is proportional to it, 0 independent of it. It is fitted to all sizes, of which the smallest ones are mostly
fixed costs, and to the two largest ones alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from musictag.evaluation.song_metrics import song_metrics
from tests.benchmarks.million import in_fresh_process, opening, peak_megabytes, resident_megabytes, write_million
from tests.benchmarks.tables import Table

_RESAMPLES = 16
_SONGS, _TAGS = 20_000, 50  # where the other one grows
_WARM_UP = 1
_STEPS = 3


class Cost(NamedTuple):
    """What one size takes; for a model, the memory of a step beyond that of the model, else that of the process."""

    seconds: float
    megabytes: float


class Series(NamedTuple):
    """``measure(size)`` for each of ``sizes``; ``unit`` says what they count."""

    measure: Callable[[float], Cost]
    unit: str
    sizes: Sequence[float]


def catalogue(songs: int) -> Cost:
    """From nothing to the first batch of a prepared catalogue with 139 tags."""
    with tempfile.TemporaryDirectory() as folder:
        opened = in_fresh_process(opening, write_million(Path(folder), songs), 0)
    return Cost(opened["first_batch_seconds"], opened["peak_mb"])


def metrics_of_songs(songs: int) -> Cost:
    return in_fresh_process(_metrics, songs, _TAGS)


def metrics_of_tags(tags: int) -> Cost:
    return in_fresh_process(_metrics, _SONGS, tags)


def _metrics(songs: int, tags: int) -> Cost:
    rng = np.random.default_rng(0)
    scores = rng.random((songs, tags), dtype=np.float32)
    targets = (rng.random((songs, tags), dtype=np.float32) < 0.05).astype(np.float32)
    song_metrics(scores[:100], targets[:100], [str(tag) for tag in range(tags)], ["classification"] * tags, resamples=1)
    began = time.perf_counter()
    song_metrics(scores, targets, [str(tag) for tag in range(tags)], ["classification"] * tags, resamples=_RESAMPLES)
    return Cost(time.perf_counter() - began, peak_megabytes())


def _step(model: str, batch_size: int, seconds: float) -> Cost:
    """A training step without the optimiser, on one thread."""
    import torch

    from musictag.models.network import TaggingNetwork
    from musictag.training.losses import BCE
    from tests.benchmarks.models import MODELS

    torch.set_num_threads(1)
    frontend, backend = MODELS[model]
    network = TaggingNetwork(frontend, backend, [{"name": f"tag {number}"} for number in range(_TAGS)], seconds)
    waveform, targets = 0.1 * torch.randn(batch_size, network.input_samples), torch.zeros(batch_size, _TAGS)
    before, times = resident_megabytes(), []
    for _ in range(_WARM_UP + _STEPS):
        began = time.perf_counter()
        network.zero_grad()
        BCE()(network(waveform), targets).backward()
        times.append(time.perf_counter() - began)
    return Cost(float(np.median(times[_WARM_UP:])), peak_megabytes() - before)


def _steps(model: str) -> dict[str, Series]:
    return {
        f"{model}, batches of 3 s": Series(
            lambda size: in_fresh_process(_step, model, size, 3.0), "patches", (2, 8, 32)
        ),
        f"{model}, two patches": Series(
            lambda size: in_fresh_process(_step, model, 2, size), "s", (1.0, 3.0, 10.0, 30.0)
        ),
    }


SERIES: dict[str, Series] = {
    "opening a catalogue": Series(catalogue, "songs", (1_000, 10_000, 100_000, 1_200_000)),
    f"metrics of {_TAGS} tags": Series(metrics_of_songs, "songs", (1_000, 10_000, 100_000, 1_200_000)),
    f"metrics of {_SONGS:,} songs": Series(metrics_of_tags, "tags", (10, 50, 139, 500)),
    **_steps("waveform"),
    **_steps("spectrogram"),
}


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The least-squares slope of log ``costs`` over log ``sizes``."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def main(arguments: list[str]) -> int:
    """Measures the series whose names contain one of the words (all without words), and prints a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks growth", description=__doc__)
    parser.add_argument("words", nargs="*", help=f"only series with one of these words: {'; '.join(SERIES)}")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="also write growth.csv and growth.md there")
    options = parser.parse_args(arguments)
    columns = ("what", "size", "s", "MB", "exponent of s", "of the last two", "exponent of MB", "of the last two")
    with Table(
        "growth", columns, "Exponents: 1 is proportional to the size, 0 independent of it.", options.out
    ) as table:
        wanted = [name for name in SERIES if not options.words or any(word in name for word in options.words)]
        for name in wanted:
            (measure, unit, sizes), costs = SERIES[name], []
            for size in sizes:
                costs.append(measure(size))
                table.row(name, f"{size:,} {unit}", *costs[-1], *[None] * 4)
            slopes = [exponent(sizes[first:], kind[first:]) for kind in zip(*costs, strict=True) for first in (0, -2)]
            table.row(name, "", None, None, *slopes)
    return 0
