"""MTG-Jamendo (Bogdanov et al., 2019): 55,000 full tracks under Creative Commons licences, tagged by their artists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from musictag.common.errors import MusictagError
from musictag.data.datasets.published import PublishedFiles, announce, choose, find_audio, make_manifest
from musictag.data.manifest import SPLITS, Manifest

#: By subset: the name of its files, its number of tags, and for splits 0 to 4 its songs for train, validation, test.
SUBSETS = {
    "top50": ("autotagging_top50tags", 50, (
        (32136, 10888, 11356), (32395, 10619, 11366), (32010, 11961, 10409),
        (33173, 10468, 10739), (30868, 11593, 11919),
    )),
    "genre": ("autotagging_genre", 87, (
        (32572, 11043, 11479), (32746, 10833, 11515), (32360, 12185, 10549),
        (33515, 10656, 10923), (31305, 11804, 11985),
    )),
    "instrument": ("autotagging_instrument", 40, (
        (14395, 5466, 5115), (14943, 4960, 5073), (14702, 5066, 5208),
        (14875, 5068, 5033), (14829, 5159, 4988),
    )),
    "moodtheme": ("autotagging_moodtheme", 56, (
        (9949, 3802, 4231), (10190, 3594, 4198), (10484, 4085, 3413),
        (10920, 3500, 3562), (10241, 3706, 4035),
    )),
    "all": ("autotagging", 183, (
        (32859, 11101, 11565), (33007, 10937, 11581), (32616, 12246, 10663),
        (33747, 10757, 11021), (31509, 11893, 12123),
    )),
}  # fmt: skip
_COLUMNS = ["TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS"]
_REPOSITORY = "https://github.com/MTG/mtg-jamendo-dataset"


class Jamendo(PublishedFiles):
    """``root`` holds the audio as the official downloader unpacks it (00/7400.mp3), ``lists`` the official splits: the
    repository's folder data/splits, or the three files themselves (None: in ``root``).

    ``subset`` chooses the tags: top50, genre, instrument, moodtheme or all. Its lists contain only songs with one of
    them. Tags keep their names ("genre---rock") and are sorted. ``split`` is one of the five official ones.

    The low-bitrate variant of the audio (00/7400.low.mp3) is recognised; ``audio`` "full" or "low" enforces one.

    The group of a song is its artist; no artist is in more than one split.

    Raises MusictagError for settings that do not exist and for files that are missing or damaged.
    """

    name = "jamendo"
    locations = ("root", "lists", "audio")

    def __init__(
        self,
        root: str | Path,
        lists: str | Path | None = None,
        subset: str = "top50",
        split: int = 0,
        audio: str = "auto",
        **reading: Any,
    ) -> None:
        super().__init__(root, **reading)
        choose("subset", subset, tuple(SUBSETS))
        choose("split", split, range(5))
        choose("audio", audio, ("auto", "full", "low"))
        self.lists = self.root if lists is None else Path(lists)
        self.subset = subset
        self.split = split
        self.audio = audio

    def _load(self) -> Manifest:
        _, num_tags, published = SUBSETS[self.subset]
        songs = [(split, *song) for split, file in self._files().items() for song in _read(file)]
        if not songs:
            raise MusictagError(f"the lists in {self.lists} contain no songs. Download them from {_REPOSITORY} again")
        splits, ids, artists, paths, durations, song_tags = zip(*songs, strict=True)
        tags = sorted(set().union(*song_tags))
        if len(tags) != num_tags:
            raise MusictagError(
                f"the lists in {self.lists} contain {len(tags)} tags, but the subset {self.subset} has {num_tags}; is "
                f"one of the files from another subset, or cut short? Download them from {_REPOSITORY}, data/splits"
            )
        column = {tag: number for number, tag in enumerate(tags)}
        values = np.zeros((len(songs), num_tags), dtype=bool)
        values[
            np.repeat(np.arange(len(songs)), [len(names) for names in song_tags]),
            [column[tag] for names in song_tags for tag in names],
        ] = True
        layouts = {"full": paths, "low": [f"{path.removesuffix('.mp3')}.low.mp3" for path in paths]}
        advice = (
            f"The audio is obtained with the downloader of {_REPOSITORY}:\n"
            f"  python3 scripts/download/download.py --dataset raw_30s --type audio-low {self.root} --unpack --remove"
        )
        paths, there = find_audio(self.root, layouts, "audio", self.audio, advice, self._prepared_paths())
        columns = {"song_id": ids, "path": paths, "split": splits, "group": artists}
        columns["duration"] = pa.array(durations, pa.float32())
        manifest = make_manifest(self.name, columns, tags, values, there)
        announce(manifest, f"{self.subset}, split {self.split}", published[self.split], int((~there).sum()))
        return manifest

    def _files(self) -> dict[str, Path]:
        stem = SUBSETS[self.subset][0]
        folders = (self.lists / f"split-{self.split}", self.lists)
        for folder in folders:
            files = {split: folder / f"{stem}-{split}.tsv" for split in SPLITS}
            if all(file.is_file() for file in files.values()):
                return files
        raise MusictagError(
            f"there are no {stem}-train.tsv, -validation.tsv and -test.tsv in {folders[0]} or {folders[1]}. They are "
            f"in the folder data/splits of {_REPOSITORY}; clone it and use data.lists=mtg-jamendo-dataset/data/splits"
        )


def _read(path: Path) -> list[tuple[str, str, str, float, list[str]]]:
    """Song, artist, path, seconds and tags of every line, which has any number of tags: no CSV reader can be used."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise MusictagError(f"{path} cannot be read as text: {error}. Download it from {_REPOSITORY} again") from error
    if not lines or lines[0].split("\t") != _COLUMNS:
        raise MusictagError(f"{path}: the columns are not {', '.join(_COLUMNS)}. Download it from {_REPOSITORY} again")
    songs = []
    for line in lines[1:]:
        try:
            song_id, artist, _album, audio, seconds, *tags = line.split("\t")
            songs.append((song_id, artist, audio, float(seconds), tags))
        except ValueError:
            raise MusictagError(
                f"{path}: this line is not a song: {line[:200]!r}. Download it from {_REPOSITORY} again"
            ) from None
    return songs
