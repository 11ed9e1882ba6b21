"""A table that is printed, and written as CSV and Markdown, while its rows are measured."""

from __future__ import annotations

import csv
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable


class Table:
    """Rows of ``columns``, each printed at once, and all of them as a table at the end.

    With ``folder`` they are also written to NAME.csv and NAME.md, of which nothing is lost if the process is killed.
    """

    def __init__(self, name: str, columns: tuple[str, ...], caption: str, folder: Path | None = None) -> None:
        self._table = RichTable(*columns, title=name, title_justify="left", caption=caption, caption_justify="left")
        self._files: list[Any] = []
        self._columns, self._notes = len(columns), [caption]
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._files = [(folder / f"{name}.{suffix}").open("w", encoding="utf-8") for suffix in ("csv", "md")]
        self._write(list(columns))
        if self._files:
            self._files[1].write("|" + " --- |" * len(columns) + "\n")

    def row(self, *values: Any) -> None:
        """The values of the columns; the last ones may be missing."""
        texts = [_text(value) for value in values] + [""] * (self._columns - len(values))
        print("  ".join(text for text in texts if text), flush=True)
        self._table.add_row(*texts)
        self._write(texts)

    def note(self, text: str) -> None:
        """A sentence below the table."""
        self._notes.append(text)
        print(text, flush=True)

    def _write(self, texts: list[str]) -> None:
        if self._files:
            csv.writer(self._files[0]).writerow(texts)
            self._files[1].write(f"| {' | '.join(text.replace('|', '/') for text in texts)} |\n")
            for file in self._files:
                file.flush()

    def __enter__(self) -> Table:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._files:
            self._files[1].write("".join(f"\n{note}\n" for note in self._notes))
            for file in self._files:
                file.close()
        Console(width=200).print(self._table)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def in_short(error: Exception) -> str:
    """Kind and first line of an error, for a cell."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"[:200]
