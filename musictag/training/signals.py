"""Graceful shutdown on signals: Ctrl-C, Slurm before a time limit, preemption.

Training continues to the end of a batch, saves, and then raises ``Stopped``. Commands that write results one by one
finish the current one. Elsewhere ``Stopped`` is raised at once: finished work is on disk already.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

#: Ctrl-C; preemption and `kill`; the signals that Slurm is told to send before it ends a job.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))
#: A process may receive one Ctrl-C twice, from the terminal and from its parent.
_SAME_PRESS_SECONDS = 2.0


class Stopped(BaseException):
    """A signal ended the work, whose state is saved; ``status`` is the exit status that a shell would report."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum
        self.status = 128 + signum


class SignalHandler:
    """Handles the signals of this process in the context ``installed()``; ``signum`` is the received one, or None.

    ``promise``: the message for a signal that is deferred (see ``defer``); empty: no message.
    """

    def __init__(self, promise: str = "saving after this batch") -> None:
        self.signum: int | None = None
        self._promise = promise
        self._deferred = False
        self._received_at = 0.0
        self._process = os.getpid()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Inside, a signal raises ``Stopped`` or is deferred (see ``defer``). Only the main thread receives signals: in
        any other thread the context does nothing."""
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
        """Install the handlers, again if necessary: Lightning replaces some of them when training begins."""
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                signal.signal(signum, self._on_signal)

    def defer(self, deferred: bool) -> None:
        """Whether a signal is only recorded: training checks ``signum`` after each batch. Raises ``Stopped`` for a
        recorded signal when signals are no longer deferred. A second Ctrl-C, some time later, is never deferred."""
        self._deferred = deferred
        if not deferred and self.signum is not None:
            raise Stopped(self.signum)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a worker process, which inherited the handlers when it was forked
            if signum != signal.SIGINT:  # sent by the terminal to all processes; the main process ends its workers
                signal.signal(signum, signal.SIG_DFL)
                os.kill(os.getpid(), signum)
            return
        again = self.signum is not None and time.monotonic() - self._received_at > _SAME_PRESS_SECONDS
        if not self._deferred or (again and signum == signal.SIGINT):
            self.signum = signum
            raise Stopped(signum)
        if self.signum is None:
            self.signum, self._received_at = signum, time.monotonic()
            if not self._promise:
                return
            # not print, which is not reentrant and may be interrupted by this handler
            name = signal.Signals(signum).name
            again = "; Ctrl-C again stops at once" if signum == signal.SIGINT else ""
            with suppress(OSError):  # whoever reads it, such as tee, may have been stopped by the same key
                os.write(sys.__stderr__.fileno(), f"\n{name}: {self._promise}{again}\n".encode())
