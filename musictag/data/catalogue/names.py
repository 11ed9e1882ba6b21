"""Names of tags that people take for the same: Rock, rock and ROCK."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

DIFFER_LITTLE = "whose names differ only in case, spaces or the encoding of letters: each is learned on its own"


def name_key(name: str) -> str:
    """What names share that differ only in case, in spaces, or in how Unicode writes their letters."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join(folded.split())


def alike(names: Iterable[str]) -> list[list[str]]:
    """Those of ``names`` that are not the only ones with their ``name_key``, together with the others that have it."""
    by_key: dict[str, list[str]] = {}
    for name in names:
        by_key.setdefault(name_key(name), []).append(name)
    return [same for same in by_key.values() if len(same) > 1]


def listed_alike(names: Iterable[str]) -> list[str]:
    """One line each: names in quotes, so that spaces are seen, and unusual letters escaped where nothing else tells
    them apart."""
    lines = []
    for same in alike(names):
        shown = [unicodedata.normalize("NFC", name) for name in same]
        lines.append(", ".join(map(repr if len(set(shown)) == len(same) else ascii, same)))
    return lines
