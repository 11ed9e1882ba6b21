"""One playlist per tag: the songs that have it, highest score first."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from musictag.common.errors import MusictagError
from musictag.common.files import atomic_write

#: In the second line: such a playlist may be written anew.
_MARK = "# by musictag"


def write_playlists(folder: str, songs: Mapping[str, Mapping[str, float]]) -> dict[str, int]:
    """Write ``TAG.m3u8`` for every tag of ``songs`` (path: chosen tags and scores) into ``folder``: how many songs each
    has, by file name.

    Paths are relative to the folder, as long as both are on one disk. Raises MusictagError, before anything is written,
    if a file of that name is no such playlist.
    """
    by_tag: dict[str, list[tuple[float, str]]] = {}
    for path, tags in songs.items():
        if "\n" not in path and "\r" not in path:  # which no playlist can hold
            for tag, score in tags.items():
                by_tag.setdefault(tag, []).append((score, path))
    names: dict[str, str] = {}
    for tag in sorted(by_tag):
        name = re.sub(r'[\x00-\x1f<>:"/\\|?*]', "-", tag).strip(". ")[:100] or "tag"
        while name.casefold() in map(str.casefold, names):
            name += "_"
        names[name] = tag
        path = Path(folder) / f"{name}.m3u8"
        if path.exists() and _MARK.encode() not in path.read_bytes()[:100].splitlines():
            raise MusictagError(f"{path} was not written by musictag; choose another folder with --playlists")
    try:
        for name, tag in names.items():
            lines = [
                "#EXTM3U",
                _MARK,
                *(_relative(path, folder) for _, path in sorted(by_tag[tag], key=lambda song: (-song[0], song[1]))),
            ]
            with atomic_write(Path(folder) / f"{name}.m3u8") as file:
                file.write(b"\n".join(map(os.fsencode, lines)) + b"\n")
    except OSError as error:
        raise MusictagError(f"playlists cannot be written into {folder}: {error.strerror or error}") from error
    return {f"{name}.m3u8": len(by_tag[tag]) for name, tag in names.items()}


def _relative(path: str, folder: str) -> str:
    try:
        found = os.path.relpath(path, folder)
    except ValueError:  # another drive of Windows
        found = os.path.abspath(path)
    return f"./{found}" if found.startswith("#") else found
