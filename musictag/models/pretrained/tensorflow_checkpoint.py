"""Reads TensorFlow checkpoints (the V2 format of ``tf.train.Saver``) without TensorFlow.

A checkpoint is two files. ``.index`` is a sorted table in LevelDB's format, from a variable's name to a small protocol
buffer with its type, shape, position and checksum; ``.data-00000-of-00001`` holds the raw tensors. Every block and
every tensor has a CRC-32C, and all are checked: damaged data is not used.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

import numpy as np

TABLE_MAGIC = 0xDB4775248B80FB57
FOOTER_BYTES = 48
TRAILER_BYTES = 5  # kind of compression, and checksum
FLOAT32 = 1  # in TensorFlow's enumeration of types
FIXED_BYTES = {1: 8, 5: 4}  # sizes of the kinds of numbers that have one


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


class Variable(NamedTuple):
    """Where the data file has a float32 variable: its ``shape``, first byte, size in bytes and checksum."""

    shape: tuple[int, ...]
    offset: int
    size: int
    checksum: int


class TensorFlowCheckpoint:
    """The float32 variables of a checkpoint, given the bytes of its two files.

    Raises ValueError with the reason for anything that is not such a checkpoint, or is damaged.
    """

    def __init__(self, index: bytes, data: bytes):
        self._data = memoryview(data)
        try:
            self.variables = dict(_variables(index))
        except (IndexError, TypeError, struct.error, UnicodeDecodeError) as error:
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
        # TensorFlow's BundleEntryProto, and in its second field a TensorShapeProto
        entry = {1: 0, 2: b"", 3: 0, 4: 0, 5: 0, 6: 0} | dict(_Reader(value).fields())
        sizes = [size for number, size in _Reader(entry[2]).fields() if number == 2]
        shape = tuple(dict(_Reader(size).fields()).get(1, 0) for size in sizes)
        if entry[1] == FLOAT32:
            if entry[5] != 4 * prod(shape) or entry[3] != 0:
                raise ValueError(f"variable {key.decode()}: {entry[5]} bytes do not hold {shape}")
            yield key.decode(), Variable(shape, entry[4], entry[5], entry[6])


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

    def fields(self) -> Iterator[tuple[int, Any]]:
        """Number and value of each field of a protocol buffer: an integer, or the bytes of what is inside."""
        while self.left:
            number, kind = divmod(self.varint(), 8)
            if kind == 0:
                yield number, self.varint()
            elif kind == 2:
                yield number, self.take(self.varint())
            elif kind in FIXED_BYTES:
                yield number, int.from_bytes(self.take(FIXED_BYTES[kind]), "little")
            else:
                raise ValueError(f"a field of unknown kind {kind}")
