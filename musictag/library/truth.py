"""What a data set knows about songs that come from elsewhere."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from musictag.common.errors import MusictagError
from musictag.data.datasets import Source
from musictag.data.datasets.audio_files import AudioFiles
from musictag.library.content import content_key

#: So many files of the same name or size are compared with a song.
_COMPARED = 100


class Known(NamedTuple):
    """``about`` a song: what it is. ``marks`` by tag: ✓ for one that it has, ✗ for one that it lacks, or the number of
    a measure; tags that are not known are left out."""

    about: str
    marks: dict[str, str]


class Truth:
    """The tags of the songs of ``source``, found by the audio in a copy of their file, whatever tags are in that.

    So that not every file is read, a copy is looked for among the files of its size and those of its name. Raises
    MusictagError for a data set whose songs are not files, and if none of its files is there.
    """

    def __init__(self, source: Source) -> None:
        if not isinstance(source, AudioFiles):
            raise MusictagError(f"--truth: the songs of {source.name} are not files, so none can be recognised")
        self._root, self._manifest = source.root, source.manifest()
        self._rows: dict[str, list[int]] = {}
        for row, version in enumerate(source.versions(self._manifest)):
            if version is not None:
                for key in (version.partition(":")[0], os.path.basename(self._manifest.paths[row])):
                    self._rows.setdefault(key, []).append(row)
        if not self._rows:
            raise MusictagError(f"--truth: none of the files of {source.name} is in {self._root}; see data.root")

    def of(self, path: str, name: str) -> Known:
        """What is known about the song in ``path``, whose file was called ``name``. Raises OSError."""
        alike = [row for key in (str(os.path.getsize(path)), name) for row in self._rows.get(key, ())[:_COMPARED]]
        content = content_key(path)
        for row in alike:
            with suppress(OSError):
                if content_key(self._root / self._manifest.paths[row]) == content:
                    return self._known(row)
        return Known(f"This is no song of {self._manifest.name}.", {})

    def _known(self, row: int) -> Known:
        song = self._manifest.select(np.array([row]))
        marks = {tag.name: _mark(tag.kind, float(song.values(tag.name)[0])) for tag in song.tags}
        about = f"{song.song_ids[0]}, a song of {song.name} (split {song.column('split')[0]}):"
        return Known(about, {tag: mark for tag, mark in marks.items() if mark})


def _mark(kind: str, value: float) -> str:
    if np.isnan(value):
        return ""
    return ("✗", "✓")[value == 1] if kind == "classification" else f"{value:.2f}"
