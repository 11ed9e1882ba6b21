"""What a song is, whatever its file is called and whichever tags are in it."""

from __future__ import annotations

import os
from contextlib import suppress

import numpy as np
import xxhash

from musictag.common.errors import SongError
from musictag.data.audio.decoding.decoder import audio_bytes

_AT_ONCE = 2**20
_BLOCK = 2**12


def content_key(path: str) -> str:
    """32 hexadecimal digits for the audio in a file as it is stored, without its tags; raises OSError.

    For a file without readable audio they are for all of its bytes.
    """
    digest = xxhash.xxh3_128()
    with open(path, "rb") as file:
        try:
            for part in audio_bytes(file):
                digest.update(part)
        except (SongError, MemoryError):  # damaged files may ask for any amount of memory
            return file_key(path)
    return digest.hexdigest()


def file_key(path: str) -> str:
    """32 hexadecimal digits for all bytes of a file."""
    digest = xxhash.xxh3_128()
    with open(path, "rb") as file:
        while part := file.read(_AT_ONCE):
            digest.update(part)
    return digest.hexdigest()


def differences(old: str, new: str) -> list[tuple[int, bytes, int]]:
    """How the bytes of a file differ from those of an older version of it: from where on in the new one, which bytes
    the old one has there, and in place of how many; in ascending order. What neither holds is the same."""
    before, after = (np.memmap(path, mode="r") for path in (old, new))
    first = _same(before, after)
    behind = _same(before[first:][::-1], after[first:][::-1])
    end, new_end = len(before) - behind, len(after) - behind
    found = []
    # a RIFF has its length in the beginning, and tags at its end: what is between is in the same place
    while min(end, new_end) - first > _BLOCK:
        part = before[first : first + _BLOCK]
        if not np.array_equal(part, after[first : first + _BLOCK]):
            found.append((first, part.tobytes(), _BLOCK))
        first += _BLOCK
    return [*found, (first, before[first:end].tobytes(), new_end - first)]


def _same(old: np.ndarray, new: np.ndarray) -> int:
    """How many bytes are the same before the first that differs."""
    length = min(len(old), len(new))
    for at in range(0, length, _AT_ONCE):
        end = min(at + _AT_ONCE, length)
        if (wrong := np.flatnonzero(old[at:end] != new[at:end])).size:
            return at + int(wrong[0])
    return length


def take_back(path: str, found: list[tuple[int, bytes, int]]) -> None:
    """Give a file the bytes of its older version (see ``differences``)."""
    with open(path, "r+b") as file:
        for at, removed, length in reversed(found):
            file.seek(at + length)
            behind = file.read() if length != len(removed) else b""
            file.seek(at)
            file.write(removed + behind)
            if length != len(removed):
                file.truncate()


def sync_folder(folder: str) -> None:
    """Make the names in a folder outlast a loss of power, where the system can."""
    with suppress(OSError):  # Windows, and file systems that have no such thing
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
