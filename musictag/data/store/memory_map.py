"""Memory-mapped files with small random reads.

A page that is not in memory is read together with its neighbours, by the disk's read-ahead: up to megabytes, which a
patch of 100 kB has no use for, and which evict useful pages. So the system is told that access is random, and which
bytes will be needed: it then reads those, all at once.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from pathlib import Path

import pyarrow as pa

_PAGE = mmap.PAGESIZE


def map_file(path: Path) -> pa.Buffer:
    """Map a file for reading, without keeping a file descriptor. Raises OSError or ArrowException if that fails."""
    # NumPy's memmap would keep a descriptor open
    with pa.memory_map(str(path)) as file:
        # Arrow makes the system read whatever is requested: so request almost nothing, and use the map behind it
        beginning = file.read_buffer(1)
    whole = beginning if beginning.parent is None else beginning.parent
    _advise(whole.address, whole.size, _RANDOM)
    return whole


def will_need(address: int, num_bytes: int) -> None:
    """Ask the system to start reading these bytes of a mapped file, unless they are in memory."""
    _advise(address, num_bytes, _WILL_NEED)


if sys.platform == "linux":
    _RANDOM, _WILL_NEED = mmap.MADV_RANDOM, mmap.MADV_WILLNEED
    _madvise = ctypes.CDLL(None).madvise
    _madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

    def _advise(address: int, num_bytes: int, advice: int) -> None:
        before = address % _PAGE
        # advice may be refused, which only affects speed
        _madvise(address - before, num_bytes + before, advice)

else:
    _RANDOM, _WILL_NEED = 0, 0

    def _advise(address: int, num_bytes: int, advice: int) -> None:
        """Other systems decide themselves what to read ahead."""
