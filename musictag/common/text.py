"""What files of strangers may hold, and how much of it: texts that can be shown, plain values, settings, JSON.

A small file can describe something endless: lists that contain themselves, a name of a gigabyte, a million layers. The
limits here lie far above what any tagger or data set needs, and far below what a computer cannot bear.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

_SHOWN = 40
_REASON_CHARACTERS = 300


def printable(text: object) -> str:
    """``text`` for a terminal: what would steer it (escape sequences, carriage returns, halves of characters) is
    written out as ``\\x1b``; lines stay lines."""
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(
        character if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cs") else _written(character)
        for character in shown
    )


def is_one_line(text: str) -> bool:
    """Whether ``text`` is something to read, without line breaks, control characters and halves of characters."""
    return bool(text.strip()) and not any(unicodedata.category(character) in ("Cc", "Cs") for character in text)


def unicode_name(name: str) -> str:
    """A file's name as text that can be encoded: bytes of it that are not UTF-8 are written out as ``\\xe9``."""
    return re.sub(r"[\ud800-\udfff]", lambda found: _written(found[0]), name)


def _written(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # what Python makes of a byte that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def excerpt(value: object) -> str:
    """The beginning of ``repr(value)``, for messages."""
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."


def reason(error: BaseException) -> str:
    """What an error of a library says, in one line of bounded length."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:_REASON_CHARACTERS].rstrip(": ")


def parse_json(text: bytes) -> Any:
    """What UTF-8 ``text`` says; raises ValueError, with the reason, where it is no JSON or nested too deeply."""
    try:
        return json.loads(text.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("its lists lie too deep in each other") from error
    except MemoryError as error:
        raise ValueError("it takes more memory than there is") from error


def as_list(value: Any) -> Any:
    """What stands where a list is expected: one word or number alone is a list of it, never its characters.

    Lists, mappings and None are returned as they are.
    """
    return [value] if isinstance(value, str | bytes | int | float) else value


def readable_size(num_bytes: float) -> str:
    """Bytes as people say them."""
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.1f} MB"
