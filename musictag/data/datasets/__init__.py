"""Sources: a data set as its owners publish it becomes a manifest. The rest of musictag does not know which one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

from musictag.data.audio.decode import Reading
from musictag.data.catalogue.learnable import TagChoice
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

    ``locations`` names its settings that are places, or ways to a split, and not content: what they lead to is in the
    manifest, the fingerprint and the versions, so the same music elsewhere is the same experiment.

    ``tag_choice`` says which tags are used; whoever finds some songs unusable asks it about the rest.
    ``advice_on_splits`` is what to do where a split has no songs.
    """

    name: str
    locations: tuple[str, ...] = ()
    tag_choice: TagChoice = TagChoice()
    _learnable: Manifest | None = None
    advice_on_splits: str = (
        "assign some to it in the column split, or where the split was made ask for larger data.split_fractions"
    )

    @abstractmethod
    def fingerprint(self) -> dict[str, str | int | float | None]:
        """All that decides how a song of this source *sounds* once prepared (not how many songs there are).

        The prepared audio of two sources is shared exactly if these are equal.
        """

    @abstractmethod
    def manifest(self) -> Manifest:
        """Who is there, with the tags that are wanted. May be slow the first time; raises MusictagError with what to do
        where files are missing."""

    def learnable_manifest(self) -> Manifest:
        """Who is there, with those of the tags that can be learnt from them: what is trained on. What is left out is
        said once; raises MusictagError as ``TagChoice.learnable`` does."""
        if self._learnable is None:
            self._learnable = self.tag_choice.learnable(self.manifest())
        return self._learnable

    @abstractmethod
    def reader(self) -> SongReader:
        """How to get one song's samples."""
