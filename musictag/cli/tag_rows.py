"""What `musictag tag` prints, song by song."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Protocol

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from musictag.common.streams import is_utf8
from musictag.common.text import printable, unicode_name

_GAP = 2  # spaces between columns


class Rows(Protocol):
    """``row``: the text for a song and its chosen tags, highest score first; ``end``: what follows all songs."""

    def row(self, path: str, scores: Mapping[str, float]) -> str: ...

    def end(self) -> str: ...


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

    def __init__(self, tags: Sequence[dict[str, str]], paths: Sequence[str], top: int | None) -> None:
        self._kinds = {tag["name"]: tag["kind"] for tag in tags}
        self._top = top
        self._console = Console()
        of_kind = {
            kind: [name for name in self._kinds if self._kinds[name] == kind] for kind in set(self._kinds.values())
        }
        self._columns = {
            heading: max(cell_len(name) for name in of_kind[kind]) + len("0.00  ")
            for heading, kind in (("tags", "classification"), ("measures", "regression"))
            if kind in of_kind
        }
        room = self._console.width - sum(self._columns.values()) - _GAP * len(self._columns)
        widest = max((cell_len(printable(path)) for path in paths), default=0)
        self._columns = {"file": max(len("file"), min(widest, max(room, self._console.width // 3)))} | self._columns
        self._is_first = True

    def row(self, path: str, scores: Mapping[str, float]) -> str:
        classes = [name for name in scores if self._kinds[name] == "classification"][: self._top]
        measures = [name for name in self._kinds if self._kinds[name] == "regression" and name in scores]
        cells = {
            "file": escape(printable(path)),
            "tags": "\n".join(f"{scores[name]:.2f}  {escape(name)}" for name in classes),
            "measures": "\n".join(f"{scores[name]:.2f}  {escape(name)}" for name in measures),
        }
        table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, show_header=self._is_first)
        for heading, width in self._columns.items():
            table.add_column(heading, width=width, overflow="fold")
        table.add_row(*(cells[heading] for heading in self._columns))
        with self._console.capture() as captured:
            self._console.print(table)
            self._console.print()
        self._is_first = False
        return captured.get()

    def end(self) -> str:
        return ""
