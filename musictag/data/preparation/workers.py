"""Distributes blocks of songs over worker processes, without leaving partial blocks or orphans behind."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from musictag.common.errors import MusictagError
from musictag.common.processes import follow_parent, single_threaded_children
from musictag.common.progress import say
from musictag.data.datasets import SongReader
from musictag.data.preparation.blocks import Song, remove_leftovers, write_block
from musictag.data.preparation.crashes import find_crashed

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Task:
    """The settings that all blocks share."""

    folder: Path
    sample_rate: int
    reader: SongReader
    left_out: Mapping[Song, str] = field(default_factory=dict)


def run_blocks(
    task: Task,
    blocks: Sequence[list[Song]],
    workers: int,
    on_progress: Callable[[int], None],
    on_block: Callable[[list[Song], int], None],
) -> None:
    """Write all blocks with ``workers`` processes, or in this one if ``workers`` is 1.

    ``on_progress`` gets the number of finished songs, several times per second; ``on_block`` gets every finished block
    and the number of samples in its shard. An exception in these or in a block stops the rest, within a song.

    If a worker process dies of a song, that song is found and left out, and the work continues (see ``crashes``). If it
    died of something else, such as the memory that all workers need together, half as many continue. If only this
    process works, the song that ended it is found when the work is resumed.

    Raises MusictagError if a single worker dies for another reason than a song.
    """
    task = replace(task, left_out=find_crashed(task.folder, task.reader))
    if workers == 1:
        done = 0

        def on_song() -> None:
            nonlocal done
            done += 1
            on_progress(done)

        for block in blocks:
            on_block(block, _write(task, block, on_song))
        return

    num_songs, waiting = sum(map(len, blocks)), list(blocks)
    while waiting := _run_pool(task, waiting, num_songs - sum(map(len, waiting)), workers, on_progress, on_block):
        remove_leftovers(task.folder)
        known, task = task.left_out, replace(task, left_out=find_crashed(task.folder, task.reader))
        if task.left_out != known:
            continue
        if workers == 1:
            raise MusictagError(
                f"a worker process died while preparing {task.folder} (killed, or out of memory), not because of a "
                "single song. Finished blocks are kept: rerun the command to continue."
            )
        workers //= 2
        say(f"a worker process died (killed, or out of memory): continuing with {workers}")


def _run_pool(
    task: Task,
    blocks: Sequence[list[Song]],
    done: int,
    workers: int,
    on_progress: Callable[[int], None],
    on_block: Callable[[list[Song], int], None],
) -> list[list[Song]]:
    """Write blocks until all are written or a worker dies; returns those that may not have been written.

    ``done`` songs were finished before.
    """
    context = multiprocessing.get_context("spawn")
    # parent and workers share no lock: a worker that dies holding it would block the others forever
    counter, stop = context.Value("q", done), context.RawValue("b", False)
    left = dict(enumerate(blocks))
    with (
        single_threaded_children(),
        ProcessPoolExecutor(workers, context, _start_worker, (task, counter, stop)) as pool,
    ):
        try:
            pending = {pool.submit(_work, block): number for number, block in left.items()}
            while pending:
                for future in wait(pending, _POLL_SECONDS, FIRST_COMPLETED).done:
                    num_samples = future.result()
                    on_block(left.pop(pending.pop(future)), num_samples)
                on_progress(counter.get_obj().value)
        except BrokenProcessPool:
            return list(left.values())
        finally:
            stop.value = True
            pool.shutdown(cancel_futures=True)
    return []


def _write(task: Task, block: list[Song], on_song: Callable[[], None]) -> int:
    return write_block(task.folder, block, task.reader, task.sample_rate, on_song, task.left_out)


class _Stopped(Exception):
    """Ends a block in a worker because the run was stopped."""


_worker: dict[str, Any] = {}


def _start_worker(task: Task, counter: Any, stop: Any) -> None:
    follow_parent()
    _worker.update(task=task, counter=counter, stop=stop)


def _work(block: list[Song]) -> int:
    return _write(_worker["task"], block, _on_song)


def _on_song() -> None:
    if _worker["stop"].value:
        raise _Stopped
    with _worker["counter"].get_lock():
        _worker["counter"].value += 1
