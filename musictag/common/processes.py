"""Which of several processes speaks and writes, before and after there is a Trainer to ask."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait as wait_for

# where Lightning keeps the rank; Lightning itself takes seconds to load, which whoever only reads a table is spared
from lightning_utilities.core.rank_zero import rank_zero_only

#: Where launchers tell the rank, in the order in which Lightning asks.
_VARIABLES = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


def is_rank_zero() -> bool:
    """Whether this process is the first of all, by what its launcher (Lightning, torchrun, Slurm) says of it."""
    told = next((os.environ[name] for name in _VARIABLES if name in os.environ), 0)
    return int(getattr(rank_zero_only, "rank", told)) == 0


def rank_zero_say(message: str) -> None:
    """Print on the first process alone."""
    if is_rank_zero():
        print(message, flush=True)


def follow_parent() -> None:
    """Called in a new process: it leaves Ctrl-C to the process that started it, and does not outlive that one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    # a killed parent cannot stop anybody, and a pool's workers would wait for it for ever
    wait_for([multiprocessing.parent_process().sentinel])
    os._exit(1)


def rank_and_world() -> tuple[int, int]:
    """This process's number and how many train together."""
    dist = sys.modules.get("torch.distributed")  # who has not loaded it is alone, and is spared the seconds it takes
    if dist is not None and dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@contextmanager
def single_threaded_children() -> Iterator[None]:
    """Processes started meanwhile compute with one thread each: libraries read this when they are loaded."""
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
