"""Time of computing metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from musictag.evaluation.song_metrics import song_metrics
from tests.benchmarks.figures import Figure

_TEST_SETS = ((2_000, 50, 1000), (30_000, 50, 1000))


def benchmark() -> Iterator[Figure]:
    """Time of computing the metrics of a test set, including intervals."""
    rng = np.random.default_rng(0)
    for songs, tags, resamples in _TEST_SETS:
        scores = rng.random((songs, tags), dtype=np.float32)
        targets = (rng.random((songs, tags)) < 0.05).astype(np.float32)
        names, kinds = [str(tag) for tag in range(tags)], ["classification"] * tags
        began = time.perf_counter()
        song_metrics(scores, targets, names, kinds, resamples=resamples)
        yield Figure(f"{songs:,} songs x {tags} tags, {resamples:,} resamples", time.perf_counter() - began, "s")
