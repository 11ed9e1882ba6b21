"""Ranks, child processes and cores, also where there is no Trainer yet or any more."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import signal
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait as wait_for
from pathlib import Path

# where Lightning keeps the rank; importing Lightning itself takes seconds, too long for commands that read a table
from lightning_utilities.core.rank_zero import rank_zero_only

#: Where launchers put the rank, in the order in which Lightning looks.
_VARIABLES = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


def is_rank_zero() -> bool:
    """Whether this process is the first, according to its launcher (Lightning, torchrun, Slurm)."""
    rank = next((os.environ[name] for name in _VARIABLES if name in os.environ), 0)
    return int(getattr(rank_zero_only, "rank", rank)) == 0


def rank_zero_say(message: str) -> None:
    """Print on rank zero only."""
    if is_rank_zero():
        print(message, flush=True)


def follow_parent() -> None:
    """Call this in a new process: it ignores Ctrl-C, which its parent handles, and ends when its parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    # a killed parent stops nobody, and the workers of a pool would wait for it forever
    wait_for([multiprocessing.parent_process().sentinel])
    os._exit(1)


def rank_and_world() -> tuple[int, int]:
    """This process's rank and the number of training processes."""
    dist = sys.modules.get("torch.distributed")  # importing torch takes seconds, too long for workers that only decode
    if dist is not None and dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


#: Ends a process at once. On Windows, which has no SIGKILL, SIGTERM does that.
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@contextmanager
def single_threaded_children() -> Iterator[None]:
    """Processes started in this context compute with one thread each: libraries read the variables on loading."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def available_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


#: Linux: the fourth number is that of the tasks that run or want to, on all cores.
_RUNNING = Path("/proc/loadavg")


def let_threads_sleep() -> None:
    """Call this before torch is imported: on a busy machine, threads that have nothing to do sleep, unless the user has
    chosen otherwise.

    By default they spin, each on a core, until the others have finished, and keep whoever is busy there and each other
    from the cores: training takes several times as long. On an idle machine spinning is up to twice as fast.
    """
    if {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
        return
    if _others_running() + available_cores() > (os.cpu_count() or 1):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def _others_running() -> int:
    """How many tasks of others run now: the median of a twentieth of a second. 0 where the system does not say."""
    seen = []
    while len(seen) < 5 and _RUNNING.exists():
        seen.append(int(_RUNNING.read_text().split()[3].partition("/")[0]))
        time.sleep(0.01)
    return statistics.median_low(seen) - 1 if seen else 0


@contextmanager
def importing() -> Iterator[None]:
    """The context of a program's large imports: without the garbage collector, which searches what they make, again and
    again, for up to a quarter of their time. Afterwards it passes over what is there now."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()


#: Parameters of glibc's mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_KEPT_BYTES = 2**30


def keep_freed_memory() -> None:
    """Let this process reuse freed memory instead of returning it to the system at once, with glibc on Linux.

    Each training step needs the same buffers again; to get them from the system, zeroed page by page, took up to half
    of the step. Elsewhere, and for settings of the user (MALLOC_*, GLIBC_TUNABLES), nothing is changed.
    """
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, -1)  # never
