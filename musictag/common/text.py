"""Text and JSON from untrusted files: made printable, and limited in size.

A small file can describe something endless: lists that contain themselves, a name of a gigabyte, a million layers. The
limits are far above what any tagger or data set needs, and far below what would exhaust a computer.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

_SHOWN = 40
_REASON_CHARACTERS = 300


def printable(text: object) -> str:
    """``text`` made safe for a terminal: characters that would control it (escape sequences, carriage returns, lone
    surrogates) are written out as ``\\x1b``; line breaks and tabs stay."""
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(
        character if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cs") else _written(character)
        for character in shown
    )


def is_one_line(text: str) -> bool:
    """Whether ``text`` is readable and free of line breaks, control characters and lone surrogates."""
    return bool(text.strip()) and not any(unicodedata.category(character) in ("Cc", "Cs") for character in text)


def unicode_name(name: str) -> str:
    """A file name as text that can be encoded: bytes that are not UTF-8 are written out as ``\\xe9``."""
    return re.sub(r"[\ud800-\udfff]", lambda found: _written(found[0]), name)


def _written(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # how Python represents a byte that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def excerpt(value: object) -> str:
    """The beginning of ``repr(value)``, for messages."""
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."


def some(names: Sequence[str], limit: int = 5) -> str:
    """The first of ``names`` and how many more there are, for messages."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more:,} more" if more > 0 else "")


def listed(lines: Sequence[str], count: int | None = None, shown: int = 20) -> str:
    """The first of ``count`` lines (None: there are no others), one per line, and how many more there are."""
    more = (len(lines) if count is None else count) - min(len(lines), shown)
    return "\n".join(f"  {line}" for line in [*lines[:shown], *([f"... and {more:,} more"] if more else [])])


def reason(error: BaseException) -> str:
    """The message of a library's error, on one line of limited length."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:_REASON_CHARACTERS].rstrip(": ")


def parse_json(text: bytes) -> Any:
    """Parse UTF-8 ``text``; raises ValueError with the reason if it is not JSON or nested too deeply."""
    try:
        return json.loads(text.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("its lists are nested too deeply") from error
    except MemoryError as error:
        raise ValueError("it needs more memory than there is") from error


def as_list(value: Any) -> Any:
    """Wrap a single string or number in a list, where a list is expected, so that it is not split into characters.

    Lists, mappings and None are returned as they are.
    """
    return [value] if isinstance(value, str | bytes | int | float) else value


def quantity(number: int, one: str, many: str = "") -> str:
    """``1 song``, ``1,200 songs``; ``many``: unless it is ``one`` with an s."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def readable_size(num_bytes: float) -> str:
    """A number of bytes in MB or GB."""
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.1f} MB"
