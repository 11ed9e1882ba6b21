"""Who works in a run folder: one process at a time; others can see whether one does, and why one failed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from musictag.common.errors import MusictagError

_LOCKS = ".locks"
_LOOK_SECONDS = 1.0  # whoever looks whether a run is at work takes its lock for a moment


class RunLocked(MusictagError):
    """Another process works on the same run."""


@contextmanager
def lock_run(run_dir: Path) -> Iterator[None]:
    """Claims the folder, which need not exist yet, for as long as the context lasts; a killed process lets go of it.

    Raises RunLocked if another process has it, and MusictagError if nothing can be written there.
    """
    path = _lock_path(run_dir)
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=_LOOK_SECONDS)
    except Timeout:
        raise RunLocked(f"another process is at work on {run_dir}; wait for it, or stop it") from None
    except OSError as error:
        raise _not_writable(path.parents[1], error.strerror or str(error)) from error
    try:
        _check_folder(run_dir)
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


def _check_folder(run_dir: Path) -> None:
    """Now, and not when the first epoch has been trained. A folder that is not there yet will be made."""
    if not run_dir.is_dir():
        if run_dir.exists() or run_dir.is_symlink():
            raise _not_writable(run_dir, "it is no folder, but a file or a link that leads nowhere")
        return
    # of the system: who may do everything has to respect a disk that is mounted read-only
    if not os.access(run_dir, os.W_OK | os.X_OK):
        raise _not_writable(run_dir, "it is read-only for you")


def _not_writable(folder: Path, reason: str) -> MusictagError:
    return MusictagError(
        f"cannot write to {folder}: {reason}. Change that, or choose another place for results with runs_dir=...; "
        "what is there is kept"
    )


def write_error(run_dir: Path, reason: str) -> None:
    """Writes error.txt, unless a process has already written why."""
    path = run_dir / "error.txt"
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(reason.rstrip() + "\n")
    except (FileExistsError, FileNotFoundError):  # told before, or nothing has begun
        return
    except OSError:  # the disk may be full: that is no reason to hide the first error, and half a reason is none
        with suppress(OSError):
            path.unlink()


def _lock_path(run_dir: Path) -> Path:
    # not in the folder: a run that cannot begin leaves none. The file stays: who removes a lock may split it in two
    return run_dir.parents[1] / _LOCKS / f"{run_dir.parent.name}-{run_dir.name}.lock"


def clean_up(run_dir: Path) -> None:
    """Removes what an earlier process left: why it failed, and what it was writing when it was killed."""
    (run_dir / "error.txt").unlink(missing_ok=True)
    for leftover in run_dir.glob("**/.*.part"):
        leftover.unlink()
