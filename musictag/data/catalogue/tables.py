"""Tables that people write by hand or with other programs: CSV, TSV and Parquet, and what goes wrong with them."""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from musictag.common.errors import MusictagError
from musictag.common.parquet import flat_column, open_parquet
from musictag.common.text import listed
from musictag.data.catalogue.dialect import DELIMITERS, Dialect, dialect_of
from musictag.data.manifest import UNLABELLED

#: The Million Song Dataset with all of its tags would have half a million columns; nobody trains on that many.
MAX_COLUMNS = 10_000
_SHOWN = 20
_BLOCK_BYTES = 2**20
#: How people and programs write 1 and 0; case is ignored.
ANSWERS = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0, "t": 1.0, "f": 0.0, "y": 1.0, "n": 0.0}
_CP1252 = "Windows programs often write cp1252, which `iconv -f CP1252 -t UTF-8` turns into UTF-8"
ONLY_ONES = "columns of 1 or empty cells, which mean unknown. Write 0 for songs that do not have the tag"
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")


def catalogue_command(path: Path) -> str:
    """The command that makes a catalogue of labels in another form: a folder, or a table with words."""
    folder = path if path.is_dir() else path.parent
    out = next(
        (out for out in (folder / "catalogue.csv", folder / "catalogue-tags.csv") if not out.exists()),
        folder / "catalogue-new.csv",
    )
    return f"musictag catalogue {shlex.quote(str(path))} -o {shlex.quote(str(out))}"


def column_names(path: Path) -> list[str]:
    """The names of the columns as the file spells them.

    Raises MusictagError for a file that is missing, empty, not a table, not UTF-8, or has another delimiter.
    """
    try:
        names = pq.read_schema(path).names if _check_kind(path) == ".parquet" else _dialect(path).names
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error
    if len(names) > MAX_COLUMNS:
        raise MusictagError(f"{path} has {len(names):,} columns; at most {MAX_COLUMNS:,} are read")
    return names


def _check_kind(path: Path) -> str:
    """The suffix of an existing table; raises MusictagError for anything else."""
    suffix = path.suffix.lower()
    if path.is_dir():
        raise MusictagError(
            f"{path} is a folder, not a table. This command makes a catalogue of it: {catalogue_command(path)}"
        )
    if suffix not in (*DELIMITERS, ".parquet"):
        hint = "; in Excel: Save as, CSV UTF-8" if suffix in (".xls", ".xlsx") else ""
        raise MusictagError(f"{path}: a catalogue is a .csv, .tsv or .parquet file{hint}")
    if not path.is_file():
        raise MusictagError(f"no catalogue at {path}")
    return suffix


def _dialect(path: Path) -> Dialect:
    try:
        dialect = dialect_of(path)
    except (OSError, csv.Error) as error:
        raise _unreadable(path, error) from error
    except UnicodeDecodeError as error:
        kind = path.suffix[1:].lower()
        raise MusictagError(f"{path} cannot be read as {kind}: {_not_utf8('its first row', error)}") from error
    if not dialect.names:
        raise MusictagError(f"{path} cannot be read as {path.suffix[1:].lower()}: it is empty")
    return dialect


def read_columns(path: Path, texts: Sequence[str], numbers: Sequence[str]) -> dict[str, pa.ChunkedArray]:
    """Columns by name: ``texts`` as strings, so that identifiers like 007 survive, ``numbers`` as float32.

    Empty cells are null in ``numbers`` and "" or null in ``texts``; ``as_numbers`` says what else is a number. If
    ``split`` is one of ``texts``, the tags of unlabelled songs are null, whatever their cells say. Raises MusictagError
    for a file that cannot be read, and lists the rows whose cells are not numbers.
    """
    try:
        if path.suffix.lower() == ".parquet":
            # column by column, so that a million songs with float64 tags are not in memory twice
            file = open_parquet(path)
            columns = {name: _as_text(_column(file, name)) for name in texts}
            unread = unlabelled(columns.get("split"))
            return columns | _all_numbers(path, {name: _column(file, name) for name in numbers}, unread)
        types, dialect = dict.fromkeys(texts, pa.string()), _dialect(path)
        try:
            table = _read_csv(path, dialect, types | dict.fromkeys(numbers, pa.float32()))
        except pa.ArrowInvalid:
            # a cell is not a number, or the file is damaged: the second reading finds out which
            table = _read_csv(path, dialect, types | dict.fromkeys(numbers, pa.string()))
    except (pa.ArrowException, UnicodeDecodeError, OSError, MemoryError) as error:
        raise _unreadable(path, error) from error
    columns = {name: table[name] for name in texts}
    unread = unlabelled(columns.get("split"))
    return columns | _all_numbers(path, {name: table[name] for name in numbers}, unread, dialect.decimal_comma)


def _column(file: pq.ParquetFile, name: str) -> pa.ChunkedArray:
    # in one piece, which takes a quarter less memory than the chunks of a file with a million rows
    return pa.chunked_array([flat_column(file, name).combine_chunks()])


def as_numbers(
    column: pa.ChunkedArray, answers: bool = True, decimal_comma: bool = False
) -> tuple[pa.ChunkedArray, np.ndarray]:
    """The numbers of a column (float32, null if the cell is empty or not a number), and the positions (int64) of the
    cells that hold something else.

    ``answers``: true and false, yes and no, and their initials count as 1 and 0, in any case. ``decimal_comma``: 0,5 is
    also a number.
    """
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
        distinct = [_as_number(text, answers, decimal_comma) for text in cells.dictionary.to_pylist()]
        values = pa.array(distinct, pa.float32()).take(cells.indices)
        wrong = pc.and_(pc.is_valid(cells), pc.is_null(values))
        return pa.chunked_array([values]), np.flatnonzero(wrong.to_numpy(zero_copy_only=False))


def numbers_of(
    name: str, column: pa.ChunkedArray, unread: np.ndarray | None, decimal_comma: bool = False
) -> tuple[pa.ChunkedArray, np.ndarray]:
    """``as_numbers`` of the column ``name``; ``unread`` rows (booleans; None: none) have no tags, but a duration."""
    values, others = as_numbers(column, name != "duration", decimal_comma)
    if unread is None or not unread.any() or name == "duration":
        return values, others
    return pc.if_else(pa.array(unread), pa.scalar(None, pa.float32()), values), others[~unread[others]]


def unlabelled(splits: pa.ChunkedArray | None) -> np.ndarray | None:
    """The rows with the split unlabelled, as booleans; None without ``splits``."""
    return None if splits is None else pc.fill_null(pc.equal(splits, UNLABELLED), False).to_numpy()


def emptied(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text without surrounding spaces, null for empty cells."""
    column = pc.utf8_trim_whitespace(_as_text(column))
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)


class Cells:
    """A table read so that one bad cell does not hide the others, to find everything that is wrong with it.

    ``names`` are the columns in file order; ``row_numbers`` (int64) gives the file's row number of each table row, the
    first below the header being 1: rows with too many or too few cells are omitted and listed in ``ragged`` as (row,
    number of cells). ``decimal_comma``: whether 0,5 is a number. ``file`` is the open file if it is Parquet, and
    ``types`` are those of its columns. Raises MusictagError if the file cannot be read at all.
    """

    def __init__(self, path: Path) -> None:
        self.names = column_names(path)
        self._path = path
        self.decimal_comma = False
        self.ragged: list[tuple[int, int]] = []
        try:
            if path.suffix.lower() == ".parquet":
                self.file: pq.ParquetFile | None = open_parquet(path)
                self.types = self.file.schema_arrow.types  # asked for once, as pyarrow makes the schema anew each time
                self.num_rows = self.file.metadata.num_rows
            else:
                self.file = None
                dialect = _dialect(path)
                self.decimal_comma = dialect.decimal_comma
                self._table = _read_csv(path, dialect, dict.fromkeys(self.names, pa.binary()), self.ragged)
                self.num_rows = self._table.num_rows
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(path, error) from error
        everything = np.arange(1, self.num_rows + len(self.ragged) + 1)
        self.row_numbers = np.setdiff1d(everything, [row for row, _ in self.ragged])

    def column(self, position: int) -> pa.ChunkedArray:
        """One column: bytes from a CSV, whatever its type from Parquet."""
        if self.file is None:
            return self._table.column(position)
        name = self.names[position]
        same = [i for i, other in enumerate(self.names) if other == name]
        try:
            return flat_column(self.file, name, same.index(position))
        except (pa.ArrowException, OSError, MemoryError) as error:
            raise _unreadable(self._path, error) from error

    def text(self, position: int) -> tuple[pa.ChunkedArray, list[tuple[int, str]]]:
        """A column as text, and the positions of cells that are not UTF-8 (empty in the text), each with the reason."""
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


def _read_csv(
    path: Path, dialect: Dialect, types: dict[str, pa.DataType], ragged: list[tuple[int, int]] | None = None
) -> pa.Table:
    def on_ragged(row: pacsv.InvalidRow) -> str:
        if ragged is None:
            return "error"
        ragged.append((row.number - 1 - dialect.skipped, row.actual_columns))
        return "skip"

    return pacsv.read_csv(
        path,
        read_options=pacsv.ReadOptions(
            use_threads=ragged is None,  # row numbers are known only if rows are read one after the other
            skip_rows=dialect.skipped,
            block_size=max(_BLOCK_BYTES, dialect.header_bytes),  # the first block must hold the whole first row
        ),
        parse_options=pacsv.ParseOptions(
            delimiter=dialect.delimiter, newlines_in_values=True, invalid_row_handler=on_ragged
        ),
        convert_options=pacsv.ConvertOptions(
            column_types=types, null_values=[""], include_columns=None if ragged is not None else list(types)
        ),
    )


def _all_numbers(
    path: Path, columns: dict[str, pa.ChunkedArray], unread: np.ndarray | None, decimal_comma: bool = False
) -> dict[str, pa.ChunkedArray]:
    numbers, wrong = {}, {}
    for name, column in columns.items():
        numbers[name], rows = numbers_of(name, column, unread, decimal_comma)
        if len(rows):
            wrong[name] = rows
    # titles, albums, genres as words: not a tag with a typo
    if words := [name for name in wrong if numbers[name].null_count == len(numbers[name])]:
        others = ",".join(name for name in columns if name not in wrong and name != "duration") or "..."
        raise MusictagError(
            f"{path}: column{'s' if len(words) > 1 else ''} {', '.join(words)}: not numbers, so not tags. If the words "
            f"are tags (rock, or rock;pop), this command makes a column for each: {catalogue_command(path)}\n"
            f"Otherwise choose the tags with data.tags=[{others}]; a column of artists or works must be named group"
        )
    if wrong:
        lines = [
            f"row {row + 1}: {name} {columns[name][row.item()].as_py()!r}"
            for name, rows in wrong.items()
            for row in rows[:_SHOWN]
        ]
        hint = "; write decimals with a point: 0.5" if any(_DECIMAL_COMMA.search(line) for line in lines) else ""
        raise MusictagError(
            f"{path}: tag and duration columns must hold numbers (a tag: 0 or 1, no or yes, false or true, a value in "
            f"between, or nothing if unknown{hint}):\n{listed(lines, sum(map(len, wrong.values())))}"
        )
    return numbers


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.string())


def _as_number(text: str | None, answers: bool, decimal_comma: bool) -> float | None:
    if answers and text is not None and text.casefold() in ANSWERS:
        return ANSWERS[text.casefold()]
    if decimal_comma and text is not None and _DECIMAL_COMMA.fullmatch(text):
        text = text.replace(",", ".")
    try:
        return None if text is None else pa.scalar(text).cast(pa.float32()).as_py()
    except pa.ArrowInvalid:
        return None


def _not_utf8(what: str, error: UnicodeDecodeError) -> str:
    return f"{what} is not UTF-8 (byte 0x{error.object[error.start]:02x}); {_CP1252}"


def _unreadable(path: Path, error: Exception) -> MusictagError:
    reason = " ".join(str(error).split())
    if "straddl" in reason or "out of sync" in reason:
        reason = f"a quotation mark is never closed ({reason})"
    if "UTF8" in reason:
        reason += f". {_CP1252}; `musictag data check {shlex.quote(str(path))}` names the rows"
    if "holds lists" in reason:
        reason += f". If they are lists of tags, this command makes a column for each: {catalogue_command(path)}"
    return MusictagError(f"{path} cannot be read as {path.suffix[1:].lower()}: {reason}")
