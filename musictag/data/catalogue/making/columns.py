"""Finds out what each column of a user's table means, by its name and its content."""

from __future__ import annotations

import ntpath
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from musictag.common.errors import MusictagError
from musictag.common.text import listed
from musictag.data.catalogue.columns import repeated_names
from musictag.data.catalogue.making.labels import split_name
from musictag.data.catalogue.paths import AUDIO_SUFFIXES
from musictag.data.catalogue.tables import Cells, as_numbers, emptied

_PATHS = (
    "path", "filepath", "audiopath", "file", "filename", "audiofile", "audio", "mp3path", "wavpath", "location",
    "fname",
    "song", "track", "clip", "mp3", "wav", "url",
)  # fmt: skip
_LABELS = re.compile(
    r"(main|sub|primary|top|track)?(genre|tag|label|class|category|categorie|mood|style|theme|instrument)(s|es|name|top)?"
    r"\d*|target|y|(mood|genre)(tag|label)s?"
)
_GROUPS = ("group", "artist", "artistname", "artistid", "performer", "band", "albumartist")
_ALBUMS = ("album", "albumname", "albumtitle", "release")
_SPLITS = ("split", "set", "partition", "subset")
_IDS = ("songid",)
_NO_TAGS = ("index", "id", "trackid", "number", "duration", "year", "unnamed0", "")


@dataclass
class Columns:
    """The cells of a table by what they mean; texts are "" for empty cells. Rows: R."""

    path: list[str]
    labels: dict[str, list[str]]
    texts: dict[str, list[str]] = field(default_factory=dict)
    numbers: dict[str, np.ndarray] = field(default_factory=dict)
    duration: np.ndarray | None = None
    left_out: list[str] = field(default_factory=list)


def read_table(path: Path, path_column: str | None, label_columns: Sequence[str]) -> Columns:
    """Read the columns of a CSV, TSV or Parquet file.

    ``label_columns`` hold tags as words (none given: columns named like genre, tags, mood; else the only one whose
    words repeat). ``path_column`` (default: by name, else the one whose cells end like audio files).

    Raises MusictagError for a table that cannot be read, naming bad rows, and if it is unclear which column is which.
    """
    cells = Cells(path)
    if cells.ragged:
        lines = [f"row {row}: {number} cells" for row, number in cells.ragged]
        raise MusictagError(
            f"{path}: rows whose number of cells is not {len(cells.names)}, the number of columns:\n{listed(lines)}"
        )
    if not cells.num_rows:
        raise MusictagError(f"{path} has no rows")
    if twice := repeated_names(name for name in map(str.strip, cells.names) if name):
        raise MusictagError(f"{path}: duplicate column names: {', '.join(twice)}; rename or remove all but one")
    texts = {position: _texts(path, cells, position) for position in range(len(cells.names))}
    for name in filter(None, (path_column, *label_columns)):
        if name not in cells.names:
            raise MusictagError(f"{path} has no column {name}; its columns are {', '.join(cells.names)}")
    where = cells.names.index(path_column) if path_column else _path_position(path, cells.names, texts)
    columns = Columns([text.strip() for text in texts.pop(where)], {})
    _take_roles(columns, cells.names, texts, label_columns)
    labels = [position for position in texts if cells.names[position] in label_columns]
    labels = labels or [position for position in texts if _LABELS.fullmatch(_key(cells.names[position]))]
    for position in [at for at in texts if at not in labels or not label_columns]:
        _take_numbers(columns, cells, position, texts, is_label=position in labels)
    labels = [position for position in labels if position in texts]
    if not labels and not columns.numbers:
        labels = [_guessed(path, cells.names, texts)]
    for position in labels:
        columns.labels[cells.names[position]] = texts.pop(position)
    columns.left_out += [cells.names[position] for position in texts if cells.names[position].strip()]
    return columns


def _take_roles(columns: Columns, names: list[str], texts: dict[int, list[str]], label_columns: Sequence[str]) -> None:
    for role, known in (("group", _GROUPS), ("album", _ALBUMS), ("split", _SPLITS), ("song_id", _IDS)):
        for key in known:
            places = [at for at in texts if _key(names[at]) == key and names[at] not in label_columns]
            if role == "split":  # a column "set" may hold anything
                places = [at for at in places if names[at] == "split" or all(map(split_name, filter(None, texts[at])))]
            if places and role not in columns.texts:
                columns.texts[role] = [text.strip() for text in texts.pop(places[0])]


def _take_numbers(columns: Columns, cells: Cells, at: int, texts: dict[int, list[str]], is_label: bool) -> None:
    """Add a column of numbers: a tag if all are in [0, 1]; class numbers if it is a label column."""
    name = cells.names[at]
    column = pa.chunked_array([pa.array(texts[at], pa.string())])
    answers = _key(name) != "duration"
    values, others = as_numbers(column, answers, cells.decimal_comma)
    numbers = values.to_numpy(zero_copy_only=False)
    known = numbers[~np.isnan(numbers)]
    if len(others) or not len(known):
        return
    inside = bool(((known >= 0) & (known <= 1)).all())
    if _key(name) == "duration" and (known > 0).all() and np.isfinite(known).all():
        columns.duration = numbers
        texts.pop(at)
    elif inside and _key(name) not in _NO_TAGS:
        columns.numbers[name.strip()] = numbers
        texts.pop(at)
    elif is_label:
        texts[at] = [f"{name.strip()} {text.strip()}" if text.strip() else "" for text in texts[at]]


def _path_position(path: Path, names: list[str], texts: dict[int, list[str]]) -> int:
    if "path" in names:
        return names.index("path")
    by_name = sorted((at for at in texts if _key(names[at]) in _PATHS), key=lambda at: _PATHS.index(_key(names[at])))
    for at in [*by_name, *texts]:
        some = [text for text in texts[at][:1000] if text.strip()]
        if some and 2 * sum(is_audio(text) for text in some) > len(some):
            return at
    if by_name and _key(names[by_name[0]]) in ("path", "filepath", "audiopath"):
        return by_name[0]
    raise MusictagError(
        f"{path}: no column names audio files; its columns are {', '.join(names)}. Name it with --path-column"
    )


def _guessed(path: Path, names: list[str], texts: dict[int, list[str]]) -> int:
    """The one column whose words repeat."""
    repeating = []
    for at, cells in texts.items():
        words = [text for text in cells if text.strip()]
        if words and _key(names[at]) not in (*_NO_TAGS, "title") and 2 * len(set(words)) <= len(words):
            repeating.append(at)
    if len(repeating) == 1:
        return repeating[0]
    raise MusictagError(
        f"{path}: which column holds the tags? Its columns are {', '.join(names)}; name one or more with --column"
    )


def _texts(path: Path, cells: Cells, position: int) -> list[str]:
    name = cells.names[position]
    if cells.file is not None:
        kind = cells.types[position]
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            rows = cells.file.read([name]).column(0).to_pylist()
            return [repr([str(item) for item in row if item is not None]) if row else "" for row in rows]
        if pa.types.is_nested(kind):
            return [""] * cells.num_rows
    texts, wrong = cells.text(position)
    if wrong:
        lines = [f"row {cells.row_numbers[at]}: {why}" for at, why in wrong]
        raise MusictagError(f"{path}: text in column {name} that is not UTF-8:\n{listed(lines)}")
    return pc.fill_null(emptied(texts), "").to_pylist()


def is_audio(text: str) -> bool:
    return os.path.splitext(ntpath.basename(text.strip()))[1].lower() in AUDIO_SUFFIXES


def _key(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()
