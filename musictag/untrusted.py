"""What files of strangers may hold, and how much of it: texts that can be shown, plain values, settings, JSON.

A small file can describe something endless: lists that contain themselves, a name of a gigabyte, a million layers. The
limits here lie far above what any tagger or data set needs, and far below what a computer cannot bear.
"""

from __future__ import annotations

import json
import math
import os
import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

from musictag.errors import MusictagError

TAG_KINDS = ("classification", "regression")
MAX_TAGS = 100_000
MAX_NAME_CHARACTERS = 1_000
#: Of a front-end or a back-end: values in all its lists and dictionaries, and how deep they lie in each other.
MAX_VALUES, MAX_DEPTH = 1_000, 16
#: No setting is a larger number than this; parts themselves refuse what would be too much for them.
LARGEST_SETTING = 2**24
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


def plain(value: Any, name: str, max_values: int = MAX_VALUES) -> Any:
    """A deep copy of dictionaries with text keys, lists, text, numbers, truth values and None.

    Raises MusictagError for anything else, and for more than ``max_values`` values or too many levels of them.
    """
    return _copy(value, name, [max_values], 0)


def _copy(value: Any, name: str, left: list[int], depth: int) -> Any:
    left[0] -= 1
    if left[0] < 0 or depth > MAX_DEPTH:
        raise MusictagError(
            f"{name[:_SHOWN]}: more than a tagger can be described by "
            f"({MAX_VALUES:,} values for each of its parts, {MAX_DEPTH} levels of lists in lists)"
        )
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {
            _short(key, name): _copy(item, f"{name}.{key[:_SHOWN]}", left, depth + 1) for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_copy(item, f"{name}[{i}]", left, depth + 1) for i, item in enumerate(value)]
    if type(value) is str:
        return _short(value, name)
    if value is None or type(value) in (int, float, bool):
        return value
    raise MusictagError(
        f"{name} is a {type(value).__name__}; a tagger is described by dictionaries, lists, strings and numbers only"
    )


def _short(text: str, name: str) -> str:
    if len(text) > MAX_NAME_CHARACTERS:
        raise MusictagError(f"{name[:_SHOWN]}: a text of {len(text):,} characters; at most {MAX_NAME_CHARACTERS:,}")
    return text


def checked_tags(tags: Any) -> list[dict[str, str]]:
    """``tags`` as plain dictionaries with every kind filled in.

    Raises MusictagError for anything but distinct names, each one line of text, of known kinds.
    """
    tags = list(tags) if isinstance(tags, tuple) else tags
    if isinstance(tags, list) and len(tags) > MAX_TAGS:
        raise MusictagError(f"{len(tags):,} tags; a tagger has at most {MAX_TAGS:,}")
    tags = plain(tags, "tags", max_values=4 * MAX_TAGS)
    if not isinstance(tags, list) or not tags:
        raise MusictagError("a tagger needs at least one tag: a list of dictionaries with name and kind")
    checked = []
    for tag in tags:
        tag = {"kind": "classification"} | tag if isinstance(tag, dict) else {}
        if set(tag) != {"name", "kind"} or not isinstance(tag["name"], str) or tag["kind"] not in TAG_KINDS:
            raise MusictagError(f"{excerpt(tag)} is no tag; it needs a name and a kind, one of {', '.join(TAG_KINDS)}")
        if not is_one_line(tag["name"]):
            raise MusictagError(f"tag {excerpt(tag['name'])}: a tag's name is one line of text")
        checked.append({"name": tag["name"], "kind": tag["kind"]})
    if twice := sorted(name for name, times in Counter(tag["name"] for tag in checked).items() if times > 1):
        raise MusictagError(f"tags that stand there twice: {', '.join(twice[:20])}")
    return checked


def checked_part(spec: Any, name: str) -> dict[str, Any]:
    """The ``spec`` of a front-end or a back-end as plain values within the limits; raises MusictagError."""
    spec = plain(spec, name)
    if not isinstance(spec, dict):
        raise MusictagError(f"{name} is a {type(spec).__name__}; it must be a dictionary with _target_ and settings")
    _check_numbers(spec, name)
    return spec


def _check_numbers(value: Any, name: str) -> None:
    if isinstance(value, dict):
        for inner, item in value.items():
            _check_numbers(item, f"{name}.{inner}")
    elif isinstance(value, list):
        for item in value:
            _check_numbers(item, name)
    elif isinstance(value, int | float) and not (math.isfinite(value) and abs(value) <= LARGEST_SETTING):
        raise MusictagError(f"{name} holds {excerpt(value)}; no such setting is larger than {LARGEST_SETTING:,}")


def read_json(path: Path, max_bytes: int) -> Any:
    """The content of a JSON file of at most ``max_bytes``.

    Raises OSError where it cannot be read, and ValueError with the reason where it is no JSON, too long or too deep.
    """
    if os.path.getsize(path) > max_bytes:
        raise ValueError(f"it is longer than {max_bytes:,} bytes")
    try:
        return json.loads(path.read_bytes().decode("utf-8"))
    except RecursionError as error:
        raise ValueError("its lists lie too deep in each other") from error
    except MemoryError as error:
        raise ValueError("it takes more memory than there is") from error
