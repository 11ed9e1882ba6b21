"""Progress of long preparations: a bar in a terminal, an occasional line in a log file."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich import progress as rich_progress
from rich.console import Console

from musictag.common.processes import is_rank_zero
from musictag.common.text import printable

_LINE_EVERY_SECONDS = 10.0


def say(message: str) -> None:
    """Print one line for the user on standard error."""
    Console(stderr=True).print(printable(message), highlight=False, markup=False, soft_wrap=True)


def tell(message: str) -> None:
    """Like ``say``, once for any number of training processes: on rank zero."""
    if is_rank_zero():
        say(message)


class Progress:
    """How many of ``total`` are done, how many per second, and the time left.

    ``unit`` names what is counted, in the plural; ``when_stopped`` is added to the message if the work is interrupted.
    """

    def __init__(self, what: str, total: int, unit: str = "songs", when_stopped: str = "") -> None:
        self._what = what
        self._total = total
        self._unit = unit.removesuffix("s") if total == 1 else unit
        self._when_stopped = when_stopped
        self._done = 0
        self._console = Console(stderr=True)
        self._bar: rich_progress.Progress | None = None

    def __enter__(self) -> Progress:
        self._began = self._last_line = time.monotonic()
        if self._console.is_terminal:
            self._bar = rich_progress.Progress(
                rich_progress.TextColumn("{task.description}", markup=False),
                rich_progress.BarColumn(),
                rich_progress.MofNCompleteColumn(),
                rich_progress.TextColumn(f"{self._unit}  {{task.fields[rate]:,.1f}} per second"),
                rich_progress.TimeRemainingColumn(),
                console=self._console,
                redirect_stdout=sys.stdout.isatty(),  # into a file it goes past the bar
            )
            self._task = self._bar.add_task(self._what, total=self._total, rate=0.0)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        seconds = time.monotonic() - self._began
        if kind is None:
            say(f"{self._what}: {self._total:,} {self._unit} in {_duration(seconds)}")
        else:
            say(f"{self._what}: stopped after {self._done:,} of {self._total:,} {self._unit}{self._when_stopped}")

    def show(self, done: int, before: int = 0) -> None:
        """``done`` songs are done, ``before`` of which before the work began; cheap enough to call after each one."""
        self._done = done
        now = time.monotonic()
        rate = (done - before) / max(now - self._began, 1e-9)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, rate=rate)
        elif now - self._last_line >= _LINE_EVERY_SECONDS:
            self._last_line = now
            left = _duration((self._total - done) / rate) if rate else "unknown time"
            say(f"{self._what}: {done:,} of {self._total:,} {self._unit}, {rate:,.1f} per second, {left} left")


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
