"""The common form that all labels are read into, and the audio files that exist."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from musictag.data.catalogue.paths import file_problem, songs_below

_PROBLEMS = {
    "missing": "files that do not exist", "other": "entries that are not files", "empty": "empty files",
    "closed": "files without read permission",
}  # fmt: skip
_SPLITS = {
    "train": "train", "training": "train", "tr": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test", "eval": "test",
}  # fmt: skip


@dataclass
class Song:
    """``path`` is absolute. ``cells`` hold one tag, or several with a separator. "": unknown."""

    path: str
    cells: list[str] = field(default_factory=list)
    artist: str = ""
    album: str = ""
    split: str = ""
    song_id: str = ""
    duration: float | None = None
    numbers: list[float | None] = field(default_factory=list)


@dataclass
class Labels:
    """What was found, and how.

    ``about`` describes the form; ``number_columns`` names ``Song.numbers``; ``one_cell_one_tag``: a cell is one tag,
    whatever characters it has. ``dropped`` holds what was left out, each kind with lines that name it.
    """

    about: str
    songs: list[Song]
    number_columns: list[str] = field(default_factory=list)
    one_cell_one_tag: bool = False
    notes: list[str] = field(default_factory=list)
    dropped: list[tuple[str, list[str]]] = field(default_factory=list)

    def drop(self, what: str, lines: list[str]) -> None:
        """Record that ``lines`` are not in the catalogue; nothing is recorded if there are none."""
        if lines:
            self.dropped.append((what, lines))


def split_name(text: str) -> str | None:
    """train, validation or test, if ``text`` means one of them."""
    return _SPLITS.get(text.strip().casefold())


class Found(NamedTuple):
    """What is below a folder, as absolute paths, without what is hidden: ``songs``, sorted; ``links`` to other folders,
    which are not followed, as they may lead out of it; ``closed`` folders, each with the reason."""

    songs: list[str]
    links: list[str]
    closed: list[str]


def find_songs(folder: Path) -> Found:
    """Search ``folder`` and all folders below it."""
    closed: dict[str, str] = {}
    links: list[str] = []
    songs = songs_below(os.path.abspath(folder), closed, links)
    return Found(songs, links, [f"{place}: {why}" for place, why in closed.items()])


def keep_usable(labels: Labels, root: Path) -> None:
    """Drop songs whose file is missing, empty or not below ``root``, and names that no table can hold."""
    real_root = os.path.realpath(root)
    inside: dict[str, bool] = {}  # whether a folder, with links resolved, is below the root
    found: dict[str, list[str]] = {}
    kept = []
    for song in labels.songs:
        if why := _unusable(song.path, real_root, inside):
            found.setdefault(why, []).append(song.path)
        else:
            kept.append(song)
    labels.songs = kept
    for why, paths in found.items():
        labels.drop(why, paths)


def _unusable(path: str, real_root: str, inside: dict[str, bool]) -> str | None:
    try:
        path.encode()
    except UnicodeEncodeError:
        return "files whose names are not UTF-8, which no table can hold: rename them"
    if "\0" in path or "\r" in path:
        return "paths with a NUL byte or a carriage return"
    problem = file_problem(path, real_root, inside)
    if problem == "link":
        return f"links that lead out of {real_root} (use the folder that really holds the files, also as --root)"
    return problem and _PROBLEMS[problem]
