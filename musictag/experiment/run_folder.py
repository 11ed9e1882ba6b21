"""The lock of a run folder, which one process holds at a time, and error.txt, which says why a run failed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from musictag.common.errors import MusictagError

_LOCKS = ".locks"
_WAIT_SECONDS = 1.0  # is_running takes the lock for a moment


class RunLocked(MusictagError):
    """Another process is working on the same run."""


@contextmanager
def lock_run(run_dir: Path, path: Path | None = None) -> Iterator[None]:
    """Lock the folder, which need not exist yet, while the context lasts; a killed process releases its lock.

    ``path``: of the lock, by default beside the folders of all data sets. Raises RunLocked if another process holds the
    lock, and MusictagError if the folder is not writable.
    """
    path = path or _lock_path(run_dir)
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=_WAIT_SECONDS)
    except Timeout:
        raise RunLocked(f"another process is working on {run_dir}; wait for it, or stop it") from None
    except OSError as error:
        raise _not_writable(path.parents[path.parent.name == _LOCKS], error.strerror or str(error)) from error
    try:
        _check_folder(run_dir)
        yield
    finally:
        lock.release()


def is_running(run_dir: Path) -> bool:
    """Whether a process holds the lock of the folder now."""
    path = _lock_path(run_dir)
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:  # the folder of another user: its lock cannot be tested
        return False
    lock.release()
    return False


def _check_folder(run_dir: Path) -> None:
    """Raise MusictagError now, not after the first epoch. A folder that does not exist yet will be created."""
    if not run_dir.is_dir():
        if run_dir.exists() or run_dir.is_symlink():
            raise _not_writable(run_dir, "it is not a folder but a file or a broken link")
        return
    # asks the operating system: even root cannot write to a disk that is mounted read-only
    if not os.access(run_dir, os.W_OK | os.X_OK):
        raise _not_writable(run_dir, "it is read-only for you")


def _not_writable(folder: Path, reason: str) -> MusictagError:
    return MusictagError(
        f"cannot write to {folder}: {reason}. Change that, or choose another folder for results with runs_dir=...; "
        "existing results are kept"
    )


def write_error(run_dir: Path, reason: str) -> None:
    """Write error.txt, unless a process has already written it."""
    path = run_dir / "error.txt"
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(reason.rstrip() + "\n")
    except (FileExistsError, FileNotFoundError):  # reported already, or nothing has begun
        return
    except OSError:  # the disk may be full: keep the first error, and no truncated file
        with suppress(OSError):
            path.unlink()


def _lock_path(run_dir: Path) -> Path:
    # outside the folder, so that a run that cannot begin leaves none. Never removed: with two files there are two locks
    run_dir = Path(os.path.abspath(run_dir))  # a relative one may have a single part
    return run_dir.parents[1] / _LOCKS / f"{run_dir.parent.name}-{run_dir.name}.lock"


def clean_up(run_dir: Path) -> None:
    """Remove what an earlier process left: its error.txt, and files that it was writing when it was killed."""
    (run_dir / "error.txt").unlink(missing_ok=True)
    for leftover in run_dir.glob("**/.*.part"):
        leftover.unlink()
