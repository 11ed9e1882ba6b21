"""A table with genres as words: one per cell, several per cell, or one row for each tag of a song."""

from __future__ import annotations

import ntpath
import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from musictag.common.errors import MusictagError
from musictag.data.catalogue.making.columns import Columns, read_table
from musictag.data.catalogue.making.labels import Labels, Song, find_songs, split_name


def read_cells(
    path: Path, audio: str | Path | None = None, path_column: str | None = None, label_columns: Sequence[str] = ()
) -> Labels:
    """Read the songs of a table; rows with the same file are one song.

    Paths are relative to ``audio`` (default: the folder of the table). If most of them do not exist, files with these
    names are searched below it. Columns of numbers in [0, 1] are tags already and are kept.

    Raises MusictagError as ``read_table`` does, and for splits with other names.
    """
    columns = read_table(path, path_column, label_columns)
    base = Path(os.path.abspath(audio or path.parent))
    labels = Labels("", [])
    paths = _paths(columns.path, base, labels)
    rows_of: dict[str, list[int]] = {}
    for row, song in enumerate(paths):
        rows_of.setdefault(song, []).append(row)
    empty = rows_of.pop("", [])
    labels.drop("rows without a file", [f"row {row + 1}" for row in empty if not columns.path[row]])
    unclear = [f"row {row + 1}: {columns.path[row]}" for row in empty if columns.path[row]]
    labels.drop("rows whose path does not exist, while several songs or files have its file name", unclear)
    splits = _splits(path, columns.texts.get("split"), len(paths))
    numbers = _numbers_of_songs(columns, rows_of, labels)
    labels.number_columns = list(numbers)
    ids = columns.texts.get("song_id", [""] * len(paths))
    for song, rows in rows_of.items():
        labels.songs.append(
            Song(
                song,
                list(dict.fromkeys(cells[row] for cells in columns.labels.values() for row in rows if cells[row])),
                artist=_first(columns.texts.get("group"), rows),
                album=_first(columns.texts.get("album"), rows),
                split=_first(splits, rows),
                song_id=_first(ids, rows),
                duration=_known(columns.duration, rows),
                numbers=[values[rows[0]] for values in numbers.values()],
            )
        )
    several = len(paths) - len(empty) > len(rows_of)
    labels.about = "a table with several rows for a song" if several else "a table with one row per song"
    if columns.labels:
        labels.about += f", tags in column {' and '.join(columns.labels)}"
    if columns.left_out:
        labels.notes.append(f"columns that are not tags, left out: {', '.join(columns.left_out)}")
    return labels


def _paths(written: list[str], base: Path, labels: Labels) -> list[str]:
    """Absolute paths, "" if a row has none, or if it is unclear which file is meant."""
    paths = [os.path.normpath(os.path.join(base, text)) if text else "" for text in written]
    absent = [at for at, path in enumerate(paths) if path and not os.path.exists(path)]
    if 2 * len(absent) <= sum(map(bool, paths)):
        return paths
    by_name: dict[str, str | None] = {}
    for path in find_songs(base).songs:
        for name in (_composed(path), _composed(os.path.basename(path))):
            by_name[name] = None if name in by_name else path
    songs = Counter(_composed(ntpath.basename(path)) for path in set(paths))
    found = 0
    for at in absent:
        path = _composed(paths[at])
        # only the file name of a path from another machine (or Windows) is of use, and only if it is that of one song
        name = ntpath.basename(path)
        if name in by_name:
            paths[at] = by_name.get(path) or (songs[name] == 1 and by_name[name]) or ""
            found += paths[at] != ""
    if found:
        labels.notes.append(
            f"{found:,} files were found by their names below {base}; the paths in the table do not exist"
        )
    return paths


def _composed(name: str) -> str:
    """The same for all encodings of accents: file systems may store them as separate characters."""
    return unicodedata.normalize("NFC", name)


def _splits(path: Path, written: list[str] | None, rows: int) -> list[str]:
    if written is None:
        return [""] * rows
    known = {text: split_name(text) for text in set(written) if text}
    if strange := sorted(text for text, split in known.items() if split is None):
        raise MusictagError(
            f"{path}: column split holds {', '.join(strange[:5])}; the splits are train, validation and test. Rename "
            "the column if it is not a split"
        )
    return [known[text] or "" if text else "" for text in written]


def _numbers_of_songs(columns: Columns, rows_of: dict[str, list[int]], labels: Labels) -> dict[str, list[float | None]]:
    """Tags that are numeric columns already, with the value in every row (None: unknown).

    With one row per tag, where most songs have several rows, a column that differs between rows of a song describes the
    tag: 0 or 1 says whether the song has it. Elsewhere, a few rows that contradict each other must not decide about
    all others.
    """
    most_repeat = 2 * sum(len(rows) > 1 for rows in rows_of.values()) > len(rows_of)
    kept: dict[str, list[float | None]] = {}
    for name, values in columns.numbers.items():
        # NaN is not equal to itself
        same = all(len(rows) == 1 or len(np.unique(values[rows])) == 1 for rows in rows_of.values())
        binary = bool(np.isin(values[~np.isnan(values)], (0, 1)).all())
        if same:
            if (values[~np.isnan(values)] == 1).all() and np.isnan(values).any():
                values = np.nan_to_num(values, nan=0.0)
                labels.notes.append(f"column {name} had 1 or empty cells: 0 is written for the empty ones")
            kept[name] = [None if np.isnan(value) else float(value) for value in values]
        elif binary and columns.labels and most_repeat:
            for cells in columns.labels.values():
                for row in np.flatnonzero(values != 1).tolist():
                    cells[row] = ""
            labels.notes.append(f"column {name} marks the rows that count with 1")
        else:
            labels.notes.append(f"column {name} differs between rows of a song: left out")
    return kept


def _known(values: np.ndarray | None, rows: list[int]) -> float | None:
    return None if values is None or np.isnan(values[rows[0]]) else float(values[rows[0]])


def _first(texts: list[str] | None, rows: list[int]) -> str:
    return next((texts[row] for row in rows if texts[row]), "") if texts else ""
