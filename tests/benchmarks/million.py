"""A catalogue of the paper's largest size, 1.2 million songs with 139 tags, and the cost of training on it.

The table is generated; the shards are sparse files of full length without content, so that 1.1 TB of audio take no disk
space. They are read by the same code as a real catalogue. Legend: S songs, K tags.
"""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from musictag.data.datasets.catalogue import CatalogueFile
from musictag.data.loading.datamodule import SongDataModule
from musictag.data.loading.patch_datasets import TrainPatches
from musictag.data.loading.samplers import TrainBatches
from musictag.data.preparation.blocks import write_index
from musictag.data.random_draws import epoch_order, song_keys, subset_order
from musictag.data.store.checksums import ShardChecksums
from musictag.data.store.folder import prepared_folder
from musictag.data.store.store import INDEX_FILE, INDEX_SCHEMA, SHARD_FOLDER, samples_end, shard_header, shard_path
from musictag.evaluation.song_metrics import song_metrics
from tests.benchmarks.figures import Figure

NUM_SONGS = 1_200_000
CLASSIFICATION_TAGS = 100
REGRESSION_TAGS = 39
SUBSETS = (100_000, 500_000, 1_000_000)
TEST_SONGS = 100_000
_SONG_SAMPLES = 30 * 16000
_SONGS_PER_SHARD = 64
_SONGS_PER_ARTIST = 20
_PATCH_SECONDS = 3.0
_BATCH_SIZE = 32
_FURTHER_BATCHES = 50
_WARM_BATCHES = 200


def write_million(folder: Path, num_songs: int = NUM_SONGS) -> Path:
    """A catalogue of ``num_songs`` songs of 30 s in ``folder``, prepared below ``folder``/data; the path of its table.

    Ten of twelve artists are for training, one each for validation and test. The rarest tag has 0.3% positives.
    """
    rng = np.random.default_rng(0)
    songs = np.arange(num_songs)
    artists = songs // _SONGS_PER_ARTIST
    names = {
        "song_id": pa.array([f"song{song:07d}" for song in songs]),
        "path": pa.array([f"{song // 1000:04d}/{song:07d}.mp3" for song in songs]),
    }
    columns: dict[str, Any] = names | {
        "split": np.array(["validation", "test", *["train"] * 10])[artists % 12],
        "group": [f"artist{artist:06d}" for artist in artists],
        "duration": np.full(num_songs, _SONG_SAMPLES / 16000, dtype=np.float32),
    }
    for tag in range(CLASSIFICATION_TAGS):
        prevalence = 0.3 / (tag + 1) + 0.003
        columns[f"class {tag:03d}"] = (rng.random(num_songs, dtype=np.float32) < prevalence).astype(np.float32)
    for tag in range(REGRESSION_TAGS):
        columns[f"measure {tag:02d}"] = rng.random(num_songs, dtype=np.float32)
    path = folder / "catalogue.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=100_000)

    prepared = prepared_folder(CatalogueFile(path), folder / "data")
    (prepared / SHARD_FOLDER).mkdir(parents=True)
    shards = songs // _SONGS_PER_SHARD
    shard_samples = np.bincount(shards) * _SONG_SAMPLES
    shard_names = [f"{shard:016x}" for shard in range(len(shard_samples))]
    silences = {samples: _silence(samples) for samples in np.unique(shard_samples).tolist()}
    for name, samples in zip(shard_names, shard_samples.tolist(), strict=True):
        with shard_path(prepared, name).open("wb") as file:
            file.write(shard_header(samples))
            file.seek(samples_end(samples))
            file.write(silences[samples].to_bytes())
    index = names | {
        # no version: the files are missing, which is allowed once they are prepared
        "version": np.full(num_songs, ""),
        "shard": np.array(shard_names)[shards],
        "offset": songs % _SONGS_PER_SHARD * _SONG_SAMPLES,
        "samples": np.full(num_songs, _SONG_SAMPLES),
        "shard_samples": shard_samples[shards],
        "shard_crc32": np.array(
            [silences[samples].whole for samples in shard_samples[shards].tolist()], dtype=np.uint32
        ),
        "reason": pa.nulls(num_songs, pa.string()),
        "digest": songs.astype(np.uint64),  # as if all of them were different
        "note": pa.nulls(len(songs), pa.string()),
    }
    write_index(prepared / INDEX_FILE, pa.table(index, schema=INDEX_SCHEMA), 16000)
    return path


def _silence(num_samples: int) -> ShardChecksums:
    """The checksums of a shard without content."""
    checksums = ShardChecksums()
    checksums.update(np.zeros(num_samples, dtype=np.int16))
    return checksums


def benchmark() -> Iterator[Figure]:
    """Opening, sampling, subsets and metrics at the paper's largest size."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_million(Path(folder))
        opened = in_fresh_process(opening, path, 2)
        yield Figure("1.2M songs x 139 tags: from nothing to the first batch", opened["first_batch_seconds"], "s")
        yield Figure("resident memory of the main process", opened["main_mb"], "MB")
        yield Figure("at its peak", opened["peak_mb"], "MB")
        yield Figure("own memory of a worker process, the larger of 2", max(opened["worker_mb"]), "MB")
        yield Figure("identity of a run on it", in_fresh_process(identity_seconds, path), "s")
        yield Figure("patches of 3 s from warm memory, one core", in_fresh_process(patch_rate, path), "patches / s")
    yield Figure("order of an epoch", in_fresh_process(order_seconds), "s")
    yield Figure("nested subsets of 100k, 500k and 1M songs", in_fresh_process(subset_seconds), "s")
    scored = in_fresh_process(scoring, TEST_SONGS)
    yield Figure("metrics of 100,000 songs x 139 tags, 1,000 resamples", scored["seconds"], "s")
    yield Figure("peak memory of that process, the songs included", scored["peak_mb"], "MB")


def in_fresh_process(work: Callable[..., Any], *arguments: Any) -> Any:
    """The result of ``work`` in its own process, so that its memory does not include that of earlier work."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def opening(path: Path, num_workers: int) -> dict[str, Any]:
    """Opens a prepared catalogue and draws batches: seconds until the first, and memory after some more."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    data = _open(path, num_workers)
    batches = iter(data.train_dataloader())
    batch = next(batches)
    seconds = time.perf_counter() - began
    shape = tuple(batch["audio"].shape), tuple(batch["target"].shape)
    for _ in islice(batches, _FURTHER_BATCHES):
        pass
    workers = [_own_megabytes(process.pid) for process in multiprocessing.active_children()]
    batches.close()  # ends the prefetch thread
    return {
        "first_batch_seconds": seconds,
        "shape": shape,
        "main_mb": resident_megabytes(),
        "peak_mb": peak_megabytes(),
        "worker_mb": workers,
    }


def identity_seconds(path: Path) -> float:
    """Time to compute the identity of a run on this catalogue, given its table."""
    source = CatalogueFile(path)
    manifest = source.manifest()
    began = time.perf_counter()
    manifest.digest()
    source.versions(manifest)
    return time.perf_counter() - began


def patch_rate(path: Path) -> float:
    """Patches per second in batches, with samples in the page cache and shards mapped."""
    torch.set_num_threads(1)
    data = _open(path, num_workers=0)
    loader = data.train_dataloader()
    patches: TrainPatches = loader.dataset
    batches: TrainBatches = loader.batch_sampler
    some = [batch for _, batch in zip(range(_WARM_BATCHES), batches, strict=False)]

    def draw() -> float:
        began = time.perf_counter()
        for batch in some:
            patches.__getitems__(batch)
        return len(some) * _BATCH_SIZE / (time.perf_counter() - began)

    draw()
    return statistics.median(draw() for _ in range(5))


def order_seconds() -> float:
    began = time.perf_counter()
    epoch_order(NUM_SONGS, seed=0, epoch=1)
    return time.perf_counter() - began


def subset_seconds() -> float:
    """The steps of the scaling study: the songs' keys, their order, and the subsets taken from it."""
    ids = np.array([f"song{song:07d}" for song in range(NUM_SONGS)], dtype=object)
    began = time.perf_counter()
    order = subset_order(song_keys(ids), seed=0)
    subsets = [np.sort(order[:size]) for size in SUBSETS]
    seconds = time.perf_counter() - began
    smaller_in_larger = (np.isin(small, large).all() for small, large in pairwise(subsets))
    if not all(smaller_in_larger):
        raise RuntimeError("the subsets are not nested")
    return seconds


def scoring(num_songs: int, resamples: int = 1000) -> dict[str, float]:
    """Song-level metrics of random scores, including intervals."""
    rng = np.random.default_rng(0)
    num_tags = CLASSIFICATION_TAGS + REGRESSION_TAGS
    scores = rng.random((num_songs, num_tags), dtype=np.float32)
    targets = rng.random((num_songs, num_tags), dtype=np.float32)
    for tag in range(CLASSIFICATION_TAGS):
        targets[:, tag] = targets[:, tag] < 0.3 / (tag + 1) + 0.003
    kinds = ["classification"] * CLASSIFICATION_TAGS + ["regression"] * REGRESSION_TAGS
    began = time.perf_counter()
    song_metrics(scores, targets, [str(tag) for tag in range(num_tags)], kinds, resamples=resamples)
    return {"seconds": time.perf_counter() - began, "peak_mb": peak_megabytes()}


def _open(path: Path, num_workers: int) -> SongDataModule:
    data = SongDataModule(
        CatalogueFile(path),
        path.parent / "data",
        patch_seconds=_PATCH_SECONDS,
        batch_size=_BATCH_SIZE,
        num_workers=num_workers,
    )
    data.prepare_data()
    data.setup()
    return data


def _own_megabytes(pid: int) -> float:
    """Private memory of a process, without pages of shards, which belong to the system's cache."""
    return _megabytes(pid, "Private_Dirty")


def _megabytes(process: int | str, entry: str) -> float:
    """An entry of Linux's summary of a process's memory."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{entry}:")) / 1000


def resident_megabytes() -> float:
    """Memory of this process that is in RAM."""
    return _megabytes("self", "Rss")


def peak_megabytes() -> float:
    """Peak memory of this process; unlike resource.getrusage, without its parent's peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1000
