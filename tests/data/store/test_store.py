"""The prepared audio: reading returns what was written, and damage is detected."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from musictag.common.errors import MusictagError
from musictag.data.audio.patches import fit_length
from musictag.data.datasets.catalogue import CatalogueFile
from musictag.data.preparation.prepare import prepare
from musictag.data.store import store as store_module
from musictag.data.store.store import Store, read_index, shard_header
from tests.helpers.preparations import damaged_shards


@pytest.fixture
def source(tiny_catalogue: Path) -> CatalogueFile:
    return CatalogueFile(tiny_catalogue)


@pytest.fixture
def store(source: CatalogueFile, tmp_path: Path) -> Store:
    return prepare(source, tmp_path / "data", songs_per_shard=5).store


def songs_of(source: CatalogueFile, store: Store) -> list[np.ndarray]:
    manifest, reader = source.manifest(), source.reader()
    paths = dict(zip(manifest.song_ids, manifest.paths, strict=True))
    return [reader(song_id, paths[song_id]) for song_id in store.song_ids]


def shards(store: Store) -> list[Path]:
    return sorted((store.folder / "shards").glob("*.npy"))


def test_every_sample_of_every_song_is_stored(source: CatalogueFile, store: Store) -> None:
    assert (len(store), store.sample_rate, len(shards(store))) == (24, 16000, 5)
    for row, song in enumerate(songs_of(source, store)):
        np.testing.assert_array_equal(store.read(row), song)
        np.testing.assert_array_equal(store.read(row, 100, 50), song[100:150])
        assert store.num_samples[row] == len(song)
    ids = source.manifest().song_ids
    np.testing.assert_array_equal(store.song_ids[store.rows_of(ids)], ids)


def test_the_name_of_a_songs_audio_is_its_place_and_checksum(store: Store) -> None:
    rows = np.array([3, 17, 0])
    index = read_index(store.folder).to_pylist()
    places = [[index[row][column] for column in ("shard", "shard_crc32", "offset", "samples")] for row in rows]
    assert store.audio_names(rows).to_pylist() == ["-".join(map(str, place)) for place in places]
    assert len(set(store.audio_names(np.arange(24)).to_pylist())) == 24
    assert len(store.audio_names(rows[:0])) == 0


def test_margins_are_the_songs_samples_and_silence_beyond(source: CatalogueFile, store: Store) -> None:
    songs = songs_of(source, store)
    patch, margins = 3 * 16000, (700, 300)
    rows, starts = [], []
    for row, song in enumerate(songs):
        for start in {0, 500, (len(song) - patch) // 2, len(song) - patch - 100, len(song) - patch}:
            if 0 <= start <= max(len(song) - patch, 0):
                rows.append(row)
                starts.append(start)
    block = store.patches(np.array(rows), np.array(starts), patch, margins)
    bare = store.patches(np.array(rows), np.array(starts), patch)
    np.testing.assert_array_equal(block[:, 700:-300], bare)
    for heard, row, start in zip(block, rows, starts, strict=True):
        around = np.pad(fit_length(songs[row], patch), margins)
        np.testing.assert_array_equal(heard, around[start : start + 700 + patch + 300])


def test_shards_are_plain_numpy_files(store: Store) -> None:
    loaded = [np.load(path, mmap_mode="r", allow_pickle=False) for path in shards(store)]
    assert sum(map(len, loaded)) == store.num_samples.sum()
    assert all(array.dtype == np.int16 for array in loaded)
    for length in (0, 7, 10**12):
        assert len(shard_header(length)) == 128


def test_patches_come_in_one_block_and_short_songs_are_repeated(source: CatalogueFile, store: Store) -> None:
    songs = songs_of(source, store)
    patch = 3 * 16000  # songs have 1 to 5 s
    assert store.num_samples.min() < patch < store.num_samples.max()
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(store), 200)
    starts = rng.integers(0, np.maximum(store.num_samples[rows] - patch, 0) + 1)
    block = store.patches(rows, starts, patch)
    assert (block.shape, block.dtype, block.base) == ((200, patch), np.int16, None)
    for got, row, start in zip(block, rows, starts, strict=True):
        np.testing.assert_array_equal(got, fit_length(songs[row], patch)[start : start + patch])


def test_patches_beyond_a_song_are_refused(store: Store) -> None:
    end = int(store.num_samples[0])
    for start, length in ((-1, 10), (end - 9, 10), (1, end)):
        with pytest.raises(IndexError):
            store.patches(np.array([0]), np.array([start]), length)
        with pytest.raises(IndexError):
            store.read(0, start, length)
    with pytest.raises(IndexError, match="beyond"):
        store.patches(np.array([0]), np.array([1]), end + 5)  # a song shorter than the patch starts at 0


def test_a_pickled_store_reopens_its_shards_and_holds_no_descriptors(store: Store) -> None:
    everything = store.patches(np.arange(24), np.zeros(24, dtype=np.int64), 8000)
    # Only this store's: what other tests left to the garbage collector may close its own at any moment.
    held = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    assert [path for path in held if path.startswith(os.path.realpath(store.folder))] == []
    copy = pickle.loads(pickle.dumps(store))
    assert copy._open == {}
    assert len(pickle.dumps(store)) < 20_000
    np.testing.assert_array_equal(copy.patches(np.arange(24), np.zeros(24, dtype=np.int64), 8000), everything)


def test_unknown_songs_and_empty_folders_say_so(store: Store, tmp_path: Path) -> None:
    with pytest.raises(MusictagError, match=r"1 songs are not in .*nobody"):
        store.rows_of(np.array([store.song_ids[0], "nobody"]))
    with pytest.raises(MusictagError, match="holds no prepared audio"):
        Store(tmp_path)


@pytest.mark.parametrize("damage", ["missing", "cut", "header"])
def test_a_damaged_shard_is_named_and_only_its_songs_are_prepared_again(
    source: CatalogueFile, store: Store, tmp_path: Path, damage: str
) -> None:
    path = shards(store)[2]
    whole = path.read_bytes()
    others = {other: other.stat().st_mtime_ns for other in shards(store) if other != path}
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(whole[: -4 * 2**10])
    else:
        path.write_bytes(b"\0" * 128 + whole[128:])
    with pytest.raises(MusictagError, match=f"{path.name}.*(cannot be opened|damaged)"):
        store.patches(np.arange(24), np.zeros(24, dtype=np.int64), 8000)
    if damage == "header":  # of the right size, so the advice is to delete it
        path.unlink()
    again = prepare(source, tmp_path / "data", songs_per_shard=5).store
    assert path.read_bytes() == whole
    assert {other: other.stat().st_mtime_ns for other in others} == others
    assert damaged_shards(again) == []


@pytest.mark.parametrize("place", [5000, -1, -5], ids=["samples", "their sum", "a block's sum"])
def test_a_single_wrong_bit_is_found(store: Store, place: int) -> None:
    assert damaged_shards(store) == []
    path = shards(store)[1]
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert damaged_shards(Store(store.folder)) == [path]


def test_a_damaged_index_is_named(store: Store) -> None:
    path = store.folder / "index.parquet"
    whole = path.read_bytes()
    for damaged in (b"", whole[:-50], whole[:100] + bytes([whole[100] ^ 1]) + whole[101:]):
        path.write_bytes(damaged)
        with pytest.raises(MusictagError, match=r"index\.parquet is damaged"):
            Store(store.folder)


def test_a_process_keeps_a_limited_number_of_shards_open(
    source: CatalogueFile, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MAX_OPEN_SHARDS", 1)
    songs = songs_of(source, store)
    assert len(store.shards_of(np.arange(24))) > 1
    for row in [0, 23, 1, 22]:
        np.testing.assert_array_equal(store.read(row), songs[row])
        assert len(store._open) == 1
