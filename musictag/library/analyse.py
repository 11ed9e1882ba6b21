"""Tags of many songs, each analysed once: what a file of tags holds already is taken from there."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from musictag.common.errors import SongError
from musictag.inference.many_songs import Work, ahead, each_result
from musictag.inference.tagger import Confident, Tagger
from musictag.library.choice import Choice
from musictag.library.content import content_key
from musictag.library.tags_file import TagsFile

_AHEAD = 8
_PART = 256  # songs, after which those that were known are given out, whether others are new or not


class Analysed(NamedTuple):
    """Chosen tags of a song, highest score first; ``is_new`` unless they were in the file of tags, to which ``facts``
    (if any: content, size, time of change) are to be added with them. ``why`` a song has no confident tags."""

    tags: dict[str, float]
    is_new: bool
    facts: tuple[str, int, int] | None
    why: str | None = None


def analysed(
    tagger: Tagger, paths: Sequence[str], choice: Choice, known: TagsFile | None
) -> Iterator[tuple[str, Analysed | Exception]]:
    """Every path with the chosen tags of its song, or with the reason why it has none.

    Songs in ``known`` come before the others of their part, which are being analysed.
    """
    for first in range(0, len(paths), _PART):
        yield from _part_analysed(tagger, paths[first : first + _PART], choice, known)


def _part_analysed(
    tagger: Tagger, paths: Sequence[str], choice: Choice, known: TagsFile | None
) -> Iterator[tuple[str, Analysed | Exception]]:
    ready: deque[tuple[str, Analysed]] = deque()
    waiting: dict[str, Analysed] = {}

    def unknown() -> Iterator[str]:
        with ThreadPoolExecutor(1, "musictag-content") as pool:
            try:
                for path, asked in ahead(((path, pool.submit(_look_up, path, known)) for path in paths), _AHEAD):
                    if (found := asked.result()).is_new:
                        waiting[path] = found
                        yield path
                    else:
                        ready.append((path, found))
            finally:
                pool.shutdown(cancel_futures=True)

    for path, found in _scored(tagger, unknown(), choice.confident):
        while ready:
            yield ready.popleft()
        song = waiting.pop(path)
        if isinstance(found, Exception):
            yield path, found
        elif all(map(math.isfinite, found.tags.values())):
            yield path, song._replace(tags=choice(tagger, found.tags), why=found.why)
        else:
            yield path, SongError("the model's scores are not finite: its weights are damaged or invalid")
    yield from ready


def _scored(tagger: Tagger, paths: Iterator[str], confident: bool) -> Iterator[tuple[str, Confident | Exception]]:
    if confident:
        return each_result(Work(tagger.confident_song), paths, tagger.sample_rate)
    return ((song.source, song.error or Confident(song.tags, None)) for song in tagger.tag_many(paths))


def _look_up(path: str, known: TagsFile | None) -> Analysed:
    """What ``known`` holds of the song in a file."""
    new = Analysed({}, True, None)
    if known is None:
        return new
    try:
        status = os.stat(path)
        size, modified = status.st_size, status.st_mtime_ns
        if row := known.unchanged(path, size, modified):
            return Analysed(known.scores(row), False, None)
        facts = (content_key(path), size, modified)
    except OSError:  # reading it as audio says what is wrong
        return new
    row = known.same_content(facts[0])
    return new._replace(facts=facts) if row is None else Analysed(known.scores(row), False, facts)
