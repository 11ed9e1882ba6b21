"""How long work takes on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

_REPETITIONS = 5


def median_seconds(work: Callable[[], object]) -> float:
    """Seconds of wall clock that a call of ``work`` takes: the median of 5, after one that warms it up."""
    work()
    seconds = []
    for _ in range(_REPETITIONS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)
