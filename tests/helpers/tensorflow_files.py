"""Writes checkpoints in TensorFlow's format, for tests of their reader: a table, protocol buffers, raw tensors."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np

from musictag.models.pretrained.tensorflow_checkpoint import TABLE_MAGIC, masked_crc32c


def tensorflow_files(variables: Mapping[str, np.ndarray], keys_a_block: int = 7) -> tuple[bytes, bytes]:
    """The index and the data file of ``variables``."""
    data, entries = b"", [(b"", _field(1, 1))]
    for name in sorted(variables):
        raw = np.ascontiguousarray(variables[name]).tobytes()
        dtype = {"float32": 1, "int64": 9}[str(variables[name].dtype)]
        shape = b"".join(_field(2, _field(1, size)) for size in variables[name].shape)
        checksum = _varint(6 << 3 | 5) + struct.pack("<I", masked_crc32c(raw))
        message = _field(1, dtype) + _field(2, shape) + _field(4, len(data)) + _field(5, len(raw)) + checksum
        entries.append((name.encode(), message))
        data += raw
    index, handles = b"", []
    for first in range(0, len(entries), keys_a_block):
        chosen = entries[first : first + keys_a_block]
        block = _block(chosen)
        handles.append((chosen[-1][0] + b"~", _varint(len(index)) + _varint(len(block) - 5)))
        index += block
    meta_at, meta = len(index), _block([])
    table_at, table = meta_at + len(meta), _block(handles)
    footer = _varint(meta_at) + _varint(len(meta) - 5) + _varint(table_at) + _varint(len(table) - 5)
    return index + meta + table + footer.ljust(40, b"\0") + struct.pack("<Q", TABLE_MAGIC), data


def _block(entries: list[tuple[bytes, bytes]]) -> bytes:
    block, previous = b"", b""
    for key, value in entries:
        shared = 0
        while shared < min(len(key), len(previous)) and key[shared] == previous[shared]:
            shared += 1
        block += _varint(shared) + _varint(len(key) - shared) + _varint(len(value)) + key[shared:] + value
        previous = key
    block += struct.pack("<II", 0, 1)  # one restart, at the first key
    return block + b"\0" + struct.pack("<I", masked_crc32c(block + b"\0"))


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])
