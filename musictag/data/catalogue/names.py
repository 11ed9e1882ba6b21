"""Tag names that people consider the same: Rock, rock and ROCK."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

DIFFER_LITTLE = "whose names differ only in case, spaces or the encoding of characters: each is learned separately"


def name_key(name: str) -> str:
    """A key shared by names that differ only in case, spaces, or Unicode representation."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join(folded.split())


def alike(names: Iterable[str]) -> list[list[str]]:
    """Groups of ``names`` that share their ``name_key``."""
    by_key: dict[str, list[str]] = {}
    for name in names:
        by_key.setdefault(name_key(name), []).append(name)
    return [same for same in by_key.values() if len(same) > 1]


def listed_alike(names: Iterable[str]) -> list[str]:
    """One line per group: names in quotes, so that spaces are visible, and escaped if they would look the same."""
    lines = []
    for same in alike(names):
        shown = [unicodedata.normalize("NFC", name) for name in same]
        lines.append(", ".join(map(repr if len(set(shown)) == len(same) else ascii, same)))
    return lines
