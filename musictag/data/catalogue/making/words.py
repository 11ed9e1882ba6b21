"""Cells with one tag or several: what separates them, and which spellings are the same tag."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable

from musictag.data.catalogue.names import name_key

_CERTAIN = (";", "|")
_POSSIBLE = (",", "/")
_NOTHING = frozenset(("", "nan", "none", "null", "n/a", "na", "<na>", "-", "?", "unknown"))
# 'rock' or "drum 'n' bass", as Python, pandas, NumPy and JSON write them
_QUOTED = re.compile(r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)\"""", re.DOTALL)
_BRACKETS = {"[": "]", "(": ")", "{": "}"}


def find_separator(cells: Iterable[str]) -> str | None:
    """What separates the tags within a cell; None if each cell is one tag.

    Semicolons and bars always separate. Commas and slashes also occur within names (Folk, World, & Country;
    Hip-Hop/Rap): they separate if the parts occur elsewhere, in at least half of the cells that have them.
    """
    distinct = {cell for cell in cells if as_list(cell) is None}
    for mark in _CERTAIN:
        if any(mark in cell for cell in distinct):
            return mark
    for mark in _POSSIBLE:
        cells_with_part = Counter(part for cell in distinct for part in _keys(cell, mark))
        marked = [cell for cell in distinct if mark in cell]
        apart = sum(any(cells_with_part[part] > 1 for part in _keys(cell, mark)) for cell in marked)
        if marked and 2 * apart >= len(marked):
            return mark
    return None


def _keys(cell: str, mark: str) -> set[str]:
    parts = [name_key(part) for part in cell.split(mark)]
    # no part of "Folk, World, & Country" is a tag
    return set() if any(part.startswith(("& ", "and ")) for part in parts) else {part for part in parts if part}


def possible_separator(cells: Iterable[str]) -> str | None:
    """A character that might separate tags, in a cell that is read as one tag."""
    seen = "".join({mark for cell in cells for mark in (*_CERTAIN, *_POSSIBLE) if mark in cell})
    return seen[:1] or None


def tags_in(cell: str, separator: str | None) -> list[str]:
    """The tags that a cell names, tidied; none if it says nothing."""
    parts = as_list(cell)
    if parts is None:
        split = separator and not any(part.strip().startswith("& ") for part in cell.split(separator))
        parts = cell.split(separator) if split else [cell]
    return known_tags(parts)


def known_tags(parts: Iterable[str]) -> list[str]:
    """``parts`` tidied, without those that say nothing (nan, none, unknown, ...)."""
    tidied = dict.fromkeys(map(tidy, parts))
    return [tag for tag in tidied if tag.casefold() not in _NOTHING]


def tidy(name: str) -> str:
    """A name on one line: composed characters, single spaces, and escapes for what cannot be encoded."""
    visible = "".join(" " if unicodedata.category(mark) == "Cc" else mark for mark in name)
    return unicodedata.normalize("NFC", " ".join(visible.split())).encode("utf-8", "backslashreplace").decode()


def as_list(cell: str) -> list[str] | None:
    """The items of a list written as text (['rock', 'pop']); None for other cells."""
    cell = cell.strip()
    if len(cell) < 2 or _BRACKETS.get(cell[0]) != cell[-1] or (cell[0] == "(" and not _QUOTED.search(cell)):
        return None
    try:
        items = json.loads(cell)
        if isinstance(items, list) and all(isinstance(item, str | int | float | None) for item in items):
            return ["" if item is None else str(item) for item in items]
    except (ValueError, RecursionError):
        pass
    inner = cell[1:-1]
    quoted = _QUOTED.findall(inner)
    if quoted and not _QUOTED.sub("", inner).strip(", \t\r\n"):
        return [re.sub(r"\\(.)", r"\1", one or other) for one, other in quoted]
    return inner.split(",")


def merged_spellings(counts: Counter[str]) -> dict[str, str]:
    """Map every spelling to the most frequent of those that differ only in case and spaces."""
    rarest_first = sorted(counts, key=lambda name: (counts[name], name))
    best = {name_key(name): name for name in rarest_first}  # of equal keys, the last stays
    return {name: best[name_key(name)] for name in counts}


def free_names(names: Collection[str], taken: Collection[str]) -> dict[str, str]:
    """Map each of ``names`` to a column name: itself unless it is ``taken`` (path, split, ...)."""
    free, used = {}, {name_key(name) for name in taken} | {name_key(name) for name in names}
    reserved = {name_key(name) for name in taken}
    for name in names:
        other, number = name, 1
        while name_key(other) in (reserved if other == name else used):
            other = f"{name} (tag)" if number == 1 else f"{name} (tag {number})"
            number += 1
        used.add(name_key(other))
        free[name] = other
    return free
