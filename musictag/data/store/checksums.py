"""Checksums of small blocks of a shard: audio is verified when it is read.

They follow the samples in the shard's own file, and so are written, mapped and deleted with it.
Legend: N samples, G blocks, B patches.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xxhash

from musictag.data.store.memory_map import will_need

#: Samples per block (the last one of a shard may have fewer). Reading a patch verifies every block that it touches:
#: small blocks add less to it, but cost more calls, memory and disk. 32 KiB are a third of a patch of 3 s, and the
#: checksum is 0.01% of that.
BLOCK_SAMPLES = 2**14
_BLOCK_BYTES = 2 * BLOCK_SAMPLES
_READ_SAMPLES = 2**22
_WORD = np.dtype("<u4")


def num_blocks(num_samples: np.ndarray | int) -> np.ndarray | int:
    """The number of blocks in a shard of ``num_samples``."""
    return -(-num_samples // BLOCK_SAMPLES)


def checksum_bytes(num_samples: int) -> int:
    """The size of a shard's checksums, which follow its samples."""
    return _WORD.itemsize * (num_blocks(num_samples) + 1)


class ShardChecksums:
    """Computes the checksums of a shard from its samples, which come in pieces of any length."""

    def __init__(self) -> None:
        #: CRC-32 of all samples so far
        self.whole = 0
        self._blocks: list[int] = []
        self._block, self._missing_bytes = xxhash.xxh3_64(), _BLOCK_BYTES

    def update(self, samples: np.ndarray) -> None:
        """Add samples, int16 N with N > 0, little-endian and contiguous."""
        data = memoryview(samples).cast("B")
        self.whole = zlib.crc32(data, self.whole)
        while len(data):
            piece, data = data[: self._missing_bytes], data[self._missing_bytes :]
            self._block.update(piece)
            self._missing_bytes -= len(piece)
            if not self._missing_bytes:
                self._end_block()

    def to_bytes(self) -> bytes:
        """The bytes that follow the samples: a checksum for each block, then the CRC-32 of all checksums.

        The latter is also in the index, which detects checksums that belong to other samples or are incomplete. Call
        this after all samples.
        """
        if self._missing_bytes < _BLOCK_BYTES:
            self._end_block()
        return np.array([*self._blocks, self.whole], dtype=_WORD).tobytes()

    def _end_block(self) -> None:
        self._blocks.append(_word(self._block.intdigest()))
        self._block, self._missing_bytes = xxhash.xxh3_64(), _BLOCK_BYTES


class Shard(NamedTuple):
    """A mapped shard: ``samples`` int16 N, the ``address`` of the first, ``checksums`` (see ``ShardChecksums``) uint32
    G+1."""

    samples: np.ndarray
    address: int
    checksums: np.ndarray

    def will_need_blocks(self, first: int, length: int) -> None:
        """Ask the system to start reading the blocks that hold ``length`` samples from ``first``."""
        begin, end = first // BLOCK_SAMPLES * BLOCK_SAMPLES, num_blocks(first + length) * BLOCK_SAMPLES
        will_need(self.address + 2 * begin, 2 * (min(end, len(self.samples)) - begin))

    def damaged_block(self, blocks: Sequence[int]) -> int | None:
        """The first of these blocks (ascending numbers, at least one) whose samples do not match, or None."""
        data = memoryview(self.samples).cast("B")
        wanted = self.checksums[blocks[0] : blocks[-1] + 1].tolist()
        for block in blocks:
            piece = data[block * _BLOCK_BYTES : (block + 1) * _BLOCK_BYTES]
            if _word(xxhash.xxh3_64_intdigest(piece)) != wanted[block - blocks[0]]:
                return block
        return None

    def compute_checksums(self) -> ShardChecksums:
        """Checksums of the current samples; reads all of them."""
        checksums = ShardChecksums()
        for first in range(0, len(self.samples), _READ_SAMPLES):
            piece = self.samples[first : first + _READ_SAMPLES]
            will_need(self.address + 2 * first, piece.nbytes)
            checksums.update(piece)
        return checksums


class CheckedBlocks:
    """Which blocks of which shards this process has verified: one bit each.

    ``shard_samples`` (int64) are the lengths of the shards. A forked process inherits what its parent has verified; a
    pickled copy has verified nothing. If threads mark blocks at the same time one may be forgotten, and is then
    verified again.
    """

    def __init__(self, shard_samples: np.ndarray) -> None:
        self._shard_samples = shard_samples
        self._first_blocks = np.concatenate([[0], np.cumsum(num_blocks(shard_samples), dtype=np.int64)])
        self._bits = bytearray(-(-int(self._first_blocks[-1]) // 8))
        self._bits_as_array = np.frombuffer(self._bits, dtype=np.uint8)

    def __reduce__(self) -> tuple:
        return CheckedBlocks, (self._shard_samples,)

    def are_checked(self, shards: np.ndarray, firsts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Whether all blocks with ``lengths`` samples from ``firsts`` in ``shards`` (int64 B) are verified: bool B."""
        bases = self._first_blocks[shards]
        begins = bases + firsts // BLOCK_SAMPLES
        ends = bases + (firsts + lengths - 1) // BLOCK_SAMPLES
        most = int((ends - begins).max(initial=0)) + 1
        numbers = np.minimum(begins[:, None] + np.arange(most), ends[:, None])
        bits = self._bits_as_array[numbers >> 3] >> (numbers & 7).astype(np.uint8)
        return (bits & 1).all(axis=1)

    def unchecked(self, shard: int, first: int, length: int) -> list[int]:
        """Blocks of a shard that hold any of ``length`` samples from ``first`` and are not verified yet."""
        base, bits = int(self._first_blocks[shard]), self._bits
        blocks = range(first // BLOCK_SAMPLES, num_blocks(first + length) if length else 0)
        return [block for block in blocks if not bits[(base + block) >> 3] >> (base + block & 7) & 1]

    def mark(self, shard: int, blocks: Sequence[int]) -> None:
        """Mark blocks of a shard as verified."""
        base, bits = int(self._first_blocks[shard]), self._bits
        for number in blocks:
            bits[(base + number) >> 3] |= 1 << (base + number & 7)


def _word(digest: int) -> int:
    return digest & 0xFFFFFFFF
