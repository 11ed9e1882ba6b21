"""Who works in a run folder: one process at a time, and others can see whether one does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from musictag.errors import MusictagError

_LOCK_FILE = ".running.lock"


class RunsElsewhere(MusictagError):
    """Another process works on the same run."""


@contextmanager
def hold(run_dir: Path) -> Iterator[None]:
    """Claims the folder, which need not exist yet, for as long as the context lasts; a killed process lets go of it.

    Raises RunsElsewhere if another process has it.
    """
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(_lock_path(run_dir))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunsElsewhere(f"another process is at work on {run_dir}; wait for it, or stop it") from None
    try:
        yield
    finally:
        # removed while it is held: whoever waits for this very file looks again
        with suppress(OSError):
            _lock_path(run_dir).unlink()
        lock.release()


def is_running(run_dir: Path) -> bool:
    """Whether a process has the folder now."""
    path = _lock_path(run_dir)
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:  # a folder of somebody else's: its lock cannot be tried
        return False
    lock.release()
    return False


def _lock_path(run_dir: Path) -> Path:
    # beside the folder: a run that cannot begin leaves none
    return run_dir.parent / f".{run_dir.name}{_LOCK_FILE}"
