"""Finds songs that crash the process reading them, and from then on reports them like any other bad song.

A decoder may crash on a damaged file, and the system kills a process that takes too much memory. In either case no
process is left to say which song it was, so ``write_block`` leaves a note of what it reads. What a dead process was
reading is suspect, and is tried once more in a process of its own: a song that ends that one too is not read again.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path

from musictag.common.errors import MusictagError
from musictag.common.files import write_json
from musictag.common.processes import follow_parent
from musictag.common.progress import say
from musictag.data.datasets import SongReader
from musictag.data.preparation.blocks import Song, find_notes
from musictag.data.store.store import SHARD_FOLDER

CRASHED = "the decoder crashed on it, or it needs more memory than there is"
_CRASHED_FILE = ".crashed.json"


def find_crashed(folder: Path, reader: SongReader) -> dict[Song, str]:
    """All songs known to crash the process that reads them, after trying those that a dead process was reading; with
    the reason for problems.csv.

    The caller holds the folder's lock, and no process reads songs for it meanwhile.
    """
    notes = find_notes(folder)
    known = _known(folder)
    suspects = [song for song in notes.values() if song is not None and song not in known]
    if killers := _tried(suspects, reader):
        for song in killers:
            say(f"song {song.song_id} ({song.path}) cannot be used: {CRASHED}")
        known |= set(killers)
        write_json(folder / SHARD_FOLDER / _CRASHED_FILE, sorted(known))
    for note in notes:
        note.unlink()
    return dict.fromkeys(known, CRASHED)


def forget_crashed(folder: Path) -> None:
    """Called when all songs are in the index, these with their reason."""
    (folder / SHARD_FOLDER / _CRASHED_FILE).unlink(missing_ok=True)


def _known(folder: Path) -> set[Song]:
    path = folder / SHARD_FOLDER / _CRASHED_FILE
    if not path.exists():
        return set()
    try:
        return {Song(*song) for song in json.loads(path.read_text(encoding="utf-8"))}
    except (ValueError, TypeError) as error:
        raise MusictagError(f"{path} is damaged: delete it and rerun the command ({error})") from error


def _tried(songs: Sequence[Song], reader: SongReader) -> list[Song]:
    """Return those of the songs that crash a process which reads nothing else."""
    killers, left = [], list(songs)
    while left:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), follow_parent) as alone:
            while left:
                song = left.pop()
                try:
                    alone.submit(_try, reader, song).result()
                except BrokenProcessPool:
                    killers.append(song)
                    break
    return killers


def _try(reader: SongReader, song: Song) -> None:
    with suppress(Exception):  # the block will run into the same error and report it
        reader(song.song_id, song.path)
