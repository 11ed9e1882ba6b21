"""Your own music: a CSV or Parquet table that names the files, their splits and their tags."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from musictag.data.manifest import RESERVED_COLUMNS, SPLITS, Manifest, Tag
from musictag.data.sources.files import AudioFiles
from musictag.errors import MusictagError

_REQUIRED = ("song_id", "path", "split")
_SHOWN = 20


class CatalogueFile(AudioFiles):
    """A table with one row a song: ``song_id``, ``path``, ``split``, optionally ``group`` (artist or work) and
    ``duration`` (seconds), and one column a tag.

    A tag whose values are all 0 or 1 is a classification tag, one with other values in [0, 1] a regression tag; an
    empty cell means unknown. ``tags`` chooses among the tag columns, and as a mapping to "classification" or
    "regression" also decides their kinds. Paths are relative to ``root`` (default: the folder of the table) and may not
    lead out of it. ``name`` (default: the table's file name) names the folders of the prepared audio and of the runs.

    Raises MusictagError for a table that cannot be read or used, naming all of its problems.
    """

    def __init__(
        self,
        path: str | Path,
        root: str | Path | None = None,
        tags: Sequence[str] | Mapping[str, str] | None = None,
        name: str | None = None,
        max_seconds: float | None = None,
        sample_rate: int = 16000,
    ) -> None:
        self.path = Path(path)
        super().__init__(self.path.parent if root is None else root, max_seconds, sample_rate)
        self.name = name or re.sub(r"[^\w.-]+", "-", self.path.stem)
        self._tags = tags

    def _load(self) -> Manifest:
        table = _read_table(self.path)
        if missing := [column for column in _REQUIRED if column not in table.column_names]:
            hint = f"\n  split says where each song belongs: {', '.join(SPLITS)}" if "split" in missing else ""
            raise MusictagError(
                f"{self.path} has no column {', '.join(missing)}; its columns are {', '.join(table.column_names)}. "
                f"Needed are song_id, path, split and one column a tag; group and duration (seconds) may follow.{hint}"
            )
        names = list(self._tags) if self._tags else [c for c in table.column_names if c not in RESERVED_COLUMNS]
        if unknown := [tag for tag in names if tag not in table.column_names]:
            raise MusictagError(f"{self.path} has no tag column {', '.join(unknown)}")
        self._refuse_paths_outside(table["path"])
        columns = {column: table[column] for column in _REQUIRED}
        columns["group"] = (
            _emptied(table["group"]) if "group" in table.column_names else pa.nulls(len(table), pa.string())
        )
        numbers = [*(["duration"] if "duration" in table.column_names else []), *names]
        columns["duration"] = pa.nulls(len(table), pa.float32())
        columns |= {column: _numbers(table[column], column, self.path) for column in numbers}
        kinds = self._tags if isinstance(self._tags, Mapping) else {tag: _kind(columns[tag]) for tag in names}
        return Manifest(pa.table(columns), [Tag(tag, kinds[tag]) for tag in names], self.name)

    def _refuse_paths_outside(self, paths: pa.ChunkedArray) -> None:
        outside = [
            f"row {row}: {path}"
            for row, path in enumerate(paths.to_pylist(), start=1)
            if os.path.commonpath([self.root, os.path.abspath(self.root / (path or ""))]) != str(self.root)
        ]
        if outside:
            shown = [*outside[:_SHOWN], *([f"... and {len(outside) - _SHOWN} more"] if len(outside) > _SHOWN else [])]
            raise MusictagError(
                f"paths in {self.path} lead out of {self.root}; name a folder that holds all files with root=...:\n  "
                + "\n  ".join(shown)
            )


def _read_table(path: Path) -> pa.Table:
    """The table as it stands in the file; all columns of a CSV as text, so that an identifier like 007 survives."""
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".tsv", ".parquet"):
        raise MusictagError(f"{path}: a catalogue is a .csv, .tsv or .parquet file")
    if not path.is_file():
        raise MusictagError(f"no catalogue at {path}")
    try:
        if suffix == ".parquet":
            return pq.read_table(path, partitioning=None)
        delimiter = "\t" if suffix == ".tsv" else ","
        with open(path, encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file, delimiter=delimiter), [])
        if len(set(header)) != len(header):
            raise MusictagError(f"{path}: a column name stands twice in {', '.join(header)}")
        return pacsv.read_csv(
            path,
            parse_options=pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(column_types=dict.fromkeys(header, pa.string())),
        )
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        raise MusictagError(f"{path} cannot be read as {suffix[1:]}: {error}") from error


def _emptied(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text with null for empty cells."""
    column = column.cast(pa.string())
    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(column), ""), pa.scalar(None, pa.string()), column)


def _numbers(column: pa.ChunkedArray, name: str, path: Path) -> pa.ChunkedArray:
    """Numbers of a column, null for empty cells. Raises MusictagError naming the rows that hold none."""
    if not pa.types.is_string(column.type):
        return column
    column = pc.utf8_trim_whitespace(_emptied(column))
    try:
        return column.cast(pa.float64())
    except pa.ArrowInvalid:
        wrong = [
            f"row {row}: {name} {text!r}"
            for row, text in enumerate(column.to_pylist(), start=1)
            if not _is_number(text)
        ]
        shown = [*wrong[:_SHOWN], *([f"... and {len(wrong) - _SHOWN} more"] if len(wrong) > _SHOWN else [])]
        raise MusictagError(
            f"{path}: column {name} must hold numbers (a tag: 0, 1, a value between, or nothing where unknown):\n  "
            + "\n  ".join(shown)
        ) from None


def _is_number(text: str | None) -> bool:
    try:
        return text is None or float(text) is not None
    except ValueError:
        return False


def _kind(values: pa.ChunkedArray) -> str:
    present = pc.drop_null(values.cast(pa.float64()))
    both = pc.or_(pc.equal(present, 0), pc.or_(pc.equal(present, 1), pc.is_nan(present)))
    return "classification" if pc.all(both, min_count=0).as_py() else "regression"
