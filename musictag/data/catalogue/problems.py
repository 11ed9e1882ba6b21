"""Collects and formats the problems of a catalogue."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from musictag.common.text import listed, quantity
from musictag.data.catalogue.tables import Cells, numbers_of

_SHOWN = 20


# UTF-8 text wrongly decoded as cp1252 contains one of these, as do a few correct words
_DOUBTFUL = "[\N{REPLACEMENT CHARACTER}ÂÃâ]"


@dataclass
class Report:
    """Kinds of problems found, each with the first lines of its list and its total number."""

    path: Path
    songs: int = 0
    errors: list[tuple[str, list[str], int]] = field(default_factory=list)
    warnings: list[tuple[str, list[str], int]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def error(self, what: str, lines: Sequence[str] = (), count: int | None = None) -> None:
        """Add an error; ``lines`` may be the first of ``count``, and 0 adds nothing."""
        self.errors.append((what, list(lines[:_SHOWN]), len(lines) if count is None else count))

    def warning(self, what: str, lines: Sequence[str] = (), count: int | None = None) -> None:
        self.warnings.append((what, list(lines[:_SHOWN]), len(lines) if count is None else count))

    def __str__(self) -> str:
        parts = [f"{self.path}: {self.songs:,} songs; the first song is row 1"]
        for level, findings in (("error", self.errors), ("warning", self.warnings)):
            for what, lines, count in findings:
                number = f" ({count:,})" if count else ""
                parts.append(f"\n{level}: {what}{number}" + (f"\n{listed(lines, count)}" if lines else ""))
        parts += ["", *self.notes] if self.notes else [""]
        counts = [quantity(len(self.errors), "kind of error", "kinds of errors")] if self.errors else ["no errors"]
        if self.warnings:
            counts.append(quantity(len(self.warnings), "kind of warning", "kinds of warnings"))
        parts.append(", ".join(counts))
        return "\n".join(parts)


class Rows:
    """The columns of a table by name, and its cells as lines of the report. ``unread``: rows whose tags do not count
    (booleans; None: none)."""

    def __init__(self, report: Report, cells: Cells, places: dict[str, int]) -> None:
        self._report = report
        self._cells = cells
        self._places = places
        self.unread: np.ndarray | None = None

    def text(self, column: str, needed: bool = False) -> pa.ChunkedArray | None:
        """A column as text, or None. Reports cells that are not UTF-8 or were damaged by a conversion, and empty cells
        if text is ``needed``."""
        if column not in self._places:
            return None
        text, wrong = self._cells.text(self._places[column])
        lines = [f"{self._row(at)}: {column} {why}" for at, why in wrong]
        if wrong:
            self._report.error(f"text in column {column} that is not UTF-8", lines)
        doubtful = np.flatnonzero(pc.fill_null(pc.match_substring_regex(text, _DOUBTFUL), False).to_numpy())
        damaged = [at for at in doubtful.tolist() if _is_damaged(text[at].as_py())]
        if damaged:
            self._report.warning(f"text in column {column} damaged by a conversion", self.lines(text, damaged))
        if needed:
            empty = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(text), ""), True).to_numpy()
            empty[[at for at, _ in wrong]] = False
            if empty.any():
                at = np.flatnonzero(empty)
                self._report.error(f"empty cells in column {column}", [self._row(i) for i in at[:_SHOWN]], len(at))
        return text

    def numbers(self, column: str) -> tuple[pa.ChunkedArray, np.ndarray, pa.ChunkedArray]:
        """A column's numbers, the positions of cells that are not numbers, and the cells themselves."""
        text, wrong = self._cells.column(self._places[column]), []
        if pa.types.is_binary(text.type):
            text, wrong = self._cells.text(self._places[column])
        values, others = numbers_of(column, text, self.unread, self._cells.decimal_comma)
        return values, np.union1d(others, np.array([at for at, _ in wrong], dtype=np.int64)), text

    def lines(self, cells: pa.ChunkedArray, positions: Sequence[int] | np.ndarray, name: str = "") -> list[str]:
        """The first cells at ``positions``, each with its row number."""
        shown = np.asarray(positions[:_SHOWN], dtype=np.int64)
        values = cells.take(pa.array(shown)).to_pylist()
        return [
            f"{self._row(at)}: {f'{name} ' if name else ''}{value!r}" for at, value in zip(shown, values, strict=True)
        ]

    def number(self, at: int) -> int:
        """The row number, in the file, of the table's row ``at``."""
        return int(self._cells.row_numbers[at])

    def _row(self, at: int) -> str:
        return f"row {self.number(at):,}".replace(",", "")


def _is_damaged(text: str) -> bool:
    if "\N{REPLACEMENT CHARACTER}" in text:
        return True
    try:
        return bool(re.search("[ÂÃâ]", text)) and text.encode("cp1252").decode() != text
    except UnicodeError:
        return False
