"""Tables that people write by hand or with another program: CSV, TSV and Parquet, and what goes wrong with them."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from musictag.data.parquet import flat_column, open_parquet
from musictag.errors import MusictagError

#: The tag columns of the Million Song Dataset with all of its tags would be half a million; nobody trains on them.
MAX_COLUMNS = 10_000
MAX_HEADER_CHARACTERS = 2**24
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_SHOWN = 20
_OTHER_ENCODINGS = {
    codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16",
}  # fmt: skip


def column_names(path: Path) -> list[str]:
    """The names of the columns as they stand in the file.

    Raises MusictagError for a file that is missing, empty, no table, not UTF-8, or separated by something else.
    """
    suffix = path.suffix.lower()
    if suffix not in (*_DELIMITERS, ".parquet"):
        hint = "; in Excel: Save as, CSV UTF-8" if suffix in (".xls", ".xlsx") else ""
        raise MusictagError(f"{path}: a catalogue is a .csv, .tsv or .parquet file{hint}")
    if not path.is_file():
        raise MusictagError(f"no catalogue at {path}")
    try:
        if suffix == ".parquet":
            return _few(path, pq.read_schema(path).names)
        with open(path, "rb") as file:
            beginning = file.read(4)
        for mark, encoding in _OTHER_ENCODINGS.items():
            if beginning.startswith(mark):
                raise MusictagError(
                    f"{path} is {encoding} text, but a catalogue is UTF-8. "
                    f"Type: iconv -f {encoding} -t UTF-8 {path.name} > utf8-{path.name}"
                )
        # bad bytes in the rows below are for whoever reads them
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            names = next(csv.reader(_beginning(path, file), delimiter=_DELIMITERS[suffix]), [])
        for name in names:
            name.encode("utf-8", "surrogateescape").decode()
    except (pa.ArrowException, OSError, csv.Error) as error:
        raise _unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise MusictagError(f"{path} cannot be read as {suffix[1:]}: {_not_utf8('its first row', error)}") from error
    if len(names) == 1 and (other := [mark for mark in (";", "\t", ",") if mark in names[0]]):
        wanted = "tabs" if suffix == ".tsv" else "commas"
        raise MusictagError(
            f"{path} has one column, {names[0]!r}: its cells are separated by {other[0]!r}. Save it with {wanted}, "
            "or as .tsv with tabs"
        )
    if not names:
        raise MusictagError(f"{path} cannot be read as {suffix[1:]}: it is empty")
    return _few(path, names)


def _few(path: Path, names: list[str]) -> list[str]:
    if len(names) > MAX_COLUMNS:
        raise MusictagError(f"{path} has {len(names):,} columns; at most {MAX_COLUMNS:,} are read")
    return names


def _beginning(path: Path, file: TextIO) -> Iterator[str]:
    """Lines, as long as they can belong to a first row: what should be one may be a line of gigabytes."""
    left = MAX_HEADER_CHARACTERS
    while line := file.readline(left):
        left -= len(line)
        if not left:
            raise MusictagError(f"{path}: the first row has more than {MAX_HEADER_CHARACTERS:,} characters")
        yield line


def read_columns(path: Path, texts: Sequence[str], numbers: Sequence[str]) -> dict[str, pa.ChunkedArray]:
    """Columns by name: ``texts`` as strings, so that an identifier like 007 survives, ``numbers`` as float32.

    An empty cell is null in ``numbers`` and "" or null in ``texts``. Raises MusictagError for a file that cannot be
    read, and naming the rows whose cells hold no number.
    """
    try:
        if path.suffix.lower() == ".parquet":
            # column by column: a million songs whose tags are float64 need not be in memory twice
            file = open_parquet(path)
            columns = {name: _as_text(_column(file, name)) for name in texts}
            return columns | _all_numbers(path, {name: _column(file, name) for name in numbers})
        types = dict.fromkeys(texts, pa.string())
        try:
            table = _read_csv(path, types | dict.fromkeys(numbers, pa.float32()))
        except pa.ArrowInvalid:
            # some cell is no number, or the file is damaged, which the second reading says
            table = _read_csv(path, types | dict.fromkeys(numbers, pa.string()))
    except (pa.ArrowException, UnicodeDecodeError, OSError, MemoryError) as error:
        raise _unreadable(path, error) from error
    return {name: table[name] for name in texts} | _all_numbers(path, {name: table[name] for name in numbers})


def _column(file: pq.ParquetFile, name: str) -> pa.ChunkedArray:
    # in one piece: a column takes a quarter less memory than the pieces in which a file of a million rows has it
    return pa.chunked_array([flat_column(file, name).combine_chunks()])


def as_numbers(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, np.ndarray]:
    """The numbers of a column (float32, null where the cell is empty or holds none), and the positions (int64) of the
    cells that hold something else."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        try:
            return column.cast(pa.float32(), safe=False), np.empty(0, dtype=np.int64)
        except pa.ArrowException:
            try:
                column = _as_text(column)
            except pa.ArrowException:
                column = pa.chunked_array([pa.array(map(str, column.to_pylist()), pa.string())])
    column = emptied(column)
    try:
        return column.cast(pa.float32()), np.empty(0, dtype=np.int64)
    except pa.ArrowInvalid:
        cells = column.combine_chunks().dictionary_encode()
        distinct = [_as_number(text) for text in cells.dictionary.to_pylist()]
        values = pa.array(distinct, pa.float32()).take(cells.indices)
        wrong = pc.and_(pc.is_valid(cells), pc.is_null(values))
        return pa.chunked_array([values]), np.flatnonzero(wrong.to_numpy(zero_copy_only=False))


def emptied(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text without spaces around it, null for empty cells."""
    column = pc.utf8_trim_whitespace(_as_text(column))
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)


def listed(lines: Sequence[str], count: int | None = None, shown: int = _SHOWN) -> str:
    """The first of ``count`` lines, one below the other, and how many more there are."""
    more = (len(lines) if count is None else count) - min(len(lines), shown)
    return "\n".join(f"  {line}" for line in [*lines[:shown], *([f"... and {more:,} more"] if more else [])])


class Cells:
    """A table read so that one bad cell does not hide the others: for finding everything that is wrong with it.

    ``names`` are the columns in the order of the file; ``row_numbers`` (int64) says which row of the file each of the
    table's is, the first below the header being 1: rows with too many or too few cells are left out and stand in
    ``ragged`` as (row, number of cells). Raises MusictagError where the file cannot be read at all.
    """

    def __init__(self, path: Path) -> None:
        self.names = column_names(path)
        self._path = path
        self.ragged: list[tuple[int, int]] = []
        try:
            if path.suffix.lower() == ".parquet":
                self._file: pq.ParquetFile | None = open_parquet(path)
                self.num_rows = self._file.metadata.num_rows
            else:
                self._file = None
                self._table = _read_csv(path, dict.fromkeys(self.names, pa.binary()), self.ragged)
                self.num_rows = self._table.num_rows
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(path, error) from error
        everything = np.arange(1, self.num_rows + len(self.ragged) + 1)
        self.row_numbers = np.setdiff1d(everything, [row for row, _ in self.ragged])

    def column(self, position: int) -> pa.ChunkedArray:
        """One column: bytes from a CSV, whatever its type from Parquet."""
        if self._file is None:
            return self._table.column(position)
        name = self.names[position]
        same = [i for i, other in enumerate(self.names) if other == name]
        try:
            return flat_column(self._file, name, same.index(position))
        except (pa.ArrowException, OSError, MemoryError) as error:
            raise _unreadable(self._path, error) from error

    def text(self, position: int) -> tuple[pa.ChunkedArray, list[tuple[int, str]]]:
        """A column as text, and the positions of its cells that are not UTF-8 (empty in the text), with the reason."""
        column = self.column(position)
        try:
            return _as_text(column), []
        except pa.ArrowException:
            texts, wrong = [], []
            for at, cell in enumerate(column.to_pylist()):
                try:
                    texts.append(None if cell is None else cell.decode())
                except UnicodeDecodeError as error:
                    texts.append("")
                    wrong.append((at, _not_utf8(repr(cell), error)))
            return pa.chunked_array([pa.array(texts, pa.string())]), wrong


def _read_csv(path: Path, types: dict[str, pa.DataType], ragged: list[tuple[int, int]] | None = None) -> pa.Table:
    def on_ragged(row: pacsv.InvalidRow) -> str:
        if ragged is None:
            return "error"
        ragged.append((row.number - 1, row.actual_columns))
        return "skip"

    return pacsv.read_csv(
        path,
        # rows have numbers only where they are read one after the other
        read_options=pacsv.ReadOptions(use_threads=ragged is None),
        parse_options=pacsv.ParseOptions(
            delimiter=_DELIMITERS[path.suffix.lower()], newlines_in_values=True, invalid_row_handler=on_ragged
        ),
        convert_options=pacsv.ConvertOptions(
            column_types=types, null_values=[""], include_columns=None if ragged is not None else list(types)
        ),
    )


def _all_numbers(path: Path, columns: dict[str, pa.ChunkedArray]) -> dict[str, pa.ChunkedArray]:
    numbers, wrong = {}, {}
    for name, column in columns.items():
        numbers[name], rows = as_numbers(column)
        if len(rows):
            wrong[name] = rows
    # titles, albums, genres in words: not a tag with a slip of the pen
    if words := [name for name in wrong if numbers[name].null_count == len(numbers[name])]:
        others = ",".join(name for name in columns if name not in wrong and name != "duration") or "..."
        raise MusictagError(
            f"{path}: column{'s' if len(words) > 1 else ''} {', '.join(words)}: no number stands there, so that is no "
            f"tag. Choose the tags with data.tags=[{others}]; the column of artists or works is called group"
        )
    if wrong:
        lines = [
            f"row {row + 1}: {name} {columns[name][row.item()].as_py()!r}"
            for name, rows in wrong.items()
            for row in rows[:_SHOWN]
        ]
        raise MusictagError(
            f"{path}: columns of tags and the duration must hold numbers (a tag: 0, 1, a value between, or nothing "
            f"where unknown):\n{listed(lines, sum(map(len, wrong.values())))}"
        )
    return numbers


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.string())


def _as_number(text: str | None) -> float | None:
    try:
        return None if text is None else pa.scalar(text).cast(pa.float32()).as_py()
    except pa.ArrowInvalid:
        return None


def _not_utf8(what: str, error: UnicodeDecodeError) -> str:
    return (
        f"{what} is not UTF-8 (byte 0x{error.object[error.start]:02x}); Windows programs often write cp1252, "
        "which `iconv -f CP1252 -t UTF-8` turns into UTF-8"
    )


def _unreadable(path: Path, error: Exception) -> MusictagError:
    reason = " ".join(str(error).split())
    if "straddl" in reason or "out of sync" in reason:
        reason = f"a quotation mark is opened and never closed ({reason})"
    return MusictagError(f"{path} cannot be read as {path.suffix[1:].lower()}: {reason}")
