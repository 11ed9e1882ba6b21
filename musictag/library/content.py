"""What a song is, whatever its file is called and whichever tags are in it."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable

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
        except SongError:
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
    with _mapped(old) as before, _mapped(new) as after:
        shorter = min(len(before), len(after))
        first = _same(shorter, lambda a, b: before[a:b] == after[a:b])
        end, new_end = len(before), len(after)
        behind = _same(
            shorter - first,
            lambda a, b: before[end - b : end - a] == after[new_end - b : new_end - a],
        )
        end, new_end = end - behind, new_end - behind
        found = []
        # a RIFF has its length in the beginning, and tags at its end: what is between is in the same place
        while end - first > _BLOCK and new_end - first > _BLOCK:
            if before[first : first + _BLOCK] != after[first : first + _BLOCK]:
                found.append((first, before[first : first + _BLOCK], _BLOCK))
            first += _BLOCK
        return [*found, (first, before[first:end], new_end - first)]


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


def _same(length: int, is_same: Callable[[int, int], bool]) -> int:
    """How far two things are the same: the largest number up to ``length`` for which ``is_same(0, number)``."""
    done = 0
    while done < length and is_same(done, min(done + _AT_ONCE, length)):
        done = min(done + _AT_ONCE, length)
    wrong = min(done + _AT_ONCE, length)
    while done < wrong:  # halving the part in which the first difference is
        middle = (done + wrong + 1) // 2
        done, wrong = (middle, wrong) if is_same(done, middle) else (done, middle - 1)
    return done


def _mapped(path: str) -> mmap.mmap:
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def sync_folder(folder: str) -> None:
    """Make the names in a folder outlast a loss of power, where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
