"""Files mapped into memory, of which small pieces are read here and there.

A page that is not in memory is read together with its neighbours, as many as the disk's read-ahead says: up to
megabytes, of which a patch of 100 kB has no use, and which drive useful pages out. So the system is told that access is
random, and what will be needed: then it reads that, all of it at once.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from pathlib import Path

import pyarrow as pa

_PAGE = mmap.PAGESIZE


def map_file(path: Path) -> pa.Buffer:
    """The file, mapped for reading, without a file descriptor. Raises OSError or ArrowException where it cannot be."""
    # NumPy's map would keep a descriptor open
    with pa.memory_map(str(path)) as file:
        # Arrow has the system read whatever it is asked for: so ask for nearly nothing, and take the map behind it
        beginning = file.read_buffer(1)
    whole = beginning if beginning.parent is None else beginning.parent
    _advise(whole.address, whole.size, _RANDOM)
    return whole


def will_need(address: int, num_bytes: int) -> None:
    """Has the system begin to read these bytes of a mapped file, where they are not in memory."""
    _advise(address, num_bytes, _WILL_NEED)


if sys.platform == "linux":
    _RANDOM, _WILL_NEED = mmap.MADV_RANDOM, mmap.MADV_WILLNEED
    _madvise = ctypes.CDLL(None).madvise
    _madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

    def _advise(address: int, num_bytes: int, advice: int) -> None:
        before = address % _PAGE
        # advice may be refused, which changes nothing but the speed
        _madvise(address - before, num_bytes + before, advice)

else:
    _RANDOM, _WILL_NEED = 0, 0

    def _advise(address: int, num_bytes: int, advice: int) -> None:
        """Other systems read ahead by rules of their own."""
