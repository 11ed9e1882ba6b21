"""What `musictag tag` prints, or writes into files, song by song.

Each kind has ``row``, the text for a song and its chosen tags, highest score first, and ``end``, that after all songs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from musictag.common.errors import SongError
from musictag.common.streams import is_utf8
from musictag.common.text import printable, unicode_name
from musictag.library.writing import KEEP, Journal, planned, write

_GAP = 2  # spaces between columns
_HEADINGS = {"classification": "tags", "regression": "measures"}


class JsonRows:
    """One JSON object, written song by song."""

    def __init__(self) -> None:
        self._before = "{\n"

    def row(self, path: str, scores: Mapping[str, float]) -> str:
        text = json.dumps({unicode_name(path): scores}, indent=2, ensure_ascii=not is_utf8())
        before, self._before = self._before, ",\n"
        return before + text.removeprefix("{\n").removesuffix("\n}")

    def end(self) -> str:
        return "{}\n" if self._before == "{\n" else "\n}\n"


class TableRows:
    """A table whose rows can be printed before the next song is known: the column widths are fixed from the start."""

    def __init__(self, kinds: Mapping[str, str], paths: Sequence[str], top: int | None) -> None:
        self._kinds, self._top, self._console, self._is_first = kinds, top, Console(), True
        of_tags = {
            kind: max(cell_len(name) for name in kinds if kinds[name] == kind) + len("0.00  ")
            for kind in _HEADINGS
            if kind in kinds.values()
        }
        room = self._console.width - sum(of_tags.values()) - _GAP * len(of_tags)
        widest = max((cell_len(printable(path)) for path in paths), default=0)
        self._widths = {"file": max(len("file"), min(widest, max(room, self._console.width // 3)))} | of_tags

    def row(self, path: str, scores: Mapping[str, float]) -> str:
        table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, show_header=self._is_first)
        cells = []
        for kind, width in self._widths.items():
            table.add_column(_HEADINGS.get(kind, kind), width=width, overflow="fold")
            names = [name for name in scores if self._kinds[name] == kind]
            # measures have an order of their own
            names = names[: self._top] if kind == "classification" else sorted(names, key=[*self._kinds].index)
            cells.append("\n".join(f"{scores[name]:.2f}  {escape(name)}" for name in names))
        table.add_row(escape(printable(path)), *cells[1:])
        with self._console.capture() as captured:
            self._console.print(table)
            self._console.print()
        self._is_first = False
        return re.sub(" +\n", "\n", captured.get())

    def end(self) -> str:
        return ""


class Changes:
    """Tags that are written into ``field`` of the songs; ``existing`` is what happens to an entry that is there.

    Without a ``journal`` nothing is written. ``fail`` is called with a path and why it cannot be changed.
    """

    def __init__(
        self, field: str, existing: str, journal: Journal | None, keep_times: bool, fail: Callable[[str, str], None]
    ) -> None:
        self._field, self._existing, self._journal = field, existing, journal
        self._keep_times, self._fail, self._kept = keep_times, fail, 0

    def row(self, path: str, scores: Mapping[str, float]) -> str:
        try:
            change = planned(path, self._field, list(scores), self._existing)
            if change.before == change.after:
                self._kept += bool(change.before and scores)
            elif self._journal is not None:
                write(change, self._journal, self._keep_times)
        except SongError as error:
            self._fail(path, str(error))
            return ""
        return printable(f"{change}\n")

    def end(self) -> str:
        said = ""
        if self._kept and self._existing == KEEP:
            said = f"files that have a {self._field} already: {self._kept:,}; see --merge and --replace\n"
        if self._journal is None:
            return f"{said}nothing was changed: this was a dry run\n"
        if self._journal.changes:
            said += f"files changed: {self._journal.changes:,}; to take that back: musictag undo {self._journal.path}\n"
        return said
