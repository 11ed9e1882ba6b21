"""Blocks of songs over worker processes that leave nothing behind: no half-written block, no orphan."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Any

from musictag.data.blocks import Song, write_block
from musictag.data.sources import SongReader
from musictag.errors import MusictagError

_POLL_SECONDS = 0.1
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Task:
    """What is the same for all blocks."""

    folder: Path
    sample_rate: int
    reader: SongReader


def run_blocks(
    task: Task,
    blocks: Sequence[list[Song]],
    workers: int,
    on_progress: Callable[[int], None],
    on_block: Callable[[list[Song], int], None],
) -> None:
    """Writes all blocks with ``workers`` processes, or in this one if ``workers`` is 1.

    ``on_progress`` hears the number of songs done, several times a second; ``on_block`` hears of every finished block
    and of the samples in its shard. What they or a block raise stops the rest: blocks in progress end within a song.

    Raises MusictagError if a worker process dies.
    """
    if workers == 1:
        done = 0

        def on_song() -> None:
            nonlocal done
            done += 1
            on_progress(done)

        for block in blocks:
            on_block(block, write_block(task.folder, block, task.reader, task.sample_rate, on_song))
        return

    context = multiprocessing.get_context("spawn")
    counter, stop = context.Value("q", 0), context.Event()
    with (
        _single_threaded_children(),
        ProcessPoolExecutor(workers, context, _start_worker, (task, counter, stop)) as pool,
    ):
        try:
            pending = {pool.submit(_work, block): block for block in blocks}
            while pending:
                for future in wait(pending, _POLL_SECONDS, FIRST_COMPLETED).done:
                    on_block(pending.pop(future), future.result())
                on_progress(counter.value)
        except BrokenProcessPool as error:
            raise MusictagError(
                f"a worker process died while preparing {task.folder} (killed, or out of memory). Finished blocks are "
                f"kept: type the same command again to go on, with fewer than {workers} workers if memory is short."
            ) from error
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


class _Stopped(Exception):
    """Ends a block in a worker because the run has ended."""


_worker: dict[str, Any] = {}


def _start_worker(task: Task, counter: Any, stop: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business, which then sets ``stop``
    _worker.update(task=task, counter=counter, stop=stop)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    # a killed parent cannot stop anybody, and a pool's workers would wait for it for ever
    wait_for([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _work(block: list[Song]) -> int:
    task: Task = _worker["task"]
    return write_block(task.folder, block, task.reader, task.sample_rate, _on_song)


def _on_song() -> None:
    if _worker["stop"].is_set():
        raise _Stopped
    with _worker["counter"].get_lock():
        _worker["counter"].value += 1


@contextmanager
def _single_threaded_children() -> Iterator[None]:
    """Processes started meanwhile compute with one thread each: libraries read this when they are loaded."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
