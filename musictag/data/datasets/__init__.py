"""Data sources: each turns a data set as published into a manifest, the only form that the rest of musictag sees."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

from musictag.data.audio.decode import Reading
from musictag.data.catalogue.learnable import TagChoice
from musictag.data.manifest import Manifest

#: (song_id, path) -> mono int16 samples at the store's rate, in a Reading if there is a note about them. Raises
#: SongError if the song cannot be used. Must survive pickling: it is called in worker processes.
SongReader = Callable[[str, str], np.ndarray | Reading]


class Source(ABC):
    """The interface of every class in this folder. ``name`` names the folders of the prepared audio and of the runs.

    A source may also offer ``versions(manifest) -> list[str | None]``, one text per song, None if its file is gone: a
    song whose version has changed is prepared again, one whose file is gone stays as it was prepared. And
    ``expected_seconds(manifest) -> float32 S``, how long every song will be (NaN: unknown), called for all songs or a
    sample, to check whether the disk has room for them.

    ``locations`` names its settings that are locations, or lead to a split, and not content: the manifest, fingerprint
    and versions cover what they lead to, so the same music elsewhere is the same experiment.

    ``tag_choice`` decides which tags are used, again if some songs turn out to be unusable. ``advice_on_splits`` says
    what to do if a split has no songs.
    """

    name: str
    locations: tuple[str, ...] = ()
    tag_choice: TagChoice = TagChoice()
    _learnable: Manifest | None = None
    advice_on_splits: str = (
        "assign some to it in the column split, or, for a split made by musictag, increase data.split_fractions"
    )

    @abstractmethod
    def fingerprint(self) -> dict[str, str | int | float | None]:
        """Everything that decides how the songs of this source *sound* once prepared (not how many songs there are).

        The prepared audio of two sources is shared if and only if these are equal.
        """

    @abstractmethod
    def manifest(self) -> Manifest:
        """One row per song, with the requested tags. May be slow the first time; raises MusictagError with what to do
        if files are missing."""

    def learnable_manifest(self) -> Manifest:
        """The manifest to train on: only tags that can be learned from these songs. Reports once what is left out;
        raises MusictagError as ``TagChoice.learnable`` does."""
        if self._learnable is None:
            self._learnable = self.tag_choice.learnable(self.manifest())
        return self._learnable

    @abstractmethod
    def reader(self) -> SongReader:
        """The function that reads one song's samples."""
