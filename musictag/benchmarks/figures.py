"""What the sections share: a figure, and the time that work takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

_REPETITIONS = 5


class Figure(NamedTuple):
    """One line of a section's table: a median."""

    what: str
    value: float
    unit: str


def median_seconds(work: Callable[[], None]) -> float:
    """How long ``work`` takes once it is warm."""
    work()
    seconds = []
    for _ in range(_REPETITIONS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)
