"""Specs of taggers as plain containers, checked before anything is built."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from musictag.common.errors import MusictagError
from musictag.common.text import _SHOWN, excerpt, is_one_line

TAG_KINDS = ("classification", "regression")
MAX_TAGS = 100_000
MAX_NAME_CHARACTERS = 1_000

#: Limits of a front-end's or back-end's spec: values in all its lists and dictionaries, and levels of nesting.
MAX_VALUES, MAX_DEPTH = 1_000, 16

#: No setting is a larger number than this; the parts themselves refuse what is too large for them.
LARGEST_SETTING = 2**24


def plain(value: Any, name: str, max_values: int = MAX_VALUES) -> Any:
    """A deep copy that consists of dictionaries with text keys, lists, text, numbers, booleans and None.

    Raises MusictagError for anything else, for more than ``max_values`` values, and for too many levels.
    """
    return _copy(value, name, [max_values], 0)


def _copy(value: Any, name: str, left: list[int], depth: int) -> Any:
    left[0] -= 1
    if left[0] < 0 or depth > MAX_DEPTH:
        raise MusictagError(
            f"{name[:_SHOWN]}: more than a tagger's description may hold "
            f"({MAX_VALUES:,} values for each of its parts, {MAX_DEPTH} levels of nesting)"
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
    """``tags`` as plain dictionaries with every kind set.

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
            raise MusictagError(
                f"{excerpt(tag)} is not a tag; it needs a name and a kind, one of {', '.join(TAG_KINDS)}"
            )
        if not is_one_line(tag["name"]):
            raise MusictagError(f"tag {excerpt(tag['name'])}: a tag name must be one line of text")
        checked.append({"name": tag["name"], "kind": tag["kind"]})
    if twice := sorted(name for name, times in Counter(tag["name"] for tag in checked).items() if times > 1):
        raise MusictagError(f"duplicate tags: {', '.join(twice[:20])}")
    return checked


def checked_part(spec: Any, name: str) -> dict[str, Any]:
    """The ``spec`` of a front-end or back-end as plain values within the limits; raises MusictagError."""
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
