"""Sources: a data set as its owners publish it becomes a manifest. The rest of musictag does not know which one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

from musictag.audio import Reading
from musictag.data.manifest import Manifest

#: (song_id, path) -> mono int16 samples at the store's rate, in a Reading where there is something to say about them.
#: Raises SongError where the song cannot be used. Must survive pickling: it is called in worker processes.
SongReader = Callable[[str, str], np.ndarray | Reading]


class Source(ABC):
    """What every file in this folder offers. ``name`` names the folders of the prepared audio and of the runs.

    A source may also offer ``versions(manifest) -> list[str | None]``, one text a song, None where its file is gone: a
    song whose version has changed is prepared again, one whose file is gone stays as it was prepared. And
    ``expected_seconds(manifest) -> float32 S``, how long every song will be (NaN: unknown), asked of all songs or of a
    sample, to see whether the disk has room for them.
    """

    name: str

    @abstractmethod
    def fingerprint(self) -> dict[str, str | int | float | None]:
        """All that decides how a song of this source *sounds* once prepared (not how many songs there are).

        The prepared audio of two sources is shared exactly if these are equal.
        """

    @abstractmethod
    def manifest(self) -> Manifest:
        """Who is there. May be slow the first time; raises MusictagError with what to do where files are missing."""

    @abstractmethod
    def reader(self) -> SongReader:
        """How to get one song's samples."""
