"""A part of a file as decoders see it: they can neither look beyond it nor read forever."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import BinaryIO

from musictag.data.audio.decoding.tags import Link

#: A demuxer may go over a file several times. One that reads more than this is in a loop.
_READS_PER_BYTE = 8
#: A parser that waits for the next frame keeps everything before it in memory.
_MOST_WITHOUT_AUDIO = 2**26


class Window:
    """The bytes of ``link`` as a file. It has no name, so that nobody guesses a format from it; ``patches``, by their
    offset, replace bytes of the file.

    Nothing is raised here: PyAV would print exceptions that are raised while FFmpeg reads.
    """

    def __init__(self, file: BinaryIO, link: Link, patches: Mapping[int, bytes] | None = None) -> None:
        self._file, self._link, self._patches = file, link, patches or {}
        self._place = 0
        self._left = _READS_PER_BYTE * self.size + 2**26
        self._without_audio = 0

    @property
    def size(self) -> int:
        return self._link.end - self._link.begin

    @property
    def exhausted(self) -> bool:
        """Whether more was read than any valid file needs."""
        return self._left <= 0 or self._without_audio > _MOST_WITHOUT_AUDIO

    def found_audio(self) -> None:
        """Called whenever the bytes read so far produced audio."""
        self._without_audio = 0

    def read(self, size: int) -> bytes:
        if self.exhausted:
            return b""
        try:
            self._file.seek(self._link.begin + self._place)
            data = self._file.read(max(0, min(size, self.size - self._place)))
        except OSError:
            data = b""
        for place, patch in self._patches.items():
            if self._place <= place and place + len(patch) <= self._place + len(data):
                place -= self._place
                data = data[:place] + patch + data[place + len(patch) :]
        self._place += len(data)
        self._left -= len(data)
        self._without_audio += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        place = offset + (0, self._place, self.size)[whence] if whence in (0, 1, 2) else -1
        self._left -= 16  # seeking back and forth is a loop, too
        if place < 0:
            return -1
        self._place = place
        return place

    def tell(self) -> int:
        return self._place
