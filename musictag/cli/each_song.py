"""Common to `musictag tag` and `musictag embed`: processing named songs, and songs in named folders, one by one.

A song that fails is skipped, whatever the reason; a signal ends the work between two results.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, TypeVar

from musictag.common.errors import MusictagError, SongError, SongWarning
from musictag.common.progress import Progress
from musictag.common.text import printable, reason
from musictag.library.sources import songs_of
from musictag.training.signals import SignalHandler, Stopped

Result = TypeVar("Result")

#: After more files, what was said of the first ones has left the screen.
_ON_SCREEN = 20


class Songs:
    """The songs that ``names`` stand for (see ``songs_of``).

    ``paths`` are collected immediately; ``done`` counts those that succeed. Files that cannot be used are reported on
    standard error.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.done = 0
        self.failures: list[str] = []
        self._signal_handler = SignalHandler(promise="")
        self._stopped: int | None = None
        self.paths = songs_of(names, self.fail)

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """Inside, a signal only ends ``successes``: writes that have begun are completed."""

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
        """Path and result of every song for which ``work`` succeeds (docs/extending.md: a verb of your own)."""
        return self.successes((path, _attempt(work, path)) for path in self.paths)

    def successes(
        self, results: Iterable[tuple[str, Result | Exception]], doing: str | None = None
    ) -> Iterator[tuple[str, Result]]:
        """The ``results`` that are no errors, one for each of ``paths``; a signal ends the work on the next one. With
        ``doing``, what is done to the songs, progress is shown."""
        results, seen, known = iter(results), 0, 0
        with suppress(_Ended), Progress(doing, len(self.paths), "files") if doing else nullcontext() as progress:
            while True:
                try:
                    self._signal_handler.defer(False)
                    path, result = next(results, (None, None))
                except (KeyboardInterrupt, Stopped) as stop:
                    self._stopped = stop.status if isinstance(stop, Stopped) else 130
                    raise _Ended from None
                finally:
                    self._signal_handler.defer(True)
                if path is None:
                    return
                if isinstance(result, Exception):
                    self.fail(path, _why_not(result))
                else:
                    self.done += 1
                    yield path, result
                seen, known = seen + 1, known + (not getattr(result, "is_new", True))
                if progress is not None:
                    progress.show(seen, known)

    @property
    def is_stopped(self) -> bool:
        """Whether ``successes`` ended early."""
        return self._stopped is not None

    def status(self, what: str) -> int:
        """The exit status, 130 after Ctrl-C; if interrupted, it prints how many files ``what`` applies to.

        After many files, those that failed are listed again.
        """
        if self.failures and len(self.paths) > _ON_SCREEN:
            self.say(f"{len(self.failures):,} of {len(self.paths):,} files could not be used:")
            for failure in self.failures:
                self.say(f"  {failure}")
        if not self.is_stopped:
            return 1 if self.failures else 0
        self.say(f"interrupted: {self.done:,} of {len(self.paths):,} files {what}")
        return self._stopped

    def fail(self, path: str, why: str) -> None:
        """Report a file that cannot be used."""
        self.failures.append(f"{path}: {why}")
        self.say(self.failures[-1])

    def say(self, text: str) -> None:
        """Print a message to standard error."""
        print(f"musictag: {printable(text)}", file=sys.stderr, flush=True)


def _attempt(work: Callable[[str], Result], path: str) -> Result | Exception:
    try:
        return work(path)
    except Exception as error:
        return error


class _Ended(Exception):
    """The work ended early."""


def _why_not(error: Exception) -> str:
    if isinstance(error, SongError | MusictagError):  # our own message, not that of a library
        return str(error)
    if isinstance(error, MemoryError):
        return "needs more memory than is available"
    return f"failed unexpectedly: {reason(error)}"
