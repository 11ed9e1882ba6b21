"""Tags of many songs, each analysed once: what a file of tags holds already is taken from there."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from musictag.common.errors import SongError
from musictag.inference.many_songs import WholeSongs, each_result
from musictag.inference.tagger import Tagger
from musictag.library.choice import Choice
from musictag.library.content import content_key
from musictag.library.tags_file import TagsFile

_AHEAD = 8


class Facts(NamedTuple):
    """What identifies a song in a file of tags."""

    content: str
    size: int
    modified: int


class Analysed(NamedTuple):
    """Chosen tags of a song, highest score first; ``is_new`` unless they were in the file of tags, to which ``facts``
    (if any) are to be added with them. ``why`` a song has no confident tags."""

    tags: dict[str, float]
    is_new: bool
    facts: Facts | None
    why: str | None = None


def analysed(
    tagger: Tagger, paths: Sequence[str], choice: Choice, known: TagsFile | None
) -> Iterator[tuple[str, Analysed | Exception]]:
    """Every path with the chosen tags of its song, or with the reason why it has none.

    Songs in ``known`` come as soon as they are found there, before others that are being analysed.
    """
    ready: deque[tuple[str, Analysed]] = deque()
    facts: dict[str, Facts] = {}

    def unknown() -> Iterator[str]:
        for path, found in _identified(paths, known):
            if isinstance(found, Analysed):
                ready.append((path, found))
            else:
                if found is not None:
                    facts[path] = found
                yield path

    for path, tags, why, error in _scored(tagger, unknown(), choice.confident):
        while ready:
            yield ready.popleft()
        if error is None and not all(map(math.isfinite, tags.values())):
            error = SongError("the model's scores are not finite: its weights are damaged or invalid")
        yield path, error or Analysed(choice(tagger, tags), True, facts.pop(path, None), why)
    yield from ready


def _scored(
    tagger: Tagger, paths: Iterator[str], confident: bool
) -> Iterator[tuple[str, dict[str, float], str | None, Exception | None]]:
    """Every path with scores by tag, or with the reason why it has none: of confidence, or an error."""
    if not confident:
        yield from ((str(song.source), song.tags, None, song.error) for song in tagger.tag_many(paths))
        return
    for path, found in each_result(WholeSongs(tagger.confident_song), paths, tagger.sample_rate):
        is_error = isinstance(found, Exception)
        yield str(path), {} if is_error else found.tags, None if is_error else found.why, found if is_error else None


def _identified(paths: Sequence[str], known: TagsFile | None) -> Iterator[tuple[str, Analysed | Facts | None]]:
    """Every path with its song in ``known``, or what identifies it (computed ahead); None for what cannot be read."""
    if known is None:
        yield from ((path, None) for path in paths)
        return
    with ThreadPoolExecutor(1, "musictag-content") as pool:
        waiting: deque = deque()
        try:
            for path in paths:
                waiting.append((path, pool.submit(_identify, path, known)))
                if len(waiting) > _AHEAD:
                    first, found = waiting.popleft()
                    yield first, found.result()
            for first, found in waiting:
                yield first, found.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _identify(path: str, known: TagsFile) -> Analysed | Facts | None:
    try:
        status = os.stat(path)
        size, modified = status.st_size, status.st_mtime_ns
        if row := known.unchanged(path, size, modified):
            return Analysed(known.scores(row), False, None)
        facts = Facts(content_key(path), size, modified)
    except OSError:  # reading it as audio says what is wrong
        return None
    row = known.same_content(facts.content)
    return facts if row is None else Analysed(known.scores(row), False, facts)
