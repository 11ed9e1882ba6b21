"""Being asked to stop: by Ctrl-C, by Slurm before a time limit, by whoever needs the machine.

Training is asked by a signal, goes on to the end of a batch, saves, and then raises ``Stopped``. Whoever writes results
one by one writes the one at hand to its end. Elsewhere nothing would be gained by waiting: what is finished is on disk,
and ``Stopped`` is raised at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: Ctrl-C; an end that is coming (a machine taken back, `kill`); what Slurm is told to send before it ends a job.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))
#: One Ctrl-C in a terminal may reach a process twice, from the terminal and from its parent.
_SAME_PRESS_SECONDS = 2.0


class Stopped(BaseException):
    """A signal asked for the end, and what there was to save is saved; ``status`` is what a shell would report."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum
        self.status = 128 + signum


class SignalHandler:
    """Hears the signals of this process, in the context of ``heard()``; ``signum`` is the one that came, or None.

    ``promise``: what is said of a signal that is put off (see ``defer``); empty: nothing.
    """

    def __init__(self, promise: str = "saving after this batch") -> None:
        self.signum: int | None = None
        self._promise = promise
        self._waits = False
        self._came = 0.0
        self._process = os.getpid()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Inside, a signal raises ``Stopped`` (or waits, see ``defer``). Only the main thread hears signals:
        in any other the context does nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {signum: signal.getsignal(signum) for signum in SIGNALS}
        self.install()
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler if handler is not None else signal.SIG_DFL)

    def install(self) -> None:
        """Takes the signals (again: Lightning takes some of them when training begins)."""
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                signal.signal(signum, self._on_signal)

    def defer(self, waits: bool) -> None:
        """Whether a signal is only noted: training looks at ``signum`` after each batch. Raises ``Stopped`` for one
        that was noted when it is put off no longer. A second Ctrl-C, some time later, is never put off."""
        self._waits = waits
        if not waits and self.signum is not None:
            raise Stopped(self.signum)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a worker process, which has the handlers of the process it was forked from
            if signum != signal.SIGINT:  # the terminal sends it to all; the main process ends its workers
                signal.signal(signum, signal.SIG_DFL)
                os.kill(os.getpid(), signum)
            return
        again = self.signum is not None and time.monotonic() - self._came > _SAME_PRESS_SECONDS
        if not self._waits or (again and signum == signal.SIGINT):
            self.signum = signum
            raise Stopped(signum)
        if self.signum is None:
            self.signum, self._came = signum, time.monotonic()
            if not self._promise:
                return
            # print may be at work in the main program, and cannot be entered twice
            name = signal.Signals(signum).name
            again = "; Ctrl-C again stops at once" if signum == signal.SIGINT else ""
            os.write(sys.__stderr__.fileno(), f"\n{name}: {self._promise}{again}\n".encode())
