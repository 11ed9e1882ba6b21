"""Million Song Dataset (Bertin-Mahieux et al., 2011) with Last.fm tags: for those who have its audio."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pyarrow as pa

from musictag.common.errors import MusictagError
from musictag.data.datasets.msd.lists import (
    CALS_TAGS,
    PREVIEW_MAPS,
    PUBLISHED,
    TAGS,
    SongLists,
    preview_paths,
    read_cals,
    read_standard,
)
from musictag.data.datasets.published import PublishedFiles, announce, choose, find_audio, make_manifest
from musictag.data.manifest import Manifest

#: Possible layouts of the audio below ``root``.
PATHS = ("auto", "index", "track_id", "7digital")


class MillionSongDataset(PublishedFiles):
    """``root`` holds the audio, ``lists`` the published lists (None: they are in ``root``).

    ``split`` "standard" is the one of Lee et al. (2017) with the 50 most frequent Last.fm tags: 201,680 songs for
    training, 11,774 for validation and 28,435 for test. Its lists come as pickles or as tables; either is recognised.
    "cals" is the split of Won et al. (2021) with its own tags, whose arrays are in the folder ``cals``.

    ``paths`` is the layout of the audio: "track_id" A/B/C/TRABC....mp3, letters 3 to 5 of the identifier; "7digital"
    8/9/8947470.clip.mp3, which needs the two maps among the lists; "index" as given in the tables; "auto" whichever
    finds most files.

    ``artists`` is the path of the data set's track_metadata.db. Without it the group of a song is unknown, and so is
    whether an artist is in more than one split.

    Raises MusictagError for settings that do not exist, for files that are missing or damaged, and if no song has
    audio.
    """

    name = "msd"
    locations = ("root", "lists", "cals", "paths", "artists")

    def __init__(
        self,
        root: str | Path,
        lists: str | Path | None = None,
        split: str = "standard",
        cals: str | Path | None = None,
        paths: str = "auto",
        artists: str | Path | None = None,
        **reading: Any,
    ) -> None:
        super().__init__(root, **reading)
        choose("split", split, tuple(PUBLISHED))
        choose("paths", paths, PATHS)
        if split == "cals" and cals is None:
            raise MusictagError(
                "data.split=cals needs the folder of its arrays, data/splits of "
                "https://github.com/minzwon/semi-supervised-music-tagging-transformer: use data.cals=..."
            )
        self.lists = self.root if lists is None else Path(lists)
        self.split = split
        self.cals = None if cals is None else Path(cals)
        self.paths = paths
        self.artists = None if artists is None else Path(artists)

    def _load(self) -> Manifest:
        if self.split == "cals":
            songs, form, tags = read_cals(self.cals), "arrays", CALS_TAGS
        else:
            (songs, form), tags = read_standard(self.lists), TAGS
        advice = (
            "The data set holds features and metadata; the 30 s previews that papers used came from 7digital and are "
            "no longer available. With your own music use data=catalogue; data=jamendo is the public successor."
        )
        layouts = self._layouts(songs)
        paths, there = find_audio(self.root, layouts, "paths", self.paths, advice, self._prepared_paths())
        columns = {"song_id": songs.ids, "path": paths, "split": songs.splits}
        if self.artists is not None:
            columns["group"] = pa.array(_artists(self.artists, songs.ids), pa.string())
        manifest = make_manifest(self.name, columns, tags, songs.values, there)
        announce(manifest, f"split {self.split} from {form}", PUBLISHED[self.split], int((~there).sum()))
        return manifest

    def _layouts(self, songs: SongLists) -> dict[str, list[str]]:
        layouts = {"track_id": [f"{song[2:3]}/{song[3:4]}/{song[4:5]}/{song}.mp3" for song in songs.ids]}
        if songs.paths is not None:
            layouts = {"index": songs.paths} | layouts
        elif self.paths == "index":
            raise MusictagError("data.paths=index: only the tables (index_msd.tsv) contain paths; use data.paths=auto")
        have_maps = all((self.lists / file).is_file() for file in PREVIEW_MAPS)
        if self.paths == "7digital" and not have_maps:
            raise MusictagError(
                f"data.paths=7digital needs {' and '.join(PREVIEW_MAPS)} in {self.lists} (data.lists=...)"
            )
        if have_maps and self.paths in ("auto", "7digital"):
            layouts["7digital"] = preview_paths(self.lists, songs.ids)
        return layouts


def _artists(path: Path, ids: list[str]) -> list[str | None]:
    """The artist of every song, from the data set's own SQLite file, which takes a second or two to open."""
    if not path.is_file():
        raise MusictagError(
            f"there is no file {path}; data.artists must be the path of the data set's track_metadata.db"
        )
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            connection.execute("PRAGMA trusted_schema = OFF")
            # a view may hide anything, such as an endless query
            kind = connection.execute("SELECT type FROM sqlite_master WHERE name = 'songs'").fetchone()
            if kind != ("table",):
                raise sqlite3.DatabaseError("it has no table of songs")
            artist_of = dict(connection.execute("SELECT track_id, artist_id FROM songs"))
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise MusictagError(f"{path} cannot be read as track_metadata.db: {error}") from error
    return [artist_of.get(song) or None for song in ids]
