"""Which songs are meant: files, folders, playlists, and names from standard input."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import urlsplit
from urllib.request import url2pathname

PLAYLISTS = (".m3u", ".m3u8")


def songs_of(names: Iterable[str], problem: Callable[[str, str], None]) -> list[str]:
    """The files that ``names`` stand for, each once: a folder for all audio below it, a playlist for its entries, ``-``
    for the names on standard input, one per line (or between NULs).

    ``problem`` is called with a name and a reason for what cannot be used. Whether a file is audio is seen when it is
    read.
    """
    found: dict[str, None] = {}
    whole: set[str] = set()  # absolute paths of all files in folders
    for name in _expanded(names, problem):
        if not os.path.isdir(name):
            if os.path.abspath(name) not in whole:
                found[name] = None
            continue
        # imported here: it takes half a second, which a single file need not wait for
        from musictag.data.catalogue.paths import songs_below

        unreadable: dict[str, str] = {}
        known = whole | {os.path.abspath(path) for path in found}
        below = songs_below(name, unreadable)
        found.update(dict.fromkeys(path for path in below if os.path.abspath(path) not in known))
        whole.update(map(os.path.abspath, below))
        for place, why in unreadable.items():
            problem(place, f"this folder cannot be read ({why})")
        if not below and not unreadable:
            problem(name, "no file in this folder has an audio extension (.mp3, .flac, .wav, ...)")
    return list(found)


def _expanded(names: Iterable[str], problem: Callable[[str, str], None]) -> Iterator[str]:
    for name in names:
        if name == "-":
            text = sys.stdin.buffer.read()
            lines = text.split(b"\0") if b"\0" in text else text.splitlines()
            yield from (os.fsdecode(line) for line in lines if line.strip())
        elif name.lower().endswith(PLAYLISTS) and os.path.isfile(name):
            yield from _entries(name, problem)
        else:
            yield name


def _entries(playlist: str, problem: Callable[[str, str], None]) -> Iterator[str]:
    """The files of a playlist, whose names are relative to its folder."""
    try:
        with open(playlist, "rb") as file:
            lines = file.read().removeprefix(b"\xef\xbb\xbf").splitlines()
    except OSError as error:
        return problem(playlist, f"this playlist cannot be read ({error.strerror})")
    entries = [os.fsdecode(line).strip() for line in lines]
    entries = [entry for entry in entries if entry and not entry.startswith("#")]
    if not entries:
        problem(playlist, "this playlist is empty")
    for entry in entries:
        scheme = urlsplit(entry).scheme if "://" in entry else ""
        if scheme not in ("", "file"):
            problem(playlist, f"{entry} is not a file on this machine")
            continue
        path = url2pathname(urlsplit(entry).path) if scheme else entry
        path = os.path.join(os.path.dirname(playlist), path)
        other = path.replace("\\", "/")  # written by a player for Windows
        yield other if os.path.exists(other) and not os.path.exists(path) else path
