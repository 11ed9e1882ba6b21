"""What all data sets of audio files share: a folder, the songs' paths below it, and how files are read."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from musictag.common.errors import MusictagError
from musictag.data.audio.decode import MIN_SECONDS, Reading, believable_seconds, declared_seconds, read
from musictag.data.catalogue.copies import same_files, same_samples
from musictag.data.catalogue.learnable import TagChoice
from musictag.data.datasets import SongReader, Source
from musictag.data.manifest import Manifest
from musictag.data.store.folder import prepared_folder
from musictag.data.store.store import INDEX_FILE, read_index


class AudioFiles(Source):
    """Songs that are files below ``root``, to which the paths of the manifest are relative.

    ``max_seconds`` uses the beginning of each song only (null: all of it). ``tags`` and ``min_songs_per_tag`` choose
    tags (see ``musictag.data.catalogue.learnable``). ``data_dir`` is where audio is prepared. Subclasses set ``name``
    and define ``_load``, which makes the manifest and is called once.

    Raises MusictagError for settings out of range.
    """

    locations: tuple[str, ...] = ("root",)

    def __init__(
        self,
        root: str | Path,
        max_seconds: float | None = None,
        sample_rate: int = 16000,
        tags: str | Sequence[str] | Mapping[str, str | None] | None = None,
        min_songs_per_tag: int = 1,
        data_dir: str | Path | None = None,
    ) -> None:
        self.root = Path(os.path.abspath(root))
        self.max_seconds = max_seconds
        self.sample_rate = sample_rate
        self.tag_choice = TagChoice(tags, min_songs_per_tag)
        self._data_dir = data_dir
        self._manifest: Manifest | None = None
        if max_seconds is not None and not (isinstance(max_seconds, int | float) and max_seconds >= MIN_SECONDS):
            raise MusictagError(
                f"max_seconds={max_seconds}: give {MIN_SECONDS} seconds or more, or null for all of each song"
            )

    def fingerprint(self) -> dict[str, str | int | float | None]:
        """The folder, the rate and the length; ``versions`` tells whether single files have changed."""
        identity = {"source": "files", "root": str(self.root), "sample_rate": self.sample_rate}
        return identity if self.max_seconds is None else identity | {"max_seconds": self.max_seconds}

    def versions(self, manifest: Manifest) -> list[str | None]:
        """Size and modification time of every song's file, None if there is no file."""
        root = str(self.root)
        return [_version(f"{root}{os.sep}{path}") for path in manifest.paths]

    def expected_seconds(self, manifest: Manifest) -> np.ndarray:
        """The expected length of every song, float32 S: from the manifest, else from its file's header; NaN if neither
        has one, or it is implausible."""
        seconds = believable_seconds(manifest.values("duration"))
        unknown = np.flatnonzero(np.isnan(seconds))
        seconds[unknown] = [declared_seconds(self.root / path) for path in manifest.paths[unknown]]
        return seconds if self.max_seconds is None else np.minimum(seconds, self.max_seconds)

    def reader(self) -> SongReader:
        return partial(_read, self.root, self.sample_rate, self.max_seconds)

    def manifest(self) -> Manifest:
        if self._manifest is None:
            self._manifest = self.tag_choice.wanted(self._load())
        return self._manifest

    def copies(self, manifest: Manifest, among: np.ndarray) -> Iterator[np.ndarray]:
        """Which songs are the same recording as one of those ``among`` them (booleans S): by the bytes of their files,
        then by the samples of prepared songs. See ``musictag.data.catalogue.copies`` for what is yielded."""
        yield same_files(self.root, manifest.paths.tolist(), among)
        if (index := self._index()) is not None:
            yield same_samples(index, manifest.column("song_id"))

    def _index(self) -> pa.Table | None:
        """The index of the prepared audio, or None."""
        folder = None if self._data_dir is None else prepared_folder(self, self._data_dir, self.sample_rate)
        return None if folder is None or not (folder / INDEX_FILE).exists() else read_index(folder)

    @abstractmethod
    def _load(self) -> Manifest:
        """Read the published files. Raises MusictagError with what to do if something is missing or wrong."""


def _read(root: Path, sample_rate: int, max_seconds: float | None, song_id: str, path: str) -> np.ndarray | Reading:
    reading = read(root / path, sample_rate, max_seconds)
    return reading if reading.note else reading.samples


def _version(path: str) -> str | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return f"{status.st_size}:{status.st_mtime_ns}"
