"""tracks.csv of the Free Music Archive: a header of three rows, and songs at fma_small/000/000002.mp3."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

from musictag.common.errors import MusictagError
from musictag.data.catalogue.making.labels import Labels, Song, split_name
from musictag.data.catalogue.making.words import as_list

SUBSETS = ("small", "medium", "large", "full")
_FIELDS = {
    "subset": ("set", "subset"), "split": ("set", "split"), "top": ("track", "genre_top"),
    "all": ("track", "genres_all"), "artist": ("artist", "name"), "album": ("album", "title"),
}  # fmt: skip


def is_tracks(path: Path) -> bool:
    """Whether this is FMA's tracks.csv, or a part of it with the same header."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            first, second, third = next(rows), next(rows), next(rows)
    except (OSError, UnicodeDecodeError, csv.Error, StopIteration):
        return False
    return third[:1] == ["track_id"] and ("track", "genre_top") in zip(first, second, strict=False)


def find_tracks(folder: Path) -> Path | None:
    """Find tracks.csv in a folder that contains fma_metadata, or that is it."""
    places = (folder / "tracks.csv", folder / "fma_metadata" / "tracks.csv")
    return next((path for path in places if is_tracks(path)), None)


def read_fma(tracks: Path, audio: str | Path | None, subset: str | None, genres: str) -> Labels:
    """The songs whose files exist, with their genres, artists and splits.

    ``audio`` holds 000/000002.mp3 and the like (default: the largest fma_* folder beside the metadata). ``subset``: a
    smaller one is part of the larger ones. ``genres``: ``top``, one per song, or ``all`` of genres_all with the names
    in genres.csv.

    Raises MusictagError if files or columns are missing, and if ``tracks`` is damaged.
    """
    audio = Path(os.path.abspath(audio or _find_audio(tracks)))
    names = _genre_names(tracks) if genres == "all" else {}
    labels = Labels(f"tracks.csv of FMA, genre_{genres}, audio in {audio}", [], one_cell_one_tag=True)
    absent = 0
    for number, row in _rows(tracks):
        if subset and (row["subset"] not in SUBSETS or SUBSETS.index(row["subset"]) > SUBSETS.index(subset)):
            continue
        path = audio / f"{number // 1000:03d}" / f"{number:06d}.mp3"
        if not path.is_file():
            absent += 1
            continue
        cells = (
            [row["top"]] if genres == "top" else [names.get(item.strip(), item) for item in as_list(row["all"]) or ()]
        )
        split = split_name(row["split"]) or ""
        labels.songs.append(Song(str(path), cells, row["artist"], row["album"], split, song_id=str(number)))
    if not labels.songs:
        raise MusictagError(
            f"{tracks}: none of its songs is in {audio} (as 000/000002.mp3); name the folder that holds 000, 001, ... "
            "with --audio"
        )
    if absent:
        labels.notes.append(f"{absent:,} songs of tracks.csv have no file in {audio}")
    return labels


def _rows(tracks: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with open(tracks, encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            header = list(zip(next(rows), next(rows), strict=False))
            next(rows)
            if missing := [" ".join(names) for names in _FIELDS.values() if names not in header]:
                raise MusictagError(
                    f"{tracks} has no column {', '.join(missing)}; use tracks.csv of fma_metadata unchanged"
                )
            at = {name: header.index(names) for name, names in _FIELDS.items()}
            for row in rows:
                if not row:
                    continue
                if not row[0].isdecimal() or len(row) < len(header):
                    raise MusictagError(f"{tracks}: line {rows.line_num} is damaged; unpack fma_metadata.zip again")
                yield int(row[0]), {name: row[place].strip() for name, place in at.items()}
    except (csv.Error, UnicodeDecodeError) as error:
        raise MusictagError(f"{tracks} is damaged ({error}); unpack fma_metadata.zip again") from error


def _genre_names(tracks: Path) -> dict[str, str]:
    path = tracks.with_name("genres.csv")
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return {row["genre_id"]: row["title"] for row in csv.DictReader(file)}
    except (OSError, KeyError, UnicodeDecodeError, csv.Error) as error:
        raise MusictagError(f"genres=all needs {path}, which names the numbers of genres_all") from error


def _find_audio(tracks: Path) -> Path:
    for subset in reversed(SUBSETS):
        for place in (tracks.parent, tracks.parent.parent):
            if (audio := place / f"fma_{subset}").is_dir():
                return audio
    raise MusictagError(f"no folder fma_small, fma_medium, fma_large or fma_full beside {tracks}; name it with --audio")
