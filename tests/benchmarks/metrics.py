"""How long scoring takes."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from musictag.evaluation.metrics import song_metrics
from tests.benchmarks.figures import Figure

_TEST_SETS = ((2_000, 50, 1000), (30_000, 50, 1000))


def benchmark() -> Iterator[Figure]:
    """How long the scores of a test set take, intervals included."""
    rng = np.random.default_rng(0)
    for songs, tags, resamples in _TEST_SETS:
        scores = rng.random((songs, tags), dtype=np.float32)
        targets = (rng.random((songs, tags)) < 0.05).astype(np.float32)
        names, kinds = [str(tag) for tag in range(tags)], ["classification"] * tags
        began = time.perf_counter()
        song_metrics(scores, targets, names, kinds, resamples=resamples)
        yield Figure(f"{songs:,} songs x {tags} tags, {resamples:,} resamples", time.perf_counter() - began, "s")
