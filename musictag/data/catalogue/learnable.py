"""Which tags of a data set are used: those requested, unless its training songs cannot teach them.

This is decided from the manifest, before anything is decoded. Legend: S songs, K tags.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from musictag.common.errors import MusictagError
from musictag.common.progress import tell
from musictag.common.text import as_list, quantity, some
from musictag.data.catalogue.tables import ONLY_ONES
from musictag.data.manifest import Manifest, Tag

_SHOWN = 50
_GUESSES = 3


def chosen_tags(tags: object) -> Any:
    """``data.tags`` with names as text, as in the table: 1990 is a name, too, and a single name becomes a list."""
    if isinstance(tags, Mapping):
        return {str(tag): kind for tag, kind in tags.items()}
    return [str(tag) for tag in as_list(tags)] if tags not in (None, "") else None


class TagChoice:
    """``tags`` are the requested tags, in this order, as names or as a mapping to their kinds; None: all.

    ``min_songs``: a tag is used only if that many training songs have it and as many do not (a regression tag: that
    many with a known value). 0 keeps every tag, even one that cannot be learned.

    Raises MusictagError for a negative ``min_songs``.
    """

    def __init__(self, tags: str | Sequence[str] | Mapping[str, str | None] | None = None, min_songs: int = 1) -> None:
        if min_songs < 0:
            raise MusictagError(
                f"data.min_songs_per_tag={min_songs}: give the smallest number of training songs with and without a "
                "tag for the tag to be used, or 0 to keep every tag"
            )
        wanted = chosen_tags(tags)
        self._wanted = list(wanted) if wanted else None
        self._kinds = wanted if isinstance(wanted, Mapping) else {}
        self._min_songs = min_songs

    def learnable(self, manifest: Manifest) -> Manifest:
        """The manifest with those of its tags that its training songs can teach; omitted tags are reported on standard
        error. Without training songs all are kept.

        Raises MusictagError if a tag requested by name is omitted, and if no tag is left.
        """
        train = manifest.split("train")
        if not self._min_songs or not len(train):
            return manifest
        lacking = lacking_tags(train, self._min_songs)
        if not lacking:
            return manifest
        listed, least = listed_tags(lacking), self._min_songs
        why = "cannot be learned from" if least == 1 else f"have fewer than {least} songs with or without them among"
        why += f" the {len(train):,} training songs of {manifest.name}"
        ones = any(only_ones(tag, train.values(tag.name)) for tag in train.tags if tag.name in lacking)
        hint = f". Among them are {ONLY_ONES}" if ones else ""
        if self._wanted is not None:
            raise MusictagError(
                f"data.tags asks for tags that {why}: {listed}. Remove them from data.tags, or keep them "
                f"regardless with data.min_songs_per_tag=0{hint}"
            )
        kept = [tag for tag in manifest.tags if tag.name not in lacking]
        if not kept:
            raise MusictagError(
                f"no tag is left: all {len(lacking)} {why}: {listed}. "
                + ("A tag needs songs with it and songs without it" if least == 1 else "Use data.min_songs_per_tag=1")
                + hint
            )
        tell(
            f"{len(lacking)} of {len(manifest.tags)} tags are left out because they {why}: {listed}. "
            f"data.min_songs_per_tag=0 keeps all {len(manifest.tags)} regardless; data.tags=[...] chooses some{hint}"
        )
        return manifest.with_tags(kept)

    def wanted(self, manifest: Manifest) -> Manifest:
        """The manifest with the requested tags only. Raises MusictagError for tags that are unknown, repeated or of
        another kind."""
        if self._wanted is None:
            return manifest
        by_name = {tag.name: tag for tag in manifest.tags}
        if unknown := [name for name in self._wanted if name not in by_name]:
            raise MusictagError(_unknown(unknown, list(by_name), manifest.name))
        if twice := sorted({name for name in self._wanted if self._wanted.count(name) > 1}):
            raise MusictagError(f"data.tags names a tag twice: {', '.join(twice)}")
        for name, kind in self._kinds.items():
            if kind not in (None, by_name[name].kind):
                raise MusictagError(
                    f"data.tags: {name} is a {by_name[name].kind} tag in {manifest.name}, and cannot be {kind!r}"
                )
        chosen = [by_name[name] for name in self._wanted]
        return manifest if tuple(chosen) == manifest.tags else manifest.with_tags(chosen)


def lacking_tags(songs: Manifest, min_songs: int = 1) -> dict[str, str]:
    """Tags with fewer than ``min_songs`` examples of one of their values among ``songs``, with that number, rarest
    first. A tag with a single example can be learned, if badly, and scored."""
    lacking = []
    for tag in songs.tags:
        counts = examples(tag, songs.values(tag.name))
        what = min(counts, key=lambda name: counts[name])
        if (number := counts[what]) < min_songs:
            lacking.append((number, tag.name, quantity(number, what) if number else f"no {what}"))
    return {name: why for _, name, why in sorted(lacking, key=lambda entry: entry[0])}


def only_ones(tag: Tag, values: np.ndarray) -> bool:
    """Whether ``tag`` is known or unknown for each song, but never known to be absent."""
    positive, *negative = examples(tag, values).values()
    return negative == [0] and 0 < positive < len(values)


def examples(tag: Tag, values: np.ndarray) -> dict[str, int]:
    """What ``tag`` can be learned and scored from, and how many songs: positive and negative ones, or, of a regression
    tag, those with a known value."""
    if tag.kind == "regression":
        return {"known value": int(np.count_nonzero(~np.isnan(values)))}
    return {
        f"{name} song": int(np.count_nonzero(values == value)) for value, name in ((1, "positive"), (0, "negative"))
    }


def listed_tags(tags: Mapping[str, str]) -> str:
    """``rock, pop (no positive song); jazz (no negative song)``, the first of them."""
    more = len(tags) - _SHOWN
    by_reason: dict[str, list[str]] = {}
    for tag, why in list(tags.items())[:_SHOWN]:
        by_reason.setdefault(why, []).append(tag)
    shown = "; ".join(f"{', '.join(names)} ({why})" for why, names in by_reason.items())
    return f"{shown} and {more} more" if more > 0 else shown


def _unknown(unknown: Sequence[str], names: Sequence[str], data: str) -> str:
    alike = {name.casefold(): name for name in names}
    meant: dict[str, None] = {}
    for word in map(str.casefold, map(str, unknown)):
        found = [key for key in alike if word in key] or difflib.get_close_matches(word, alike)
        meant |= dict.fromkeys(alike[key] for key in found[:_GUESSES])
    guess = f"; did you mean {' or '.join(meant)}?" if meant else "."
    absent = ", ".join(map(str, unknown))
    return f"data.tags: {data} has no tag {absent}{guess} Its tags: {some(names, _SHOWN)}"
