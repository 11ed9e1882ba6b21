"""Rows of a file of tags, as JSON lines, CSV and Parquet.

Legend: K tags.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from musictag.common.files import atomic_write
from musictag.common.text import unicode_name

_DIGITS = 6
_FORMULA_SIGNS = ("=", "+", "-", "@", "\t")
_LINE_BREAKS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"


class Row(NamedTuple):
    """One song: its path, the ``content_key`` of its file, the file's size in bytes and time of change in nanoseconds,
    the model and options of the analysis, and the scores: K float32, NaN for tags that were not chosen."""

    path: str
    content: str
    size: int
    modified: int
    analysis: str
    scores: np.ndarray

    def chosen(self, tags: Sequence[str]) -> dict[str, float]:
        order = np.argsort(-self.scores, kind="stable")
        return {tags[i]: round(float(self.scores[i]), _DIGITS) for i in order if not np.isnan(self.scores[i])}


#: What a row has beside its path and its scores.
ABOUT = Row._fields[1:-1]


def one_line(path: str) -> str:
    """A path as it stands in a row: line breaks and bytes that are not UTF-8 are written out."""
    return "".join(repr(part)[1:-1] if part in _LINE_BREAKS else part for part in unicode_name(path))


class Lines:
    """Rows as lines of text, each complete with its line break: an object per song, with one of its chosen tags."""

    header = ""

    def __init__(self, tags: Sequence[str]) -> None:
        self._tags = list(tags)

    def line(self, row: Row) -> str:
        about = dict(zip(ABOUT, row[1:-1], strict=True))
        return json.dumps({"path": row.path, "tags": row.chosen(self._tags)} | about) + "\n"

    def row(self, line: str) -> Row:
        """Raises ValueError, KeyError or TypeError for what is not such a line."""
        found = json.loads(line)
        scores = found.pop("tags")
        if unknown := set(scores) - set(self._tags):
            raise ValueError(f"this model has no tag {min(unknown)!r}")
        return Row(**found, scores=np.array([scores.get(name, np.nan) for name in self._tags], np.float32))


class CsvLines(Lines):
    """One column per tag, empty where it was not chosen. A relative path that a spreadsheet would take for a formula
    begins with ``./``; a tag gets an apostrophe."""

    def __init__(self, tags: Sequence[str]) -> None:
        super().__init__(tags)
        names = [f"'{tag}" if tag.lstrip(" ").startswith(_FORMULA_SIGNS) else tag for tag in tags]
        self.header = _csv(["path", *names, *ABOUT])

    def line(self, row: Row) -> str:
        scores = ["" if np.isnan(score) else round(float(score), _DIGITS) for score in row.scores]
        return _csv([f"./{row.path}" if _is_formula(row.path) else row.path, *scores, *row[1:-1]])

    def row(self, line: str) -> Row:
        ((path, *cells),) = csv.reader([line])
        if len(cells) != len(self._tags) + len(ABOUT):
            raise ValueError(f"a line has {len(cells) + 1} cells")
        *scores, content, size, modified, analysis = cells
        path = path[2:] if path.startswith("./") and _is_formula(path) else path
        scores = np.array([float(cell or "nan") for cell in scores], np.float32)
        return Row(path, content, int(size), int(modified), analysis, scores)


def _is_formula(path: str) -> bool:
    """Whether a spreadsheet would take it for one, behind any number of ``./``: reading takes one away again."""
    while path.startswith("./"):
        path = path[2:]
    return path.startswith(_FORMULA_SIGNS)


def _csv(cells: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def write_parquet(path: Path, tags: Sequence[str], rows: Sequence[Row]) -> None:
    """Columns as in CSV, missing scores as nulls; atomically."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    scores = np.array([row.scores for row in rows], np.float32).reshape(len(rows), len(tags)).T
    paths, *about = ([row[place] for row in rows] for place in range(len(ABOUT) + 1))
    kinds = [pa.string(), *[pa.float32()] * len(tags), pa.string(), pa.int64(), pa.int64(), pa.string()]
    columns = [
        pa.array(values, kind, from_pandas=True) for values, kind in zip([paths, *scores, *about], kinds, strict=True)
    ]
    with atomic_write(path) as file:
        pq.write_table(pa.table(columns, ["path", *tags, *ABOUT]), file)


def read_parquet(path: Path, tags: Sequence[str]) -> Iterator[Row]:
    """The rows of such a file, which may be untrusted; raises ValueError for another one."""
    from musictag.common.parquet import open_parquet

    file = open_parquet(path)
    if file.schema_arrow.names != ["path", *tags, *ABOUT]:
        raise ValueError("its columns are others")
    for batch in file.iter_batches():
        for song, *cells in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            *scores, content, size, modified, analysis = cells
            yield Row(song, content, size, modified, analysis, np.array(scores, np.float32))
