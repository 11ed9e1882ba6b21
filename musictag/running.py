"""Who works in a run folder: one process at a time; others can see whether one does, and why one failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from musictag.errors import MusictagError

_LOCKS = ".locks"
_LOOK_SECONDS = 1.0  # whoever looks whether a run is at work takes its lock for a moment


class RunsElsewhere(MusictagError):
    """Another process works on the same run."""


@contextmanager
def hold(run_dir: Path) -> Iterator[None]:
    """Claims the folder, which need not exist yet, for as long as the context lasts; a killed process lets go of it.

    Raises RunsElsewhere if another process has it.
    """
    path = _lock_path(run_dir)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=_LOOK_SECONDS)
    except Timeout:
        raise RunsElsewhere(f"another process is at work on {run_dir}; wait for it, or stop it") from None
    try:
        yield
    finally:
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


def note_reason(run_dir: Path, reason: str) -> None:
    """Writes error.txt, unless a process has already written why."""
    with suppress(OSError):  # the disk may be full: that is no reason to hide the first error
        if run_dir.exists():
            with open(run_dir / "error.txt", "x", encoding="utf-8") as file:
                file.write(reason.rstrip() + "\n")


def _lock_path(run_dir: Path) -> Path:
    # not in the folder: a run that cannot begin leaves none. The file stays: who removes a lock may split it in two
    return run_dir.parents[1] / _LOCKS / f"{run_dir.parent.name}-{run_dir.name}.lock"
