"""The system reads the requested parts of a mapped file, and not their surroundings."""

from __future__ import annotations

import ctypes
import mmap
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from musictag.data.store.memory_map import map_file, will_need


def test_the_map_is_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    content = np.random.default_rng(0).bytes(100_000)
    path.write_bytes(content)
    whole = map_file(path)
    path.unlink()  # a map outlives its name, and there is no descriptor to close
    assert whole.to_pybytes() == content
    will_need(whole.address + 12_345, 50_000)
    will_need(whole.address + 12_345, 10**9)  # refused, and no harm done
    assert whole.to_pybytes() == content


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises((OSError, pa.ArrowException)):
        map_file(tmp_path / "file")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take no advice")
def test_hardly_more_is_read_than_needed(tmp_path: Path) -> None:
    path, size, first, wanted = tmp_path / "file", 64 * 2**20, 30 * 2**20 + 77, 100_000
    with path.open("wb") as file:
        file.truncate(size)
    whole = map_file(path)
    will_need(whole.address + first, wanted)
    assert not np.frombuffer(whole, dtype=np.uint8)[first : first + wanted].any()
    pages = pages_in_memory(whole)
    begin, end = first // mmap.PAGESIZE, (first + wanted - 1) // mmap.PAGESIZE
    assert pages[begin : end + 1].all()
    # the first page shows that the file is mapped
    assert pages.sum() <= end + 1 - begin + 1
    # what was not announced is read page by page
    assert np.frombuffer(whole, dtype=np.uint8)[50 * 2**20] == 0
    assert pages_in_memory(whole).sum() == pages.sum() + 1


def pages_in_memory(whole: pa.Buffer) -> np.ndarray:
    """Which pages of a map are in memory: booleans."""
    pages = np.zeros(-(-whole.size // mmap.PAGESIZE), dtype=np.uint8)
    mincore = ctypes.CDLL(None, use_errno=True).mincore
    mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
    assert mincore(whole.address, whole.size, pages.ctypes.data) == 0
    return (pages & 1).astype(bool)
