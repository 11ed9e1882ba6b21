"""Which tags and songs go into the catalogue: tags that can be learned and scored, and the songs that have one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from musictag.data.catalogue.making.labels import Labels, Song
from musictag.data.catalogue.making.words import (
    find_separator,
    known_tags,
    merged_spellings,
    possible_separator,
    tags_in,
)
from musictag.data.manifest import SPLITS


@dataclass
class Chosen:
    """``tags`` most frequent first, ``has`` (S×K bool): which song has which. ``numbers``: tags that were columns of
    numbers already, with a value per song (None: unknown). ``groups``: artists, else albums (None: unknown)."""

    songs: list[Song]
    tags: list[str]
    has: np.ndarray
    numbers: dict[str, list[float | None]]
    groups: list[str | None] | None


def choose(labels: Labels, separator: str | None, min_songs: int) -> Chosen:
    """Split cells, merge spellings, and leave out what cannot be learned; ``labels`` records what and why.

    ``separator`` None: detected. A tag is kept if ``min_songs`` songs have it, some do not, and every split, if there
    are any, has songs with and without it. A song is kept if it has a tag, or numbers.
    """
    _check_splits(labels)
    sets = _tag_sets(labels, separator)
    _merge(labels, sets)
    rows = _with_tags(labels, sets, range(len(sets)))
    gone: dict[str, str] = {}
    had_common: set[int] = set()  # a song whose only tags are those that all songs have is a negative example
    while True:
        counts = _counts(labels.songs, sets, rows)
        bad = {tag: why for tag in counts[""] if tag and (why := _why_not(tag, counts, min_songs))}
        if not bad:
            break
        gone |= bad
        common = {tag for tag in bad if counts[""][tag] == counts[""][None]}
        had_common.update(row for row in rows if common & sets[row])
        for tags in sets:
            tags.difference_update(bad)
        rows = [row for row in rows if row in had_common or _with_tags(labels, sets, [row])]
    labels.drop("tags", [f"{tag}: {why}" for tag, why in gone.items()])
    kept = set(rows)
    labels.drop("songs without any tag left", [s.path for row, s in enumerate(labels.songs) if row not in kept])
    tags = sorted(filter(None, counts[""]), key=lambda tag: (-counts[""][tag], tag))
    place = {tag: at for at, tag in enumerate(tags)}
    has = np.zeros((len(rows), len(tags)), dtype=bool)
    for at, row in enumerate(rows):
        has[at, [place[tag] for tag in sets[row]]] = True
    songs = [labels.songs[row] for row in rows]
    return Chosen(songs, tags, has, _numbers(labels, songs), _groups(labels, songs))


def _groups(labels: Labels, songs: list[Song]) -> list[str | None] | None:
    """Who made each song, or None if nobody is known, or too few to keep them in separate splits."""
    groups = [next(iter(known_tags((song.artist, song.album))), None) for song in songs]
    known = set(filter(None, groups))
    if not known:
        return None
    if len(known) + groups.count(None) < len(SPLITS) and not any(song.split for song in songs):
        labels.notes.append(
            f"all songs are by {' and '.join(sorted(known))}, too few to be divided among three splits: left out"
        )
        return None
    return groups


def _numbers(labels: Labels, songs: list[Song]) -> dict[str, list[float | None]]:
    """The numeric columns, without constant ones."""
    numbers = {name: [song.numbers[at] for song in songs] for at, name in enumerate(labels.number_columns)}
    constant = [name for name, values in numbers.items() if len({value for value in values if value is not None}) < 2]
    labels.drop("columns of numbers with one value only", constant)
    return {name: values for name, values in numbers.items() if name not in constant}


def _tag_sets(labels: Labels, separator: str | None) -> list[set[str]]:
    cells = {cell for song in labels.songs for cell in song.cells}
    if labels.one_cell_one_tag:
        mark = None
    else:
        mark = find_separator(cells) if separator is None else (None if separator == "none" else separator)
        if mark:
            labels.notes.append(f"cells are split at {mark!r} (--separator)")
        elif separator is None and (doubtful := possible_separator(cells)):
            labels.notes.append(
                f"{doubtful!r} is read as part of a tag name; --separator {doubtful!r} splits cells there"
            )
    parts = {cell: known_tags([cell]) if labels.one_cell_one_tag else tags_in(cell, mark) for cell in cells}
    return [{tag for cell in song.cells for tag in parts[cell]} for song in labels.songs]


def _merge(labels: Labels, sets: list[set[str]]) -> None:
    """Choose one spelling for each tag and each artist."""
    counts = Counter(tag for tags in sets for tag in tags)
    spellings = merged_spellings(counts)
    for at, tags in enumerate(sets):
        sets[at] = {spellings[tag] for tag in tags}
    merged: dict[str, list[str]] = {}
    for tag, spelling in spellings.items():
        if tag != spelling:
            merged.setdefault(spelling, []).append(f"{tag!r} ({counts[tag]:,})")
    labels.notes += [f"merged into {tag!r}: {', '.join(others)}" for tag, others in sorted(merged.items())]
    artists = merged_spellings(Counter(song.artist for song in labels.songs))
    for song in labels.songs:
        song.artist = artists[song.artist]


def _check_splits(labels: Labels) -> None:
    """Keep a split only if it covers all three parts."""
    there = {song.split for song in labels.songs}
    if there <= {""}:
        return
    if there >= set(SPLITS):
        labels.drop("songs without a split", [song.path for song in labels.songs if not song.split])
        labels.songs = [song for song in labels.songs if song.split]
        return
    lacking = ", ".join(split for split in SPLITS if split not in there)
    labels.notes.append(f"the given split has no songs for {lacking}, so it is left out; training makes one")
    for song in labels.songs:
        song.split = ""


def _with_tags(labels: Labels, sets: list[set[str]], rows: Iterable[int]) -> list[int]:
    return [row for row in rows if sets[row] or any(value is not None for value in labels.songs[row].numbers)]


def _counts(songs: list[Song], sets: list[set[str]], rows: list[int]) -> dict[str, Counter[str | None]]:
    """How many songs have a tag (None: how many songs), in total ("") and in each split."""
    counts: dict[str, Counter[str | None]] = {"": Counter()}
    for row in rows:
        for part in {"", songs[row].split}:
            counts.setdefault(part, Counter()).update([None, *sets[row]])
    return counts


def _why_not(tag: str, counts: dict[str, Counter[str | None]], min_songs: int) -> str | None:
    """Why a tag cannot be learned or scored."""
    count = counts[""][tag]
    if count < min_songs:
        return f"{count:,} song{'' if count == 1 else 's'}, fewer than {min_songs} (--min-songs)"
    for part, songs in counts.items():
        where = f" in {part}" if part else ""
        if not songs[tag]:
            return f"no song{where} has it"
        if songs[tag] == songs[None]:
            return f"all {songs[tag]:,} songs{where} have it, so there are no negative examples"
    return None
