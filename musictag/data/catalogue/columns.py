"""What the columns of a catalogue hold, and what is wrong with their names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from musictag.common.text import is_one_line, some
from musictag.data.catalogue.tables import catalogue_command
from musictag.data.manifest import RESERVED_COLUMNS

#: Name of a column that is read as ``group`` if there is no such column.
ARTIST = "artist"
_NAMES = (*RESERVED_COLUMNS, ARTIST)
_NAMES_SHOWN = 50
#: How pandas names an index in Parquet, as it does for every table from which it left rows out.
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")


def kind_of(values: pa.ChunkedArray) -> str:
    """The kind of a tag with these values (null or NaN: unknown), unless it is declared."""
    numbers = values.to_numpy()
    is_binary = ((numbers == 0) | (numbers == 1) | np.isnan(numbers)).all()
    return "classification" if is_binary else "regression"


def group_column(header: Collection[str], tags: Collection[str] | None) -> str | None:
    """The column that holds the groups, unless it is one of the requested ``tags``; None: there is none."""
    return next((column for column in ("group", ARTIST) if column in header and column not in (tags or ())), None)


def tag_columns(header: Collection[str], tags: Collection[str] | None) -> list[str]:
    """The requested ``tags``, or all columns that can be one."""
    others = (*RESERVED_COLUMNS, group_column(header, tags))
    return list(tags or (c for c in header if c.strip() and c not in others and not _PANDAS_INDEX.fullmatch(c)))


def meant_names(header: Iterable[str], tags: Collection[str] | None) -> dict[str, str]:
    """Columns whose names differ from one of musictag's in case or spaces only, with that name: a split or artists that
    would be overlooked, or taken for a tag. Requested ``tags`` are tags, whatever their names."""
    meant = {column: column.strip().casefold() for column in header if column not in (tags or ())}
    return {column: name for column, name in meant.items() if name in _NAMES and name != column}


def repeated_names(header: Iterable[str]) -> list[str]:
    """Names that several columns have, sorted."""
    return sorted(column for column, times in Counter(header).items() if times > 1)


def header_problems(path: Path, header: Sequence[str], tags: Collection[str] | None) -> list[tuple[str, list[str]]]:
    """What is wrong with the columns of the table at ``path``, each with those that it is about (none: all)."""
    problems: list[tuple[str, list[str]]] = []
    meant, names, shown = meant_names(header, tags), tag_columns(header, tags), some(header, _NAMES_SHOWN)
    there = set(header)
    if "path" not in there.union(meant.values()):
        what = (
            f"there is no column path; the columns are {shown}. Required are path and one column per tag; song_id, "
            "split, group and duration (seconds) are optional. If files and tags are given in another form, this "
            f"command makes a catalogue: {catalogue_command(path)}"
        )
        problems.append((what, []))
    for what, columns in (
        ("duplicate column names", repeated_names(name for name in header if name.strip())),
        (
            f"columns to be renamed: their names differ from {', '.join(_NAMES)} in case or spaces only (or, if one is "
            "a tag, name all tags in data.tags)",
            [f"{column!r} to {name}" for column, name in meant.items()],
        ),
        (f"tags without a column; the columns are {shown}", [name for name in names if name not in there]),
        (
            "columns without a name; remove them, or choose the tags with data.tags (pandas writes such a column "
            "without index=False)",
            [f"column {at}" for at, column in enumerate(header, start=1) if not (column.strip() or tags)],
        ),
        ("a tag name must be one line of text", [repr(name) for name in names if not is_one_line(name)]),
    ):
        if columns:
            problems.append((what, columns))
    if not names:
        problems.append(("no tag column: add one per tag, with 0, 1, or a value in between", []))
    return problems
