"""Identical recordings: files with the same bytes, and songs with the same prepared samples.

docs/data.md defines what counts as a copy. Legend: S songs. Everywhere here copies are given as ``firsts``, int64 S:
the row of the first song that is the same recording, or -1 if there is no other copy.
"""

from __future__ import annotations

import csv
import io
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from musictag.common.errors import MusictagError
from musictag.common.files import atomic_write
from musictag.common.progress import Progress, say
from musictag.common.text import quantity
from musictag.data.manifest import SPLITS, Manifest

DUPLICATES_FILE = "duplicates.csv"
#: Larger files of equal size are compared by this many bytes from the middle before they are read whole.
_SAMPLE_BYTES = 16 * 1024
_CHUNK_BYTES = 1024 * 1024
_FILES_AT_ONCE = 64
_THREADS = 8
_PROGRESS_FROM_FILES = 2_000
_SHOWN = 3
_SHOWN_OF_A_GROUP = 4


def same_files(root: Path, paths: Sequence[str | None], among: np.ndarray | None = None) -> np.ndarray:
    """``firsts`` of the files at ``paths`` below ``root`` that are identical byte for byte.

    None means no file; files that are empty, missing or unreadable match no other. ``among`` (booleans S) restricts the
    search to copies of these. Sizes are compared first, then 16 KB of files of equal size, then all of those that still
    match: a file with a unique size is not read.
    """
    sizes = np.array([_size(f"{root}{os.sep}{path}") if path else 0 for path in paths], dtype=np.int64)
    candidates = np.flatnonzero(sizes > 0)
    candidates = candidates[_grouped(sizes[candidates]) >= 0]
    if among is not None:
        candidates = candidates[np.isin(sizes[candidates], sizes[candidates[among[candidates]]])]
    digests = np.zeros(len(paths), dtype=np.uint64)
    for read, what in ((_sample, "comparing excerpts of files of equal size"), (_whole, "comparing whole files")):
        names = [f"{root}{os.sep}{paths[row]}" for row in candidates.tolist()]
        read_all = list(_in_threads(read, names, what))
        known = np.array([digest is not None for digest in read_all], dtype=bool)
        candidates = candidates[known]
        digests[candidates] = np.array([digest for digest in read_all if digest is not None], dtype=np.uint64)
        candidates = candidates[_grouped(sizes[candidates], digests[candidates]) >= 0]
    firsts = np.full(len(paths), -1, dtype=np.int64)
    firsts[candidates] = candidates[_grouped(sizes[candidates], digests[candidates])]
    return firsts


def same_samples(index: pa.Table, song_ids: pa.Array | None = None) -> np.ndarray:
    """``firsts`` of the songs (None: all) whose prepared samples are identical, by the index of a prepared folder.

    Songs that are not in the index, or cannot be used, match no other.
    """
    digests, lengths = (index[name].combine_chunks() for name in ("digest", "samples"))
    if song_ids is not None:
        rows = pc.index_in(song_ids, index["song_id"].combine_chunks())
        digests, lengths = digests.take(rows), lengths.take(rows)
    prepared = np.flatnonzero(pc.is_valid(digests).to_numpy(zero_copy_only=False))
    groups = _grouped(*(pc.fill_null(column, 0).to_numpy()[prepared] for column in (digests, lengths)))
    firsts = np.full(len(digests), -1, dtype=np.int64)
    firsts[prepared[groups >= 0]] = prepared[groups[groups >= 0]]
    return firsts


def groups_of(firsts: np.ndarray) -> list[np.ndarray]:
    """The rows (int64, ascending) of each recording with several copies, in the order of its first song."""
    rows = np.flatnonzero(firsts >= 0)
    rows = rows[np.argsort(firsts[rows], kind="stable")]
    return np.split(rows, np.flatnonzero(np.diff(firsts[rows])) + 1) if len(rows) else []


def crossing(groups: Sequence[np.ndarray], splits: np.ndarray) -> list[np.ndarray]:
    """The ``groups`` that have songs in more than one split; ``splits`` are numbers, negative if unknown."""
    return [rows for rows in groups if len(set(splits[rows][splits[rows] >= 0].tolist())) > 1]


def across_splits(manifest: Manifest, firsts: np.ndarray) -> list[np.ndarray]:
    """The rows of each recording that is in more than one split."""
    return crossing(groups_of(firsts), _split_codes(manifest.column("split")))


def copies_of_evaluated(manifest: Manifest, firsts: np.ndarray) -> np.ndarray:
    """Which songs are the same recording as a validation or test song, or are one: bool S."""
    evaluated = pc.is_in(manifest.column("split"), pa.array(SPLITS[1:])).to_numpy(zero_copy_only=False)
    return evaluated | ((firsts >= 0) & np.isin(firsts, firsts[evaluated]))


def about_copies(manifest: Manifest, firsts: np.ndarray) -> tuple[str, str]:
    """Text about recordings with copies in several splits, and about the number of those with copies within one; ""
    if there are none."""
    leaked = across_splits(manifest, firsts)
    within = len(groups_of(firsts)) - len(leaked)
    across = ""
    if leaked:
        shown = "; ".join(_songs(manifest, rows) for rows in leaked[:_SHOWN])
        number = quantity(len(leaked), "recording is", "recordings are")
        across = f"{number} in more than one split, the same samples in each: {shown}"
        across += "; ..." if len(leaked) > _SHOWN else ""
    return across, f"{quantity(within, 'recording is', 'recordings are')} duplicated within one split" * bool(within)


def write_duplicates(folder: Path, index: pa.Table, manifest: Manifest) -> None:
    """List all copies among the songs in the prepared ``folder`` with this ``index``; an unchanged list is not
    rewritten.

    One row per song: the number of its recording, and its split and row (the first is 1) in ``manifest``, empty if it
    is not in the manifest.
    """
    groups = groups_of(same_samples(index))
    rows = np.concatenate(groups) if groups else np.zeros(0, dtype=np.int64)
    songs = index.select(["song_id", "path"]).take(pa.array(rows))
    places = pc.index_in(songs["song_id"].combine_chunks(), manifest.column("song_id"))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["recording", "song_id", "path", "split", "row"])
    numbers = np.repeat(np.arange(1, len(groups) + 1), [len(group) for group in groups]) if groups else rows
    splits = manifest.column("split").take(places)
    for number, song_id, path, split, place in zip(
        numbers.tolist(), *(column.to_pylist() for column in (songs["song_id"], songs["path"], splits, places)),
        strict=True,
    ):  # fmt: skip
        writer.writerow([number, song_id, path, split or "", "" if place is None else place + 1])
    path = folder / DUPLICATES_FILE
    content = text.getvalue().encode()
    try:
        if not path.exists() or path.read_bytes() != content:
            with atomic_write(path) as file:
                file.write(content)
    except (OSError, MusictagError) as error:  # a folder prepared by another user may be read-only
        say(f"the list of identical recordings cannot be written: {error}")


def _songs(manifest: Manifest, rows: np.ndarray) -> str:
    shown = manifest.select(rows[:_SHOWN_OF_A_GROUP])
    names = zip(shown.song_ids, shown.column("split").to_pylist(), strict=True)
    more = f" = {len(rows) - len(shown)} more" if len(rows) > len(shown) else ""
    return " = ".join(f"{song_id} ({split})" for song_id, split in names) + more


def _split_codes(splits: pa.Array) -> np.ndarray:
    return pc.fill_null(pc.index_in(splits, pa.array(SPLITS)), -1).to_numpy()  # unlabelled songs have none of these


def _grouped(*keys: np.ndarray) -> np.ndarray:
    """For each position the first one with the same keys, or -1 if there is no other."""
    order = np.lexsort(keys)
    new = np.ones(len(order), dtype=bool)
    if len(order):
        new[1:] = np.logical_or.reduce([key[order][1:] != key[order][:-1] for key in keys])
    starts = np.flatnonzero(new)
    lengths = np.diff(np.append(starts, len(order)))
    firsts = np.empty(len(order), dtype=np.int64)
    # the sort is stable: the first of a run has the lowest position
    firsts[order] = np.repeat(np.where(lengths > 1, order[starts], -1), lengths)
    return firsts


def _size(path: str) -> int:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def _sample(path: str) -> int | None:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, (os.fstat(file.fileno()).st_size - _SAMPLE_BYTES) // 2))
            return xxhash.xxh3_64_intdigest(file.read(_SAMPLE_BYTES))
    except OSError:
        return None


def _whole(path: str) -> int | None:
    digest = xxhash.xxh3_64()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError:
        return None
    return digest.intdigest()


def _in_threads(work: Callable[[str], int | None], names: list[str], what: str) -> Iterator[int | None]:
    """Yield the results in order; disks and networks serve several requests at once."""
    blocks = [names[first : first + _FILES_AT_ONCE] for first in range(0, len(names), _FILES_AT_ONCE)]
    display = Progress(what, len(names), "files") if len(names) >= _PROGRESS_FROM_FILES else nullcontext()
    done = 0
    with ThreadPoolExecutor(_THREADS) as pool, display as progress:
        for found in pool.map(lambda block: [work(name) for name in block], blocks):
            yield from found
            done += len(found)
            if progress is not None:
                progress.show(done)
