"""Decode once: the songs of a source become a Store, in parallel, and an interruption costs a few songs at most."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock, Timeout

from musictag.common.errors import MusictagError
from musictag.common.files import write_json
from musictag.common.progress import Progress, say
from musictag.common.text import readable_size
from musictag.data.audio.decode import believable_seconds
from musictag.data.catalogue.copies import same_samples, write_duplicates
from musictag.data.datasets import Source
from musictag.data.manifest import Manifest
from musictag.data.preparation.blocks import (
    PROBLEMS_FILE,
    Song,
    find_parts,
    intact_shards,
    merge_parts,
    remove_parts,
    write_index,
)
from musictag.data.preparation.crashes import forget_crashed
from musictag.data.preparation.workers import Task, run_blocks
from musictag.data.store.folder import _identity, prepared_folder
from musictag.data.store.store import INDEX_FILE, SHARD_FOLDER, Store, read_index, shard_path

ABOUT_FILE = "about.json"
#: Songs per shard, by the total number of songs, and never by the number of processes or of songs left to do.
_SONGS_PER_SHARD, _WANTED_SHARDS = (8, 64), 64
#: Files that are opened to estimate the space that all will need, and to name the longest.
_SAMPLED_SONGS, _NAMED_SONGS = 50, 3


#: song_id, path and message.
_Listed = tuple[str, str, str]


@dataclass(frozen=True)
class Prepared:
    """``manifest`` holds the usable songs only; ``problems`` the others, as (song_id, path, reason); ``notes``,
    likewise, those that are used although part of their files could not be. ``firsts`` (int64 S) says which songs are
    the same recording (see ``musictag.data.catalogue.copies``)."""

    manifest: Manifest
    store: Store = field(repr=False)
    problems: list[_Listed]
    notes: list[_Listed]
    firsts: np.ndarray = field(repr=False)


def prepare(
    source: Source,
    data_dir: str | Path,
    *,
    manifest: Manifest | None = None,
    workers: int = 1,
    max_bad_fraction: float = 0.1,
    songs_per_shard: int | None = None,
    sample_rate: int = 16000,
) -> Prepared:
    """The songs of ``source`` (or only of ``manifest``) as a Store in ``prepared_folder``; prepared songs are kept.

    The work is done in blocks of ``songs_per_shard`` songs (default: 64, fewer in small data sets, so that all
    processes have work) in the manifest's order, by ``workers`` processes (1: this one). After an interruption the same
    call continues after the finished blocks, and the folder ends up the same, byte for byte. Songs that are added later
    go to new shards. If two processes prepare the same audio, one works and the other waits for it. A song whose
    version has changed (see ``song_versions``) is read again.

    An unusable song is left out and listed with its reason in problems.csv; for a PassingSongError it is tried again
    each time, and keeps the audio that was prepared before. Songs with the same samples as another one are used, and
    listed in duplicates.csv. Raises MusictagError if more than ``max_bad_fraction`` of the songs are unusable, if the
    disk is or would be full, or if the workers are killed.
    """
    manifest = source.manifest() if manifest is None else manifest
    if songs_per_shard is None:
        songs_per_shard = min(max(len(manifest) // _WANTED_SHARDS, _SONGS_PER_SHARD[0]), _SONGS_PER_SHARD[1])
    if workers < 1 or songs_per_shard < 1:
        raise MusictagError(f"workers={workers} and songs_per_shard={songs_per_shard} must be at least 1")
    folder = prepared_folder(source, data_dir, sample_rate)
    songs = _songs(source, manifest, folder)
    pending = _pending(folder, songs)
    if len(pending) or find_parts(folder):
        try:
            (folder / SHARD_FOLDER).mkdir(parents=True, exist_ok=True)
            with folder_lock(folder, "preparing"):
                _prepare(source, folder, manifest, songs, workers, songs_per_shard, sample_rate)
                forget_crashed(folder)
                remove_parts(folder)
        except OSError as error:
            raise MusictagError(f"cannot write to {folder}: {error}; use another folder with data_dir=...") from error
    index = read_index(folder)
    usable, problems, notes = _usable(index, manifest)
    if len(problems) > max_bad_fraction * len(manifest):
        raise MusictagError(_too_many(problems, len(manifest), max_bad_fraction, folder))
    write_duplicates(folder, index, source.manifest())
    return Prepared(usable, Store(folder), problems, notes, same_samples(index, usable.column("song_id")))


def tidy(folder: Path) -> None:
    """Forget which songs could not be used, so that they are read again, and remove shards that the index does not
    name. Does nothing if ``folder`` does not exist, or is being prepared."""
    if not (folder / INDEX_FILE).exists() or find_parts(folder):
        return
    with folder_lock(folder, "working on"):
        index = read_index(folder)
        usable = index.filter(pc.is_null(index["reason"]))
        if len(usable) < len(index):
            write_index(folder / INDEX_FILE, usable, int(index.schema.metadata[b"musictag.sample_rate"]))
        named = {shard_path(folder, name) for name in pc.unique(usable["shard"]).to_pylist()}
        for path in set((folder / SHARD_FOLDER).glob("*.npy")) - named:
            path.unlink()


def song_versions(source: Source, manifest: Manifest, folder: Path) -> pa.Array:
    """The version of every song (S texts, "" if the source has none) for the prepared ``folder`` of ``source``.

    A song whose file is gone has the version that it was prepared from: prepared audio outlives its files, which may be
    deleted to save space. Null if it was not prepared either.
    """
    if not hasattr(source, "versions"):
        return pa.array([""] * len(manifest), pa.string())
    versions = pa.array(source.versions(manifest), pa.string())
    if not versions.null_count or not (folder / INDEX_FILE).exists():
        return versions
    index = read_index(folder)
    there = pc.index_in(manifest.column("song_id"), index["song_id"].combine_chunks())
    return pc.coalesce(versions, index["version"].combine_chunks().take(there))


def _songs(source: Source, manifest: Manifest, folder: Path) -> pa.Table:
    """song_id, path and version of every song."""
    columns = {name: manifest.column(name) for name in ("song_id", "path")}
    return pa.table(columns | {"version": pc.fill_null(song_versions(source, manifest, folder), "")})


def _pending(folder: Path, songs: pa.Table) -> np.ndarray:
    """Rows of the songs whose current version is not in the folder, int64 in ascending order."""
    if not (folder / INDEX_FILE).exists():
        return np.arange(len(songs))
    index = read_index(folder)
    rows = intact_shards(folder, index)
    if not rows.all():
        index = index.filter(pa.array(rows))
    there = pc.index_in(songs["song_id"].combine_chunks(), index["song_id"].combine_chunks())
    finished = pc.is_valid(there).to_numpy(zero_copy_only=False)
    for column in ("path", "version"):
        finished &= pc.fill_null(pc.equal(index[column].take(there), songs[column]), False).to_numpy()
    return np.flatnonzero(~finished)


def _usable(index: pa.Table, manifest: Manifest) -> tuple[Manifest, list[_Listed], list[_Listed]]:
    """The usable songs, the reasons why others are not, and the notes about those that are."""
    there = pc.index_in(manifest.column("song_id"), index["song_id"].combine_chunks())

    def listed(column: str) -> tuple[np.ndarray, list[_Listed]]:
        words = index[column].combine_chunks().take(there)
        rows = np.flatnonzero(pc.is_valid(words).to_numpy(zero_copy_only=False))
        return rows, list(
            zip(manifest.song_ids[rows], manifest.paths[rows], words.take(pa.array(rows)).to_pylist(), strict=True)
        )

    (bad, problems), (_, notes) = listed("reason"), listed("note")
    if not len(bad):
        return manifest, problems, notes
    return manifest.select(np.setdiff1d(np.arange(len(manifest)), bad)), problems, notes


def _too_many(problems: list[tuple[str, str, str]], num_songs: int, max_bad_fraction: float, folder: Path) -> str:
    examples = {reason: f"{song_id} ({path})" for song_id, path, reason in reversed(problems)}
    reasons = Counter(reason for _, _, reason in problems).most_common(5)
    return (
        f"{len(problems)} of {num_songs} songs cannot be used, more than max_bad_fraction={max_bad_fraction} allows. "
        f"All of them are listed in {folder / PROBLEMS_FILE}; the most frequent reasons:\n"
        + "\n".join(f"  {count} x {reason}, for example {examples[reason]}" for reason, count in reasons)
        + "\nFix the files and rerun, or continue without these songs with a larger max_bad_fraction."
    )


@contextmanager
def folder_lock(folder: Path, doing: str) -> Iterator[None]:
    """Hold the lock of ``folder``; ``doing`` says what a process that waits for it waits for."""
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"another process is {doing} {folder}; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _prepare(
    source: Source,
    folder: Path,
    manifest: Manifest,
    songs: pa.Table,
    workers: int,
    songs_per_shard: int,
    sample_rate: int,
) -> None:
    """Bring every song into the index; the caller holds the folder's lock."""
    what = "audio prepared by musictag: mono int16 in shards/, positions in index.parquet"
    write_json(folder / ABOUT_FILE, {"what": what, "source": source.name, **_identity(source, sample_rate)})
    # finished by an interrupted run, or by the process that we waited for
    merge_parts(folder, sample_rate)
    pending = _pending(folder, songs)
    if not len(pending):
        return
    # a song that is read again must not be in two parts
    remove_parts(folder)
    wanted = songs.take(pa.array(pending))
    rows = [Song(*row) for row in zip(*(wanted[name].to_pylist() for name in Song._fields), strict=True)]
    blocks = [rows[first : first + songs_per_shard] for first in range(0, len(rows), songs_per_shard)]
    seconds, sampled = _expected_seconds(source, manifest.select(pending))
    bytes_per_song = 2 * sample_rate * _mean(seconds)
    _check_disk(folder, bytes_per_song, len(rows), _longest(sampled, seconds))

    def on_block(block: list[Song], num_samples: int) -> None:
        nonlocal bytes_per_song
        if not bytes_per_song:  # lengths are unknown: the first block with usable songs is the sample
            bytes_per_song = 2 * num_samples / len(block)
            _check_disk(folder, bytes_per_song, len(rows) - len(block), "")

    task = Task(folder, sample_rate, source.reader())
    with Progress(f"preparing {source.name}", len(rows), when_stopped="; finished blocks are kept") as progress:
        run_blocks(task, blocks, min(workers, len(blocks)), progress.show, on_block)
    merge_parts(folder, sample_rate)


def _expected_seconds(source: Source, manifest: Manifest) -> tuple[np.ndarray, Manifest]:
    """The expected length of songs when prepared (NaN: unknown or implausible), and which songs these are: all of them,
    or a sample if files must be opened to know."""
    seconds = believable_seconds(manifest.values("duration"))
    if hasattr(source, "expected_seconds"):
        if np.isnan(seconds).any():
            manifest = manifest.select(np.unique(np.linspace(0, len(manifest) - 1, _SAMPLED_SONGS).astype(np.int64)))
        seconds = source.expected_seconds(manifest)
    return seconds, manifest


def _mean(seconds: np.ndarray) -> float:
    """The mean, or 0 if no length is known."""
    known = seconds[~np.isnan(seconds)]
    return float(known.mean(dtype=np.float64)) if len(known) else 0.0


def _longest(manifest: Manifest, seconds: np.ndarray) -> str:
    """Text that names the longest songs, if their lengths are known."""
    order = np.argsort(np.where(np.isnan(seconds), 0, -seconds), kind="stable")[:_NAMED_SONGS]
    named = [f"{manifest.paths[row]} ({seconds[row] / 60:.0f} min)" for row in order if not np.isnan(seconds[row])]
    return f" The longest of those looked at: {', '.join(named)}." if named else ""


def _check_disk(folder: Path, bytes_per_song: float, num_songs: int, longest: str) -> None:
    """Report how much space the songs need, if known. Raises MusictagError if there is less; the message names the
    ``longest``."""
    needed, free = bytes_per_song * num_songs, shutil.disk_usage(folder).free
    if needed > free:
        raise MusictagError(
            f"{num_songs} songs need about {readable_size(needed)} in {folder}, where {readable_size(free)} are free. "
            f"Free some space, or use another disk with data_dir=...; prepared songs are kept.{longest}"
        )
    if needed:
        size, room = readable_size(needed), readable_size(free)
        say(f"{num_songs:,} songs to prepare: about {size} in {folder}, where {room} are free")
