"""How long work takes on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

_REPETITIONS = 5


def median_seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds per call of ``work``: the median of 5 after one warm-up call."""
    work()
    seconds = []
    for _ in range(_REPETITIONS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)
