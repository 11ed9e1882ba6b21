"""Common to `musictag tag` and `musictag embed`: processing named songs, and songs in named folders, one by one.

A song that fails is skipped, whatever the reason; a signal ends the work between two results.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from musictag.common.errors import MusictagError, SongError, SongWarning
from musictag.common.text import printable, reason
from musictag.inference.many_songs import attempt
from musictag.training.signals import SignalHandler, Stopped

Result = TypeVar("Result")


class Songs:
    """The songs that ``names`` stand for: files with any name, and all audio below folders; each of them once.

    ``paths`` are collected immediately. Files that cannot be used are reported on standard error.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.done = self.failed = 0
        self._signal_handler = SignalHandler(promise="")
        self._stopped: int | None = None
        found: dict[str, None] = {}
        whole: set[str] = set()  # absolute paths of all files in folders
        for name in names:
            if not os.path.isdir(name):
                if os.path.abspath(name) not in whole:
                    found[name] = None
                continue
            # imported here: it takes half a second, which a single file need not wait for
            from musictag.data.catalogue.paths import songs_below

            unreadable: dict[str, str] = {}
            known = whole | {os.path.abspath(path) for path in found}
            below = songs_below(name, unreadable)
            found.update(dict.fromkeys(path for path in below if os.path.abspath(path) not in known))
            whole.update(map(os.path.abspath, below))
            for place, why in unreadable.items():
                self._fail(place, f"this folder cannot be read ({why})")
            if not below and not unreadable:
                self._fail(name, "no file in this folder has an audio extension (.mp3, .flac, .wav, ...)")
        self.paths = list(found)

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """Inside, a signal only ends ``each``: writes that have begun are completed."""

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, SongWarning):
                self.say(str(message))
            else:
                others(message, category, *where, **more)

        with self._signal_handler.installed(), warnings.catch_warnings():
            warnings.simplefilter("always", SongWarning)
            others, warnings.showwarning = warnings.showwarning, show
            self._signal_handler.defer(True)
            yield

    def each(self, work: Callable[[str], Result]) -> Iterator[tuple[str, Result]]:
        """Path and result of every song for which ``work`` succeeds."""
        return self.successes((path, attempt(lambda: work(path))) for path in self.paths)  # noqa: B023

    def successes(self, results: Iterable[tuple[str, Result | Exception]]) -> Iterator[tuple[str, Result]]:
        """The ``results`` that are no errors; a signal ends the work on the next one."""
        results = iter(results)
        while True:
            try:
                self._signal_handler.defer(False)
                path, result = next(results, (None, None))
            except (KeyboardInterrupt, Stopped) as stop:
                self._stopped = stop.status if isinstance(stop, Stopped) else 130
                return
            finally:
                self._signal_handler.defer(True)
            if path is None:
                return
            if isinstance(result, Exception):
                self._fail(path, why_not(result))
            else:
                self.done += 1
                yield path, result

    @property
    def is_stopped(self) -> bool:
        """Whether ``each`` ended early."""
        return self._stopped is not None

    def status(self, what: str) -> int:
        """The exit status, 130 after Ctrl-C; if interrupted, it prints how many files ``what`` applies to."""
        if not self.is_stopped:
            return 1 if self.failed else 0
        self.say(f"interrupted: {self.done:,} of {len(self.paths):,} files {what}")
        return self._stopped

    def _fail(self, path: str, why: str) -> None:
        self.failed += 1
        self.say(f"{path}: {why}")

    def say(self, text: str) -> None:
        """Print a message to standard error."""
        print(f"musictag: {printable(text)}", file=sys.stderr, flush=True)


def why_not(error: Exception) -> str:
    """Why a song cannot be used: our own message, or that of a library."""
    if isinstance(error, SongError | MusictagError):
        return str(error)
    return (
        "needs more memory than is available"
        if isinstance(error, MemoryError)
        else f"failed unexpectedly: {reason(error)}"
    )
