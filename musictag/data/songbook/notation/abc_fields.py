"""The information fields of ABC notation that decide how notes sound: key, meter, unit length, tempo."""

from __future__ import annotations

import re
from functools import cache

#: Semitones of an accidental.
ALTER = {"^": 1, "^^": 2, "_": -1, "__": -2, "=": 0}

_SHARPS = ("F", "C", "G", "D", "A", "E", "B")
#: Alterations of the major scale on each tonic; Es, As and H are German names.
_FIFTHS = {"C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "B": 5, "F": -1, "Es": -3, "As": -4, "H": 5}
_MODES = {
    "": 0, "maj": 0, "ion": 0, "mix": -1, "dor": -2, "m": -3, "min": -3, "aeo": -3, "phr": -4, "loc": -5, "lyd": 1,
}  # fmt: skip


@cache
def read_key(text: str) -> dict[str, int]:
    """The alterations (in semitones) of a K: field, by upper-case letter. Raises ValueError for an unknown key."""
    text = text.strip()
    if text.lower() in ("", "none"):
        return {}
    if text[:2].upper() == "HP":  # Highland pipes: F and C sound sharp, whether written (Hp) or not (HP)
        return {"F": 1, "C": 1}
    match = re.match(r"(Es|As|H|[A-G])([#b]?)\s*([A-Za-z]*)", text)
    if not match:
        raise ValueError(f"unknown key {text!r}")
    tonic, sharp_or_flat, mode = match.groups()
    mode = "" if mode == "M" or mode in ("bass", "treble", "alto", "tenor") else mode.lower()
    mode = mode if mode == "m" else mode[:3]
    if mode not in _MODES:
        raise ValueError(f"unknown mode in key {text!r}")
    fifths = _FIFTHS[tonic] + 7 * ((sharp_or_flat == "#") - (sharp_or_flat == "b")) + _MODES[mode]
    if abs(fifths) > 7:
        raise ValueError(f"unknown key {text!r}")
    key = dict.fromkeys(_SHARPS[:fifths], 1) if fifths >= 0 else dict.fromkeys(_SHARPS[fifths:], -1)
    for accidental, letter in re.findall(r"(\^\^?|__?|=)([A-Ga-g])", text[match.end() :]):
        key[letter.upper()] = ALTER[accidental]
    return key


def read_meter(text: str) -> tuple[int, int] | None:
    """The meter of an M: field; None for free meter and for anything but a simple fraction."""
    text = text.strip()
    if text in ("C", "C|"):
        return (4, 4) if text == "C" else (2, 2)
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    return (int(match[1]), int(match[2])) if match and int(match[1]) and int(match[2]) else None


def read_tempo(text: str) -> float | None:
    """Quarter notes per minute of a Q: field. A bare number has had several meanings, and counts as unknown."""
    match = re.search(r"(\d+)/(\d+)\s*=\s*(\d+(?:\.\d+)?)", text)
    return 4.0 * int(match[1]) / int(match[2]) * float(match[3]) if match and int(match[2]) else None


def read_unit(text: str) -> float:
    """Quarter notes in the unit length of an L: field. Raises ValueError if it is not a length."""
    match = re.match(r"(\d+)\s*(?:/\s*(\d+))?", text.strip())
    if not match or not int(match[2] or 1):
        raise ValueError(f"unknown unit length {text!r}")
    return 4.0 * int(match[1]) / int(match[2] or 1)
