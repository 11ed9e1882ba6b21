"""The manifest: one row per song, with its audio, split, group and tags.

Legend: S songs, K tags.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from musictag.common.errors import MusictagError
from musictag.common.text import is_one_line, listed

SPLITS = ("train", "validation", "test")
#: Songs whose tags are not looked at: a teacher alone makes use of them.
UNLABELLED = "unlabelled"
KINDS = ("classification", "regression")
TEXT_COLUMNS = ("song_id", "path", "split", "group")
RESERVED_COLUMNS = (*TEXT_COLUMNS, "duration")
#: What no song_id or path may hold: a carriage return would end a row of the tables that musictag writes.
UNWRITABLE = r"[\x00\r]"
_SHOWN_PROBLEMS = 20


@dataclass(frozen=True)
class Tag:
    """A target: ``classification`` (0 or 1) or ``regression`` (a real number in [0, 1])."""

    name: str
    kind: str = "classification"


class Manifest:
    """The songs of a data set as one table, checked as a whole.

    Columns: ``song_id``, ``path``, ``split``, ``group`` (text; the group is the artist or the work, null if unknown),
    ``duration`` (float32 seconds, null if unknown) and one float32 column per tag, null if unknown. Columns are put in
    this order, whatever the order in ``table``; NaN becomes null.

    The songs of a split, or selected ones, are views that know their rows and share the columns of the whole, which for
    a million songs with a hundred tags fill a gigabyte.

    Raises MusictagError naming every problem with its row (the first song is row 1): columns missing, unknown or of the
    wrong type, identifiers missing or repeated, splits other than train, validation, test and unlabelled, values out of
    range.
    """

    def __init__(self, table: pa.Table, tags: Sequence[Tag], name: str) -> None:
        self.tags = tuple(tags)
        self.name = name
        problems = _Problems()
        _check_tags(self.tags, problems)
        self._whole = _with_types(table, self.tags, problems)
        self._rows: np.ndarray | None = None  # rows of the whole; None: all
        if not problems.count:
            _check_rows(self._whole, self.tags, problems)
        if problems.count:
            raise MusictagError(f"the manifest of {name} cannot be used (the first song is row 1):\n{problems}")

    def __len__(self) -> int:
        return self._whole.num_rows if self._rows is None else len(self._rows)

    @property
    def table(self) -> pa.Table:
        """All columns; a copy for a view."""
        return self._whole if self._rows is None else self._whole.take(pa.array(self._rows))

    def column(self, name: str) -> pa.Array:
        """One column as a single chunk."""
        column = _in_one_piece(self._whole[name])
        return column if self._rows is None else column.take(pa.array(self._rows))

    def values(self, name: str) -> np.ndarray:
        """The duration or one tag's values, float32 S, NaN if unknown."""
        values = self._whole[name].to_numpy()  # null becomes NaN
        return values if self._rows is None else values[self._rows]

    @property
    def song_ids(self) -> np.ndarray:
        """Identifiers, S strings."""
        return self._texts("song_id")

    @property
    def paths(self) -> np.ndarray:
        """S strings; their meaning is up to the source."""
        return self._texts("path")

    @property
    def groups(self) -> np.ndarray:
        """S strings, None if unknown."""
        return self._texts("group")

    def _texts(self, column: str) -> np.ndarray:
        return self.column(column).to_numpy(zero_copy_only=False)

    def select(self, rows: np.ndarray) -> Manifest:
        """The songs at ``rows`` (integers without duplicates), in that order."""
        rows = np.asarray(rows, dtype=np.int64)
        if len(np.unique(rows)) != len(rows):
            raise ValueError("a song cannot be selected twice")
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"there are {len(self)} songs; asked for rows {rows.min()} to {rows.max()}")
        return self._view(rows)

    def _view(self, rows: np.ndarray) -> Manifest:
        # the whole table has been checked already
        other = object.__new__(Manifest)
        other.tags, other.name, other._whole = self.tags, self.name, self._whole
        other._rows = rows if self._rows is None else self._rows[rows]
        return other

    def with_tags(self, tags: Sequence[Tag]) -> Manifest:
        """The same songs with only these tags, in this order; no column is copied."""
        if unknown := [tag for tag in tags if tag not in self.tags]:
            raise ValueError(f"unknown tags: {unknown}")
        other = copy(self)
        other.tags = tuple(tags)
        other._whole = self._whole.select([*RESERVED_COLUMNS, *(tag.name for tag in tags)])
        return other

    def split(self, name: str) -> Manifest:
        """The songs of one split (train, validation, test or unlabelled), in the manifest's order."""
        return self._view(self.rows(name))

    def rows(self, split: str) -> np.ndarray:
        """Where the songs of ``split`` are: int64, ascending."""
        if split not in (*SPLITS, UNLABELLED):
            raise ValueError(f"no split {split!r}; there are {', '.join((*SPLITS, UNLABELLED))}")
        return np.flatnonzero(pc.equal(self.column("split"), split).to_numpy(zero_copy_only=False))

    def labelled(self) -> Manifest:
        """All songs but the unlabelled ones; itself if there are none of these."""
        others = self.rows(UNLABELLED)
        return self._view(np.delete(np.arange(len(self)), others)) if len(others) else self

    def targets(self) -> np.ndarray:
        """Tag values, float32 S×K, NaN if unknown."""
        targets = np.empty((len(self), len(self.tags)), dtype=np.float32)
        for column, tag in enumerate(self.tags):
            targets[:, column] = self.values(tag.name)
        return targets

    def digest(self) -> str:
        """A hash of all that a result depends on: songs and their order, files, splits, tags and their values."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(repr([(tag.name, tag.kind) for tag in self.tags]).encode())
        for column in ("song_id", "path", "split"):
            digest.update("\0".join(self._texts(column)).encode() + b"\n")
        for tag in self.tags:
            values = self.values(tag.name)
            # one bit pattern for unknown, whatever the platform's NaN; and no -0
            unknown = np.isnan(values)
            digest.update(np.packbits(unknown).tobytes())
            digest.update((np.where(unknown, np.float32(0), values) + np.float32(0)).astype("<f4").tobytes())
        return digest.hexdigest()

    def leaked_groups(self) -> list[str]:
        """Groups with songs in more than one split, sorted; such songs make test scores too high. Unlabelled songs do
        not count: the tags of their groups are not learned from them."""
        labelled = self.labelled()
        known = pa.table({name: labelled.column(name) for name in ("group", "split")})
        known = known.filter(pc.is_valid(known["group"]))
        counts = known.group_by("group").aggregate([("split", "count_distinct")])
        return sorted(counts.filter(pc.greater(counts["split_count_distinct"], 1))["group"].to_pylist())


class _Problems:
    """Everything that is wrong: counted, and spelled out up to a readable length."""

    def __init__(self) -> None:
        self.count = 0
        self.lines: list[str] = []

    def add(self, *lines: str, count: int | None = None) -> None:
        """Add ``lines``, which may be the first of ``count``."""
        self.count += len(lines) if count is None else count
        self.lines.extend(lines[: _SHOWN_PROBLEMS - len(self.lines)])

    def __str__(self) -> str:
        return listed(self.lines, self.count)


def _check_tags(tags: tuple[Tag, ...], problems: _Problems) -> None:
    if not tags:
        problems.add("no tags: there is nothing to learn")
    seen: set[str] = set()
    for tag in tags:
        if not is_one_line(tag.name):
            problems.add(f"tag {tag.name!r}: a tag name must be one line of text")
        if tag.name in RESERVED_COLUMNS:
            problems.add(f"tag {tag.name!r}: this name is reserved for a column of the manifest")
        if tag.name in seen:
            problems.add(f"tag {tag.name!r} is given twice")
        if tag.kind not in KINDS:
            problems.add(f"tag {tag.name!r} is of kind {tag.kind!r}; allowed are {' and '.join(KINDS)}")
        seen.add(tag.name)


def _with_types(table: pa.Table, tags: tuple[Tag, ...], problems: _Problems) -> pa.Table:
    """The columns in their order and types."""
    types = dict.fromkeys(TEXT_COLUMNS, pa.string()) | {"duration": pa.float32()} | {t.name: pa.float32() for t in tags}
    occurring = Counter(table.column_names)
    for name in occurring:
        if name not in types:
            problems.add(f"column {name!r} is neither a tag nor one of {', '.join(RESERVED_COLUMNS)}")
    columns = {}
    for name, wanted in types.items():
        if (times := occurring[name]) != 1:
            problems.add(f"column {name!r} occurs {times} times" if times else f"column {name!r} is missing")
            continue
        try:
            # safe=False: a float64 like 0.1 has no exact float32, which is fine
            column = table[name].cast(wanted, safe=wanted != pa.float32())
        except pa.ArrowException as error:
            problems.add(f"column {name!r} holds {table[name].type}, but {wanted} is needed ({error})")
            continue
        if wanted == pa.float32() and pc.any(pc.is_nan(column)).as_py():
            column = pc.if_else(pc.is_nan(column), pa.scalar(None, pa.float32()), column)
        columns[name] = _in_one_piece(column)
    return pa.table(columns)


def _in_one_piece(column: pa.ChunkedArray) -> pa.Array:
    # combine_chunks would copy a single chunk
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _check_rows(table: pa.Table, tags: tuple[Tag, ...], problems: _Problems) -> None:
    def report(column: str, right: np.ndarray | pa.Array | pa.ChunkedArray, what: str) -> None:
        rows = np.flatnonzero(~np.asarray(right))
        values = table[column].take(pa.array(rows[:_SHOWN_PROBLEMS])).to_pylist()
        lines = (f"row {row + 1}: {column} {value!r} {what}" for row, value in zip(rows, values, strict=False))
        problems.add(*lines, count=len(rows))

    if not table.num_rows:
        problems.add("no songs: the table has no rows")
    texts = {name: pc.fill_null(table[name], "") for name in ("song_id", "path", "split")}
    for name, column in texts.items():
        report(name, pc.not_equal(pc.utf8_trim_whitespace(column), ""), "is empty")
    for name in ("song_id", "path"):
        wrong = pc.match_substring_regex(texts[name], UNWRITABLE)
        report(name, pc.invert(wrong), "holds a NUL byte or a carriage return, which is not allowed")
    ids = texts["song_id"]
    first_rows = np.unique(pc.index_in(ids, pc.unique(ids)).to_numpy(), return_index=True)[1]
    is_first = np.zeros(len(ids), dtype=bool)
    is_first[first_rows] = True
    report("song_id", pc.or_(pa.array(is_first), pc.equal(ids, "").combine_chunks()), "is already used by a song above")
    splits = (*SPLITS, UNLABELLED)
    report("split", pc.is_in(texts["split"], pa.array(["", *splits])), f"is not one of {', '.join(splits)}")
    seconds = pc.fill_null(table["duration"], 1.0)
    report("duration", pc.and_(pc.greater(seconds, 0), pc.is_finite(seconds)), "is not a number of seconds above 0")
    for tag in tags:
        values = table[tag.name].to_numpy()
        unknown = np.isnan(values)
        if tag.kind == "classification":
            report(tag.name, (values == 0) | (values == 1) | unknown, "is neither 0 nor 1")
        else:
            report(tag.name, ((values >= 0) & (values <= 1)) | unknown, "is not between 0 and 1")
