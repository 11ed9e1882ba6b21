"""Paths of songs: those in a catalogue, which are relative to the audio folder and may not lead out of it, and those
found below a folder.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# paths that may lead out; all others stay inside, and millions of them are accepted in one step
_SUSPECT = r"^/|^[A-Za-z]:|\\|(^|/)\.\.(/|$)|\x00"
_UNTIDY = r"//|(^|/)\.\.?(/|$)|/$"
#: File names that count as songs; whether they can be decoded is found out when they are read.
AUDIO_SUFFIXES = frozenset((
    ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".ape", ".au", ".caf", ".dsf", ".flac", ".m4a", ".m4b", ".mka", ".mp2",
    ".mp3", ".mp4", ".mpc", ".oga", ".ogg", ".opus", ".spx", ".tta", ".wav", ".wave", ".webm", ".wma", ".wv",
))  # fmt: skip


def relative_paths(paths: pa.ChunkedArray, root: Path) -> tuple[pa.ChunkedArray, list[tuple[int, str]]]:
    """``paths`` (text) relative to ``root``, and positions and paths of those that lead out of it.

    Absolute paths below ``root`` become relative. Only the text is examined: symbolic links are not followed, so a
    folder inside ``root`` may be a link to another disk.
    """
    suspects = np.flatnonzero(pc.fill_null(pc.match_substring_regex(paths, _SUSPECT), False).to_numpy())
    if not len(suspects):
        return paths, []
    inside, outside = [], []
    for at, path in zip(suspects.tolist(), paths.take(pa.array(suspects)).to_pylist(), strict=True):
        if _leads_out(path, root):
            outside.append((at, path))
            inside.append(path)
        else:
            inside.append(os.path.relpath(path, root) if os.path.isabs(path) else path)
    mask = np.zeros(len(paths), dtype=bool)
    mask[suspects] = True
    whole = pc.replace_with_mask(paths.combine_chunks(), pa.array(mask), pa.array(inside, pa.string()))
    return pa.chunked_array([whole]), outside


def tidy_paths(paths: pa.ChunkedArray) -> pa.ChunkedArray:
    """Normalise each path: no ``//``, ``./`` or ``x/../``."""
    untidy = pc.fill_null(pc.match_substring_regex(paths, _UNTIDY), False).combine_chunks()
    if not pc.any(untidy).as_py():
        return paths
    tidied = [os.path.normpath(path) for path in paths.filter(untidy).to_pylist()]
    return pa.chunked_array([pc.replace_with_mask(paths.combine_chunks(), untidy, pa.array(tidied, pa.string()))])


def _leads_out(path: str, root: Path) -> bool:
    # a catalogue from Windows must mean the same files there and here
    if re.match(r"[A-Za-z]:[\\/]", path) or "\0" in path:
        return os.name != "nt" or "\0" in path
    return any(
        os.path.commonpath([root, os.path.abspath(os.path.join(root, spelling))]) != str(root)
        for spelling in (path, path.replace("\\", "/"))
    )


def songs_below(folder: str, unreadable: dict[str, str], links: list[str] | None = None) -> list[str]:
    """Sorted paths of all files below ``folder`` with an audio extension; ``unreadable`` collects folders and reasons.

    Hidden files and folders are left out. Links to folders are followed, or else collected in the list ``links``; a
    folder that is reached twice is read once.
    """
    return sorted(_walk(folder, unreadable, links))


def _walk(folder: str, unreadable: dict[str, str], links: list[str] | None) -> Iterator[str]:
    waiting, seen = [folder], set()
    while waiting:
        place = waiting.pop()
        try:
            identity = os.stat(place)
            if (identity.st_dev, identity.st_ino) in seen:
                continue
            seen.add((identity.st_dev, identity.st_ino))
            names = sorted(name for name in os.listdir(place) if not name.startswith("."))
        except OSError as error:
            unreadable[place] = error.strerror or str(error)
            continue
        paths = [os.path.join(place, name) for name in names]
        folders = {path for path in paths if os.path.isdir(path)}
        followed = folders if links is None else {path for path in folders if not os.path.islink(path)}
        if links is not None:
            links += sorted(folders - followed)
        waiting += sorted(followed, reverse=True)
        yield from (path for path in paths if path not in folders and Path(path).suffix.lower() in AUDIO_SUFFIXES)


def lies_in(path: str, root: str) -> bool:
    """Whether ``path`` is ``root`` or below it, by their text: both must be resolved."""
    return Path(path).is_relative_to(root)


def file_problem(path: str, real_root: str, inside: dict[str, bool]) -> str | None:
    """Why a file cannot be read: missing | other (not a file) | empty | closed (no permission) | link (which leads out
    of ``real_root``). None: no reason that shows without opening it.

    ``inside`` caches between calls which folders are in ``real_root``.
    """
    try:
        status = os.lstat(path)
        is_link = stat.S_ISLNK(status.st_mode)
        if is_link:
            status = os.stat(path)
    except OSError:
        return "missing"
    if not stat.S_ISREG(status.st_mode):
        return "other"
    if not status.st_size:
        return "empty"
    if not os.access(path, os.R_OK):
        return "closed"
    folder = os.path.dirname(path)
    if folder not in inside:
        inside[folder] = lies_in(os.path.realpath(folder), real_root)
    if not inside[folder] or (is_link and not lies_in(os.path.realpath(path), real_root)):
        return "link"
    return None
