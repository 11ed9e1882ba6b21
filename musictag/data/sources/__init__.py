"""Sources: a data set as its owners publish it becomes a manifest. Nothing else in musictag knows which data set it serves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from musictag.data.manifest import Manifest

#: (song_id, path) -> mono int16 samples at the store's rate. Raises SongError where the song cannot be used.
#: Must survive pickling: it is called in worker processes.
SongReader = Callable[[str, str], np.ndarray]


class Source(Protocol):
    """What every file in this folder offers."""

    name: str  # names the folder of the prepared audio and the folder of the runs

    def fingerprint(self) -> dict[str, str | int | float | None]:
        """All that decides how a song of this source *sounds* once prepared (not how many songs there are).

        The prepared audio of two sources is shared exactly if these are equal.
        """
        ...

    def manifest(self) -> Manifest:
        """Who is there. May be slow the first time; raises MusictagError with what to do where files are missing."""
        ...

    def reader(self) -> SongReader:
        """How to get one song's samples."""
        ...
