"""Many songs one after the other: while a model works on one, the next are read.

Legend: N samples.
"""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import numpy as np

from musictag.common.errors import MusictagError, SongWarning
from musictag.data.audio.decode import Reading
from musictag.data.audio.read import AudioSource, read_with_note

Result = TypeVar("Result")

WORKERS = 2  # one reads faster than most networks tag
#: Larger files are read in their turn: several long songs at once would take too much memory, and a thread that has
#: begun to read cannot be stopped.
LARGE_FILE_BYTES = 2**24


def each_result(
    work: Callable[[np.ndarray], Result], sources: Iterable[AudioSource], sample_rate: int, workers: int = WORKERS
) -> Iterator[tuple[AudioSource, Result | Exception]]:
    """Every source, in order, with what ``work`` makes of its samples (mono int16, N), or with the error raised by it.

    ``workers`` threads read ahead, by one song more than there are threads.
    """
    if workers < 1:
        raise MusictagError(f"workers={workers}; it must be at least 1")
    return _each_result(work, sources, sample_rate, workers)


def _each_result(
    work: Callable[[np.ndarray], Result], sources: Iterable[AudioSource], sample_rate: int, workers: int
) -> Iterator[tuple[AudioSource, Result | Exception]]:
    pool = ThreadPoolExecutor(workers, "musictag-reader")
    waiting: deque[tuple[AudioSource, Callable[[], Reading]]] = deque()
    try:
        for source in sources:
            read = partial(read_with_note, source, sample_rate)
            waiting.append((source, pool.submit(read).result if _is_small(source) else read))
            if len(waiting) > workers + 1:
                yield _next(waiting, work)
        while waiting:
            yield _next(waiting, work)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _next(waiting: deque, work: Callable[[np.ndarray], Result]) -> tuple[AudioSource, Result | Exception]:
    source, read = waiting.popleft()
    return source, attempt(lambda: work(_samples(source, read)))


def attempt(work: Callable[[], Result]) -> Result | Exception:
    """What ``work`` returns, or the error that it raises."""
    try:
        return work()
    except Exception as error:
        return error


def _samples(source: AudioSource, read: Callable[[], Reading]) -> np.ndarray:
    samples, note = read()
    if note:  # here, so that it comes in the order of the songs, whichever is read first
        warnings.warn(f"{source}: {note}", SongWarning, stacklevel=2)
    return samples


def _is_small(source: AudioSource) -> bool:
    if isinstance(source, tuple):
        return False
    try:
        return os.path.getsize(source) < LARGE_FILE_BYTES
    except (OSError, TypeError, ValueError):  # reading says what is wrong
        return False
