"""Reads TensorFlow checkpoints (the V2 format of ``tf.train.Saver``) without TensorFlow.

A checkpoint is two files. ``.index`` is a sorted table in LevelDB's format, from a variable's name to a small protocol
buffer with its type, shape, position and checksum; ``.data-00000-of-00001`` holds the raw tensors. Every block and
every tensor has a CRC-32C, and all are checked: damaged data is not used.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod

import numpy as np

TABLE_MAGIC = 0xDB4775248B80FB57
FOOTER_BYTES = 48
TRAILER_BYTES = 5  # kind of compression, and checksum
FLOAT32 = 1  # in TensorFlow's enumeration of types
MAX_DIMENSIONS = 8


def _crc32c_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


CRC32C_TABLE = _crc32c_table()


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) of ``data``."""
    crc, table = 0xFFFFFFFF, CRC32C_TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def masked_crc32c(data: bytes) -> int:
    """The checksum as the format stores it: rotated and shifted, so that data may contain its own checksum."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@dataclass(frozen=True)
class Variable:
    """Position of a float32 variable in the data file: ``shape``, first byte and checksum."""

    shape: tuple[int, ...]
    offset: int
    checksum: int

    @property
    def size(self) -> int:
        """Size in bytes."""
        return 4 * prod(self.shape)


class TensorFlowCheckpoint:
    """The float32 variables of a checkpoint, given the bytes of its two files.

    Raises ValueError with the reason for anything that is not such a checkpoint, or is damaged.
    """

    def __init__(self, index: bytes, data: bytes):
        self._data = memoryview(data)
        try:
            self.variables = dict(_variables(index))
        except (IndexError, struct.error, UnicodeDecodeError) as error:
            raise ValueError(f"the index ends too soon or is not an index ({error})") from error
        for name, variable in self.variables.items():
            if variable.offset + variable.size > len(data):
                raise ValueError(f"the data file ends before variable {name}: {len(data)} bytes")

    def __getitem__(self, name: str) -> np.ndarray:
        """Variable ``name`` as float32; raises ValueError if it does not exist or its checksum differs."""
        if name not in self.variables:
            raise ValueError(f"there is no float32 variable {name}")
        variable = self.variables[name]
        raw = self._data[variable.offset : variable.offset + variable.size]
        if masked_crc32c(raw) != variable.checksum:
            raise ValueError(f"the checksum of variable {name} does not match")
        return np.frombuffer(raw, dtype="<f4").reshape(variable.shape).astype(np.float32)


def _variables(index: bytes) -> Iterator[tuple[str, Variable]]:
    for key, value in _table(index):
        if key == b"":
            continue  # the header: number of files, byte order, version
        entry = _Entry(value)
        if entry.dtype == FLOAT32:
            if entry.size != 4 * prod(entry.shape) or entry.shard != 0:
                raise ValueError(f"variable {key.decode()}: {entry.size} bytes do not hold {entry.shape}")
            yield key.decode(), Variable(entry.shape, entry.offset, entry.checksum)


def _table(index: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a LevelDB table."""
    if len(index) < FOOTER_BYTES or struct.unpack("<Q", index[-8:])[0] != TABLE_MAGIC:
        raise ValueError("this is not an index of a TensorFlow checkpoint")
    footer = _Reader(index[-FOOTER_BYTES:])
    footer.varint(), footer.varint()  # position of the list of meta blocks: there are none
    for _last_key, handle in _block(index, footer.varint(), footer.varint()):
        place = _Reader(handle)
        yield from _block(index, place.varint(), place.varint())


def _block(index: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Entries of the block at ``offset``: keys omit the prefix that they share with the previous one."""
    block, trailer = index[offset : offset + size], index[offset + size : offset + size + TRAILER_BYTES]
    compression, checksum = struct.unpack("<BI", trailer)
    if masked_crc32c(block + trailer[:1]) != checksum:
        raise ValueError(f"the checksum of the index does not match at byte {offset}")
    if compression:
        raise ValueError("the index is compressed, which is not supported")
    restarts = struct.unpack("<I", block[-4:])[0]
    reader = _Reader(block[: len(block) - 4 * (restarts + 1)])
    key = b""
    while reader.left:
        shared, added, length = reader.varint(), reader.varint(), reader.varint()
        key = key[:shared] + reader.take(added)
        yield key, reader.take(length)


class _Reader:
    """Reads bytes from the front."""

    def __init__(self, data: bytes):
        self._data, self._at = data, 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise IndexError(f"{size} bytes requested, {self.left} left")
        self._at += size
        return self._data[self._at - size : self._at]

    def varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ValueError("a number of more than 64 bits")

    def fields(self) -> Iterator[tuple[int, int | bytes]]:
        """Number and value of each field of a protocol buffer."""
        read: dict[int, Callable[[], int | bytes]] = {
            0: self.varint,
            1: lambda: struct.unpack("<Q", self.take(8))[0],
            2: lambda: self.take(self.varint()),
            5: lambda: struct.unpack("<I", self.take(4))[0],
        }
        while self.left:
            tag = self.varint()
            if tag & 7 not in read:
                raise ValueError(f"a field of unknown kind {tag & 7}")
            yield tag >> 3, read[tag & 7]()


class _Entry:
    """What the index says about a variable (TensorFlow's BundleEntryProto)."""

    def __init__(self, message: bytes):
        fields = dict(_Reader(message).fields())
        number = {key: value for key, value in fields.items() if isinstance(value, int)}
        self.dtype, self.shard = number.get(1, 0), number.get(3, 0)
        self.offset, self.size, self.checksum = number.get(4, 0), number.get(5, 0), number.get(6, 0)
        shape = fields.get(2, b"")
        self.shape = _shape(shape) if isinstance(shape, bytes) else ()


def _shape(message: bytes) -> tuple[int, ...]:
    """Sizes in a TensorShapeProto."""
    dimensions = [value for number, value in _Reader(message).fields() if number == 2 and isinstance(value, bytes)]
    if len(dimensions) > MAX_DIMENSIONS:
        raise ValueError(f"a variable of {len(dimensions)} dimensions")
    sizes = [dict(_Reader(dimension).fields()).get(1, 0) for dimension in dimensions]
    return tuple(size for size in sizes if isinstance(size, int))
