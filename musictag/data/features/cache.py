"""Features of prepared songs, computed once and kept beside the prepared audio in blocks that are written atomically.

    <prepared folder>/features-<digest>/     one folder for each version of the features
        about.json                          describes the folder
        <hash>.parquet                      a block of songs: identifiers of their audio, and their features

A song's entry is identified by its audio, not its name: its shard (whose name depends on the version of the song's
file), the checksum of the shard's samples, and its position there. Audio that is prepared again gets new features;
other tags, splits and training sizes use the same ones. Legend: S songs, D features.
"""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from musictag.common.errors import MusictagError
from musictag.common.files import atomic_write, write_json
from musictag.common.processes import follow_parent, single_threaded_children
from musictag.common.progress import Progress
from musictag.data.audio.decode import to_float
from musictag.data.features.descriptors import VERSION, feature_digest, feature_names, song_features
from musictag.data.preparation.prepare import folder_lock
from musictag.data.store.store import Store

#: Songs per block, which a killed process may lose; fewer in a small data set, so that all processes have work.
_SONGS_PER_BLOCK, _WANTED_BLOCKS = (8, 64), 64
#: Songs of a block: their rows in the store (int64), and their entries.
Block = tuple[np.ndarray, pa.Array]
#: Computes the features of the songs at these rows of a store, one value for each.
Compute = Callable[[Store, np.ndarray], pa.Array]


def feature_folder(store: Store) -> Path:
    """The folder of this version of the features."""
    return store.folder / f"features-{feature_digest()}"


def stored_features(store: Store, song_ids: np.ndarray | pa.Array, workers: int = 1) -> np.ndarray:
    """Descriptors of these songs, float32 S×D in their order; computed, kept and refused as by ``completed``."""
    what = "features of prepared songs, computed by musictag"
    about = {"what": what, "version": VERSION, "features": feature_names()}
    found = completed(store, feature_folder(store), song_ids, about, _descriptors, workers).combine_chunks()
    return found.flatten().to_numpy().reshape(len(found), -1)


def _descriptors(store: Store, rows: np.ndarray) -> pa.Array:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # in any process: the last digits depend on the thread count
        features = np.stack([song_features(to_float(store.read(row)), store.sample_rate) for row in rows.tolist()])
    return pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), features.shape[1])


def completed(
    store: Store,
    folder: Path,
    song_ids: np.ndarray | pa.Array,
    about: dict[str, Any],
    compute: Compute,
    workers: int = 1,
) -> pa.ChunkedArray:
    """The features of songs in ``folder``, one value for each, in their order. Those that no block has are computed by
    ``workers`` processes (1: this one), and kept; after an interruption, the next call continues after the finished
    blocks. Of two processes on one folder, one computes and the other waits.

    Raises MusictagError for a damaged block, if the folder cannot be written to, and if a worker is killed.
    """
    rows = store.rows_of(song_ids)
    entries = store.audio_names(rows)
    if len(_missing(folder, entries)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with folder_lock(folder, "computing features in"):
                write_json(folder / "about.json", about)
                _compute(folder, rows, entries, partial(write_block, store, folder, compute), workers)
        except OSError as error:
            raise MusictagError(f"cannot write to {folder}: {error}; use another folder with data_dir=...") from error
    # together: another process may be adding some
    blocks = pa.concat_tables(_read(folder, ["audio", "features"], entries))
    features = blocks["features"]
    if pa.types.is_binary(features.type):  # offsets of 32 bits end at 2 GiB of all blocks together
        features = features.cast(pa.large_binary())
    return features.take(pc.index_in(entries, blocks["audio"]))


def _read(folder: Path, columns: list[str], entries: pa.Array | None = None) -> list[pa.Table]:
    """These columns of every block, of ``entries`` only if given; raises MusictagError for a damaged block."""
    blocks = []
    for path in sorted(folder.glob("*.parquet")):
        try:
            block = pq.read_table(path, columns=columns, page_checksum_verification=True, partitioning=None)
            blocks.append(block if entries is None else block.filter(pc.is_in(block["audio"], entries)))
        except (pa.ArrowException, OSError) as error:
            raise MusictagError(
                f"{path} is damaged: delete it and rerun the command, which computes its songs again ({error})"
            ) from error
    return blocks


def _missing(folder: Path, entries: pa.Array) -> np.ndarray:
    """Rows of ``entries`` that are in no block, int64."""
    known = [chunk for block in _read(folder, ["audio"]) for chunk in block["audio"].chunks]
    there = pc.is_in(entries, pa.chunked_array(known, pa.string()))
    return np.flatnonzero(~there.to_numpy(zero_copy_only=False))


def _compute(folder: Path, rows: np.ndarray, entries: pa.Array, write: Callable[..., int], workers: int) -> None:
    """Compute what is missing of the songs at ``rows`` of the store; the caller holds the folder's lock."""
    for leftover in folder.glob(".*.part"):  # left by killed processes
        leftover.unlink()
    missing = _missing(folder, entries)
    if not len(missing):  # the process that we waited for computed the same
        return
    missing = missing[np.argsort(rows[missing])]  # the index is sorted by song, and neighbours often share a shard
    rows, wanted = rows[missing], entries.take(pa.array(missing))
    size = int(np.clip(len(rows) // _WANTED_BLOCKS, *_SONGS_PER_BLOCK))
    blocks = [(rows[i : i + size], wanted.slice(i, size)) for i in range(0, len(rows), size)]
    with Progress("computing features", len(rows), when_stopped="; finished blocks are kept") as progress:
        done = 0
        for count in _written(write, blocks, workers):
            done += count
            progress.show(done)


def _written(write: Callable[..., int], blocks: list[Block], workers: int) -> Iterator[int]:
    """Write all blocks; yields the number of songs in each when it is finished."""
    workers = min(workers, len(blocks))
    if workers == 1:
        yield from (write(*block) for block in blocks)
        return
    context = multiprocessing.get_context("spawn")
    with single_threaded_children(), ProcessPoolExecutor(workers, context, _start_worker, (write,)) as pool:
        try:
            for future in as_completed([pool.submit(_work, *block) for block in blocks]):
                yield future.result()
        except BrokenProcessPool as error:
            raise MusictagError(
                "a worker process died while computing features (killed, or out of memory). Finished blocks are kept: "
                "rerun the command to continue, with fewer data.prepare_workers if necessary"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def write_block(store: Store, folder: Path, compute: Compute, rows: np.ndarray, entries: pa.Array) -> int:
    """Compute the features of the songs at ``rows`` of ``store``, one for each of ``entries``, and write their block,
    atomically; returns the number of songs."""
    # features rarely repeat: dictionary encoding would only cost time
    table = pa.table({"audio": entries, "features": compute(store, rows)})
    name = hashlib.blake2b("\n".join(entries.to_pylist()).encode(), digest_size=8).hexdigest()
    with atomic_write(folder / f"{name}.parquet") as file:
        pq.write_table(table, file, write_page_checksum=True, use_dictionary=False)
    return len(rows)


_worker: list[Callable[..., int]] = []


def _start_worker(write: Callable[..., int]) -> None:
    follow_parent()
    _worker.append(write)


def _work(rows: np.ndarray, entries: pa.Array) -> int:
    return _worker[0](rows, entries)
