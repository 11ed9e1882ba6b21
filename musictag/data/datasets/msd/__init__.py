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

#: How the audio may lie below ``root``.
PATHS = ("auto", "index", "track_id", "7digital")


class MillionSongDataset(PublishedFiles):
    """``root`` holds the audio, ``lists`` the published lists (None: they are in ``root``).

    ``split`` "standard" is the one of Lee et al. (2017) with the 50 most frequent Last.fm tags: 201,680 songs for
    training, 11,774 for validation and 28,435 for test. Its lists come as pickles or as tables; either is recognised.
    "cals" is the split of Won et al. (2021) with tags of its own, whose arrays lie in the folder ``cals``.

    ``paths`` says how the audio is laid out: "track_id" A/B/C/TRABC....mp3, letters 3 to 5 of the identifier;
    "7digital" 8/9/8947470.clip.mp3, which takes the two maps among the lists; "index" what the tables say; "auto"
    whichever of them finds most files.

    ``artists`` names the data set's track_metadata.db. Without it the group of a song is unknown, and so is whether an
    artist stands in more than one split.

    Raises MusictagError for settings that do not exist, for files that are missing or damaged, and where no song has
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
                "https://github.com/minzwon/semi-supervised-music-tagging-transformer: type data.cals=..."
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
            "The data set holds numbers about the songs; the 30 s previews that papers used were 7digital's and can no "
            "longer be had. With music of your own use data=catalogue; data=jamendo is the public successor."
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
            raise MusictagError("data.paths=index: only the tables (index_msd.tsv) say paths; type data.paths=auto")
        have_maps = all((self.lists / file).is_file() for file in PREVIEW_MAPS)
        if self.paths == "7digital" and not have_maps:
            raise MusictagError(
                f"data.paths=7digital needs {' and '.join(PREVIEW_MAPS)} in {self.lists} (data.lists=...)"
            )
        if have_maps and self.paths in ("auto", "7digital"):
            layouts["7digital"] = preview_paths(self.lists, songs.ids)
        return layouts


def _artists(path: Path, ids: list[str]) -> list[str | None]:
    """The artist of every song by the data set's own SQLite file, which opens in a second or two."""
    if not path.is_file():
        raise MusictagError(f"there is no file {path}; data.artists names the data set's track_metadata.db")
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            connection.execute("PRAGMA trusted_schema = OFF")
            # anything may hide behind a view, a query without an end for one
            kind = connection.execute("SELECT type FROM sqlite_master WHERE name = 'songs'").fetchone()
            if kind != ("table",):
                raise sqlite3.DatabaseError("it has no table of songs")
            artist_of = dict(connection.execute("SELECT track_id, artist_id FROM songs"))
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise MusictagError(f"{path} cannot be read as track_metadata.db: {error}") from error
    return [artist_of.get(song) or None for song in ids]
