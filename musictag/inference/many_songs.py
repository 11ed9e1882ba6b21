"""Many songs one after the other: while a model works on one, the next are read, block by block.

Legend: N samples.
"""

from __future__ import annotations

import queue
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Event
from typing import Generic, TypeVar

import numpy as np

from musictag.common.errors import SongWarning
from musictag.data.audio.decode import AudioSource, source_blocks

Item, Result = TypeVar("Item"), TypeVar("Result")

WORKERS = 2  # one reads faster than most networks tag
#: Of a song that is being read, at most so many blocks wait, of so many samples: an hour takes no more memory than two
#: minutes.
_WAITING_BLOCKS, _BLOCK_SAMPLES = 64, 2**15
_RESTART = object()


class Song(Generic[Result]):
    """The work on one song, whose samples (mono int16) arrive in blocks; here ``compute`` gets all of them, N."""

    error: Exception | None = None

    def __init__(self, compute: Callable[[np.ndarray], Result]) -> None:
        self._compute, self._parts = compute, []

    def add(self, block: np.ndarray) -> None:
        """The next samples."""
        self._parts.append(block)

    def end(self) -> None:
        """No more samples follow."""
        self._result = self._compute(np.concatenate(self._parts))

    @property
    def is_complete(self) -> bool:
        """Whether a song that has ended has a result, or an error."""
        return True

    def result(self) -> Result:
        """Of a complete song; raises its error."""
        if self.error is not None:
            raise self.error
        return self._result


class Work(Generic[Result]):
    """What is done with each of many songs; here ``compute`` gets all samples of a song at once, N."""

    def __init__(self, compute: Callable[[np.ndarray], Result]) -> None:
        self._compute = compute

    def begin(self) -> Song[Result]:
        """A new song."""
        return Song(self._compute)

    def run(self) -> None:
        """A step towards completing all songs that have ended; what several are done in together is not waited for."""

    def stop(self) -> None:
        """Nothing more is wanted: what has not begun is not done."""


def one_result(work: Work[Result], source: AudioSource, sample_rate: int) -> Result:
    """What ``work`` makes of one song; raises whatever goes wrong."""
    ((_, found),) = each_result(work, [source], sample_rate, workers=1)
    if isinstance(found, Exception):
        raise found
    return found


def each_result(
    work: Work[Result], sources: Iterable[AudioSource], sample_rate: int, workers: int = WORKERS
) -> Iterator[tuple[AudioSource, Result | Exception]]:
    """Every source, in order, with what ``work`` makes of it, or with the error raised by it.

    ``workers`` threads read ahead, by one song more than there are threads. A song that is complete is not kept waiting
    for one that is still being read.
    """
    pool, stop = ThreadPoolExecutor(workers, "musictag-reader"), Event()
    ended: deque[tuple[AudioSource, Song[Result]]] = deque()

    def begun(source: AudioSource) -> _Reader:
        reader = _Reader(source, sample_rate, stop)
        pool.submit(reader.run)
        return reader

    try:
        for reader in ahead(map(begun, sources), workers + 1):
            song, said = work.begin(), None
            while said is None:
                while ended and reader.items.empty():
                    work.run()
                    yield from _completed(ended)
                item = reader.items.get()
                if item is _RESTART:
                    song = work.begin()
                elif isinstance(item, np.ndarray):
                    try:
                        song.add(item)
                    except Exception as error:
                        reader.is_wanted, said = False, error
                else:
                    said = item
            try:
                _end(song, reader.source, said)
            except Exception as error:
                song.error = error
            ended.append((reader.source, song))
            yield from _completed(ended)
        while ended:
            work.run()
            yield from _completed(ended)
    finally:
        stop.set()
        work.stop()
        pool.shutdown(wait=False, cancel_futures=True)


def ahead(items: Iterable[Item], count: int) -> Iterator[Item]:
    """The same items, each given when ``count`` more have been taken, or none is left."""
    taken: deque[Item] = deque()
    for item in items:
        taken.append(item)
        if len(taken) > count:
            yield taken.popleft()
    yield from taken


def _completed(ended: deque[tuple[AudioSource, Song[Result]]]) -> Iterator[tuple[AudioSource, Result | Exception]]:
    while ended and ended[0][1].is_complete:
        source, song = ended.popleft()
        try:
            yield source, song.result()
        except Exception as error:
            yield source, error


def _end(song: Song, source: AudioSource, said: str | Exception) -> None:
    if isinstance(said, Exception):
        raise said
    if said:  # here, so that it comes in the order of the songs, whichever is read first
        warnings.warn(f"{source}: {said}", SongWarning, stacklevel=2)
    song.end()


class _Reader:
    """Reads one song in another thread, not further ahead than ``_WAITING_BLOCKS``: ``items`` are its blocks,
    ``_RESTART``, and in the end what is to be said of the song, or why it cannot be used."""

    def __init__(self, source: AudioSource, sample_rate: int, stop: Event) -> None:
        self.source = source
        self.items: queue.Queue[np.ndarray | object | str | Exception] = queue.Queue(_WAITING_BLOCKS)
        self.is_wanted = True
        self._sample_rate, self._stop = sample_rate, stop

    def run(self) -> None:
        with suppress(_Unwanted):
            try:
                said = source_blocks(self.source, self._sample_rate, self._take, lambda: self._put(_RESTART))
            except Exception as error:
                said = error
            self._put(said)

    def _take(self, samples: np.ndarray) -> None:
        for first in range(0, len(samples), _BLOCK_SAMPLES):
            self._put(samples[first : first + _BLOCK_SAMPLES])

    def _put(self, item: np.ndarray | object | str | Exception) -> None:
        while self.is_wanted and not self._stop.is_set():
            with suppress(queue.Full):
                return self.items.put(item, timeout=0.1)
        raise _Unwanted


class _Unwanted(BaseException):
    """Nobody waits for the rest of a song; no error of it, which decoders would report."""
