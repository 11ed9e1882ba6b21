"""Which songs are meant: files, folders, playlists, and names from standard input."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import urlsplit
from urllib.request import url2pathname

PLAYLISTS = (".m3u", ".m3u8")


def songs_of(names: Iterable[str], problem: Callable[[str, str], None]) -> list[str]:
    """The files that ``names`` stand for, each once, as it was named first: a folder for all audio below it, a playlist
    for its entries, ``-`` for the names on standard input, one per line (or between NULs).

    ``problem`` is called with a name and a reason for what cannot be used. Whether a file is audio is seen when it is
    read.
    """
    found: dict[str, str] = {}
    for name in _expanded(names, problem):
        for path in _below(name, problem) if os.path.isdir(name) else [name]:
            found.setdefault(os.path.abspath(path), path)
    return list(found.values())


def _below(folder: str, problem: Callable[[str, str], None]) -> list[str]:
    # imported here: it takes half a second, which a single file need not wait for
    from musictag.data.catalogue.paths import songs_below

    unreadable: dict[str, str] = {}
    below = songs_below(folder, unreadable)
    for place, why in unreadable.items():
        problem(place, f"this folder cannot be read ({why})")
    if not below and not unreadable:
        problem(folder, "no file in this folder has an audio extension (.mp3, .flac, .wav, ...)")
    return below


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
            lines = [line.strip() for line in file.read().removeprefix(b"\xef\xbb\xbf").splitlines()]
    except OSError as error:
        return problem(playlist, f"this playlist cannot be read ({error.strerror})")
    entries = [line for line in lines if line and not line.startswith(b"#")]
    if not entries:
        problem(playlist, "this playlist is empty")
    for entry in entries:
        name = os.fsdecode(entry)
        scheme = urlsplit(name).scheme if "://" in name else ""
        if scheme not in ("", "file"):
            problem(playlist, f"{name} is not a file on this machine")
            continue
        # as it stands, or as a player on Windows wrote it
        spellings = [url2pathname(urlsplit(name).path)] if scheme else [name, entry.decode("cp1252", "replace")]
        spellings += [spelling.replace("\\", "/") for spelling in spellings]
        paths = [os.path.join(os.path.dirname(playlist), spelling) for spelling in spellings]
        yield next(filter(os.path.exists, paths), paths[0])
