"""How a text table is written: its encoding, its delimiter, and its first row."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from musictag.common.errors import MusictagError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
MAX_HEADER_CHARACTERS = 2**24
_OTHERS = (";", "\t", ",", "|")
#: The line in which Excel names the delimiter, above the first row.
_SEPARATOR_LINE = re.compile(r'"?sep=(?P<mark>[^\w"\s]|\t)(?P=mark)*"?[\r\n]*', re.IGNORECASE)
_OTHER_ENCODINGS = {
    codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16",
}  # fmt: skip


@dataclass(frozen=True)
class Dialect:
    """``names``: the first row. ``delimiter``: one character. ``skipped``: lines above the first row (0 or 1)."""

    names: list[str]
    delimiter: str
    skipped: int

    @property
    def decimal_comma(self) -> bool:
        """Whether 0,5 can be a number: only where commas do not separate cells."""
        return self.delimiter != ","

    @property
    def header_bytes(self) -> int:
        """The longest that the first row can be in the file, where a quotation mark is written twice."""
        return sum(2 * len(name.encode("utf-8", "surrogateescape")) + 3 for name in self.names)


def dialect_of(path: Path) -> Dialect:
    """The dialect of a .csv (commas) or .tsv (tabs), unless a line ``sep=;`` says otherwise or the first row only makes
    sense with another delimiter: in much of Europe, Excel writes semicolons.

    Raises MusictagError for text that is not UTF-8 and for an endless first row; OSError and csv.Error pass through.
    """
    with open(path, "rb") as binary:
        beginning = binary.read(4)
    for mark, encoding in _OTHER_ENCODINGS.items():
        if beginning.startswith(mark):
            raise MusictagError(
                f"{path} is {encoding} text, but a catalogue is UTF-8. "
                f"Run: iconv -f {encoding} -t UTF-8 {path.name} > utf8-{path.name}"
            )
    default = DELIMITERS[path.suffix.lower()]
    # bad bytes in later rows are reported by whoever reads them
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        said = _SEPARATOR_LINE.fullmatch(file.readline(100))
        start = file.tell() if said else 0
        choices = (said["mark"],) if said else (default, *(mark for mark in _OTHERS if mark != default))
        best: Dialect | None = None
        for delimiter in choices:
            file.seek(start)
            # blank lines above the first row are skipped, as pyarrow skips them
            names = next(filter(None, csv.reader(_lines(path, file), delimiter=delimiter)), [])
            best = _better(best, Dialect(names, delimiter, 1 if said else 0))
            if _is_right(best):
                break
    assert best is not None
    for name in best.names:
        name.encode("utf-8", "surrogateescape").decode()
    return best


def _is_right(dialect: Dialect) -> bool:
    return len(dialect.names) > 1 and "path" in [name.strip() for name in dialect.names]


def _better(first: Dialect | None, second: Dialect) -> Dialect:
    if first is None or (_is_right(second) and not _is_right(first)):
        return second
    # without a path column and with commas in its cells, the delimiter with most cells would be wrong half of the time
    return second if len(first.names) == 1 < len(second.names) else first


def _lines(path: Path, file: TextIO) -> Iterator[str]:
    """Lines, up to the length that a first row may have: a "line" may be gigabytes long."""
    left = MAX_HEADER_CHARACTERS
    while line := file.readline(left):
        left -= len(line)
        if not left:
            raise MusictagError(f"{path}: the first row has more than {MAX_HEADER_CHARACTERS:,} characters")
        yield line
