"""The unit of preparation: a block of songs is written as a shard and its part of the index, or not at all.

A block is named after its songs: the same songs give the same files, whichever process prepares them, when, and in
which order. The part is written after the shard and makes it valid; ``merge_parts`` adds parts to the index.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from musictag.common.errors import MusictagError, PassingSongError, SongError
from musictag.common.files import atomic_write
from musictag.data.audio.decode import Reading
from musictag.data.datasets import SongReader
from musictag.data.store.checksums import ShardChecksums
from musictag.data.store.store import (
    INDEX_FILE,
    INDEX_SCHEMA,
    SHARD_FOLDER,
    read_index,
    read_index_file,
    shard_bytes,
    shard_header,
    shard_path,
)

PROBLEMS_FILE = "problems.csv"


class Song(NamedTuple):
    """What identifies a song's audio; a song with any other value is prepared again."""

    song_id: str
    path: str
    version: str


def write_block(
    folder: Path,
    songs: Sequence[Song],
    reader: SongReader,
    sample_rate: int,
    on_song: Callable[[], None],
    left_out: Mapping[Song, str] | None = None,
) -> int:
    """Read a block's songs and write their shard, then their part of the index, each atomically.

    Returns the number of samples in the shard.

    An unusable song gets its reason instead of samples; songs in ``left_out`` are not read, and get the reason there.
    ``on_song`` is called after each song; an exception from it ends the block without a trace. A process that dies here
    leaves a note of the song that it was reading (see ``find_notes``). Memory: one song at a time.
    """
    name, left_out = _block_name(songs), left_out or {}
    rows: list[dict] = []

    def usable(note: Callable[[Song], None]) -> Iterator[np.ndarray]:
        offset = 0
        for song in songs:
            row = song._asdict() | {"shard": "", "offset": 0, "samples": 0}
            row |= {"reason": None, "digest": None, "note": None}
            rows.append(row)
            try:
                if song in left_out:
                    raise SongError(left_out[song])
                note(song)
                samples, song_note = _read(reader, song)
            except SongError as error:
                row["reason"] = str(error)
                if isinstance(error, PassingSongError):  # no file has this version: the song is read again
                    row["version"] = ""
            else:
                row |= {"shard": name, "offset": offset, "samples": len(samples), "note": song_note or None}
                row["digest"] = xxhash.xxh3_64_intdigest(np.ascontiguousarray(samples, dtype="<i2").data)
                offset += len(samples)
                yield samples
            on_song()

    with _noting(folder, name) as note:
        shard_samples, checksum = _write_shard(shard_path(folder, name), usable(note))
    for row in rows:
        row |= {"shard_samples": shard_samples, "shard_crc32": checksum}
    write_index(_part_path(folder, name), pa.Table.from_pylist(rows, INDEX_SCHEMA), sample_rate)
    return shard_samples


def merge_parts(folder: Path, sample_rate: int) -> None:
    """Add the parts of finished blocks to the index, and list in problems.csv the songs that cannot be used in whole or
    in part.

    The parts stay until ``remove_parts`` marks the work as finished, so a kill at any point loses nothing they hold,
    and merging again does no harm. The caller holds the folder's lock.
    """
    remove_leftovers(folder)
    parts = find_parts(folder)
    index = read_index(folder) if (folder / INDEX_FILE).exists() else INDEX_SCHEMA.empty_table()
    if parts or not (folder / INDEX_FILE).exists():
        fresh = pa.concat_tables([INDEX_SCHEMA.empty_table(), *map(read_index_file, parts)])
        index, fresh = _outliving(folder, index, fresh)
        kept = index.filter(pc.invert(pc.is_in(index["song_id"], fresh["song_id"].combine_chunks())))
        index = pa.concat_tables([kept, fresh]).sort_by("song_id")
        write_index(folder / INDEX_FILE, index, sample_rate)
    noted = index.filter(pc.or_(pc.is_valid(index["reason"]), pc.is_valid(index["note"])))
    with atomic_write(folder / PROBLEMS_FILE, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["song_id", "path", "used", "reason"])
        for row in noted.to_pylist():
            used = "no" if row["reason"] else "yes"
            writer.writerow([row["song_id"], row["path"], used, row["reason"] or row["note"]])


def _outliving(folder: Path, index: pa.Table, fresh: pa.Table) -> tuple[pa.Table, pa.Table]:
    """``index`` and ``fresh`` rows, without those that would replace prepared audio because a file is gone."""
    gone = fresh.filter(pc.and_(pc.is_valid(fresh["reason"]), pc.equal(fresh["version"], "")))
    whole = pc.and_(pc.is_null(index["reason"]), pa.array(intact_shards(folder, index)))
    outlive = pc.and_(whole, pc.is_in(index["song_id"], gone["song_id"].combine_chunks()))
    if not pc.any(outlive).as_py():
        return index, fresh
    rows, why = index.filter(outlive).to_pylist(), {row["song_id"]: row for row in gone.to_pylist()}
    for row in rows:
        missing = why[row["song_id"]]
        row["note"] = f"{missing['reason']}: {missing['path']}; what was prepared from {row['path']} is used"
    index = pa.concat_tables([index.filter(pc.invert(outlive)), pa.Table.from_pylist(rows, INDEX_SCHEMA)])
    return index, fresh.filter(pc.invert(pc.is_in(fresh["song_id"], pa.array([row["song_id"] for row in rows]))))


def find_parts(folder: Path) -> list[Path]:
    """Parts of the index that are to be merged or removed."""
    return sorted((folder / SHARD_FOLDER).glob("*.parquet"))


def remove_parts(folder: Path) -> None:
    """Remove merged parts; the caller holds the folder's lock."""
    for part in find_parts(folder):
        part.unlink()


def remove_leftovers(folder: Path) -> None:
    """Remove partial files of killed processes; the caller holds the folder's lock, and no process writes."""
    for leftover in [*folder.glob(".*.part"), *(folder / SHARD_FOLDER).glob(".*.part")]:
        leftover.unlink()


def find_notes(folder: Path) -> dict[Path, Song | None]:
    """What processes were reading when they died, by the note's file; None if the note was still empty."""
    notes: dict[Path, Song | None] = {}
    for path in sorted((folder / SHARD_FOLDER).glob(".*.reading")):
        notes[path] = None
        with suppress(ValueError):
            notes[path] = Song(*json.loads(path.read_text(encoding="utf-8")))
    return notes


def intact_shards(folder: Path, index: pa.Table) -> np.ndarray:
    """Rows of the index (bool) that need no shard, or whose shard exists and has the right size."""
    sizes: dict[str, int] = {}
    with suppress(FileNotFoundError), os.scandir(folder / SHARD_FOLDER) as entries:
        sizes = {entry.name: entry.stat().st_size for entry in entries if entry.name.endswith(".npy")}
    columns = ["shard", "shard_samples"]
    named = index.select(columns).group_by(columns).aggregate([])
    intact = [""]
    for shard, samples in zip(*(named[column].to_pylist() for column in columns), strict=True):
        if shard and sizes.get(shard_path(folder, shard).name) == shard_bytes(samples):
            intact.append(shard)
    return pc.is_in(index["shard"], pa.array(intact)).to_numpy()


def _block_name(songs: Sequence[Song]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for song in songs:
        digest.update("\0".join(song).encode() + b"\n")
    return digest.hexdigest()


def _part_path(folder: Path, name: str) -> Path:
    return folder / SHARD_FOLDER / f"{name}.parquet"


@contextmanager
def _noting(folder: Path, name: str) -> Iterator[Callable[[Song], None]]:
    """Yield a function that notes which song of the block is being read."""
    path = folder / SHARD_FOLDER / f".{name}.reading"
    try:
        with open(path, "wb", buffering=0) as file:

            def note(song: Song) -> None:
                file.seek(0)
                file.truncate()
                file.write(json.dumps(song).encode())

            yield note
    finally:
        path.unlink(missing_ok=True)


def _read(reader: SongReader, song: Song) -> Reading:
    try:
        read = reader(song.song_id, song.path)
    except (SongError, MusictagError):
        raise
    except Exception as error:
        # a bug in a reader is not the song's fault: it must not vanish in problems.csv
        message = f"reading song {song.song_id} ({song.path}) failed: {type(error).__name__}: {error}"
        raise RuntimeError(message) from error
    samples, note = read if isinstance(read, Reading) else (read, "")
    if samples.dtype != np.int16 or samples.ndim != 1 or not len(samples):
        raise RuntimeError(f"song {song.song_id}: the reader returned {samples.dtype} {samples.shape}, not int16 (N,)")
    return Reading(samples, note)


def _write_shard(path: Path, songs: Iterator[np.ndarray]) -> tuple[int, int]:
    """Number of samples and their CRC-32; no file is written if there is no song."""
    samples = next(songs, None)
    total, checksums = 0, ShardChecksums()
    if samples is None:
        return total, checksums.whole
    with atomic_write(path) as file:
        file.write(shard_header(0))
        while samples is not None:
            samples = np.ascontiguousarray(samples, dtype="<i2")
            file.write(samples.data)
            checksums.update(samples)
            total += len(samples)
            samples = next(songs, None)
        file.write(checksums.to_bytes())
        file.seek(0)
        file.write(shard_header(total))
    return total, checksums.whole


def write_index(path: Path, rows: pa.Table, sample_rate: int) -> None:
    with atomic_write(path) as file:
        table = rows.combine_chunks().replace_schema_metadata({"musictag.sample_rate": str(sample_rate)})
        pq.write_table(table, file, write_page_checksum=True)
