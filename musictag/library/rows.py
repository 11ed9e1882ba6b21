"""Rows of a file of tags, as JSON lines, CSV and Parquet.

Legend: K tags.
"""

from __future__ import annotations

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from musictag.common.files import atomic_write
from musictag.common.text import unicode_name

_DIGITS = 6
_FORMULA_SIGNS = ("=", "+", "-", "@", "\t")


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


def one_line(path: str) -> str:
    """A path as it stands in a row: line breaks and bytes that are not UTF-8 are written out."""
    text = unicode_name(path)
    return "".join(repr(part)[1:-1] if part in "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029" else part for part in text)


class Lines(ABC):
    """Rows as lines of text, each complete with its line break."""

    header = ""

    def __init__(self, tags: Sequence[str]) -> None:
        self._tags = list(tags)

    @abstractmethod
    def line(self, row: Row) -> str: ...

    @abstractmethod
    def row(self, line: str) -> Row:
        """Raises ValueError, KeyError or TypeError for what is not such a line."""


class JsonLines(Lines):
    """One object per song, with an object of its chosen tags."""

    def line(self, row: Row) -> str:
        about = row._asdict()
        del about["scores"]
        return json.dumps({"path": about.pop("path"), "tags": row.chosen(self._tags)} | about) + "\n"

    def row(self, line: str) -> Row:
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
        self.header = _csv(["path", *names, *Row._fields[1:-1]])

    def line(self, row: Row) -> str:
        scores = ["" if np.isnan(score) else round(float(score), _DIGITS) for score in row.scores]
        path = f"./{row.path}" if row.path.startswith(_FORMULA_SIGNS) else row.path
        return _csv([path, *scores, *row[1:-1]])

    def row(self, line: str) -> Row:
        ((path, *cells),) = csv.reader([line])
        if len(cells) != len(self._tags) + 4:
            raise ValueError(f"a line has {len(cells) + 1} cells")
        scores = np.array([float(cell or "nan") for cell in cells[:-4]], np.float32)
        content, size, modified, analysis = cells[-4:]
        path = path[2:] if path[2:].startswith(_FORMULA_SIGNS) else path
        return Row(path, content, int(size), int(modified), analysis, scores)


def _csv(cells: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def write_parquet(path: Path, tags: Sequence[str], rows: Sequence[Row]) -> None:
    """Columns as in CSV, missing scores as nulls; atomically."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    scores = np.array([row.scores for row in rows], np.float32).reshape(len(rows), len(tags))
    columns = {"path": pa.array([row.path for row in rows], pa.string())}
    columns |= {tag: pa.array(scores[:, number], from_pandas=True) for number, tag in enumerate(tags)}
    for name, kind in (
        ("content", pa.string()),
        ("size", pa.int64()),
        ("modified", pa.int64()),
        ("analysis", pa.string()),
    ):
        columns[name] = pa.array([getattr(row, name) for row in rows], kind)
    with atomic_write(path) as file:
        pq.write_table(pa.table(columns), file)


def read_parquet(path: Path, tags: Sequence[str]) -> Iterator[Row]:
    """The rows of such a file, which may be untrusted; raises ValueError for another one."""
    import pyarrow as pa

    from musictag.common.parquet import open_parquet

    table = open_parquet(path).read()
    if table.column_names != ["path", *tags, *Row._fields[1:-1]]:
        raise ValueError("its columns are others")
    scores = np.stack([table[tag].cast(pa.float32()).to_numpy() for tag in tags], axis=1)
    about = [table[name].to_pylist() for name in ("path", *Row._fields[1:-1])]
    for *cells, values in zip(*about, scores, strict=True):
        yield Row(*cells, values)
