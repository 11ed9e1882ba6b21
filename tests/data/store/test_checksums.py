"""Damaged audio is not trained on: any damage of a shard is detected on reading, named, and repaired."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from musictag.common.errors import MusictagError
from musictag.data.datasets.catalogue import CatalogueFile
from musictag.data.preparation.prepare import prepare
from musictag.data.store import checksums as checksums_module
from musictag.data.store import store as store_module
from musictag.data.store.checksums import BLOCK_SAMPLES, CheckedBlocks, ShardChecksums, checksum_bytes, num_blocks
from musictag.data.store.store import HEADER_BYTES, Store, read_index, samples_end, shard_bytes, shard_path
from tests.helpers.preparations import CountingCatalogue, contents

SEED = 0


@pytest.fixture
def store(tiny_catalogue: Path, tmp_path: Path) -> Store:
    """24 songs in five shards."""
    return prepare(CatalogueFile(tiny_catalogue), tmp_path / "data", songs_per_shard=5).store


def place(store: Store, song_id: str) -> tuple[Path, int, int]:
    """The shard of a song, its first sample there, and its length."""
    index = read_index(store.folder)
    row = index["song_id"].to_pylist().index(song_id)
    return (
        shard_path(store.folder, index["shard"][row].as_py()),
        index["offset"][row].as_py(),
        index["samples"][row].as_py(),
    )


def flip(path: Path, byte: int, bit: int = 0) -> None:
    with path.open("r+b") as file:
        file.seek(byte)
        (value,) = file.read(1)
        file.seek(byte)
        file.write(bytes([value ^ 1 << bit]))


def flip_sample(store: Store, song_id: str, sample: int) -> Path:
    """One wrong bit in a sample of a song; returns its shard."""
    path, offset, _ = place(store, song_id)
    flip(path, HEADER_BYTES + 2 * (offset + sample), bit=3)
    return path


def read_all(store: Store) -> list[bytes]:
    return [store.read(row).tobytes() for row in range(len(store))]


@pytest.mark.parametrize("pieces", ["one", "songs", "samples"])
def test_checksums_do_not_depend_on_the_pieces_in_which_the_samples_come(pieces: str) -> None:
    rng = np.random.default_rng(0)
    samples = rng.integers(-(2**15), 2**15, 3 * BLOCK_SAMPLES + 77, dtype=np.int16)
    cuts = {"one": [], "songs": [5, BLOCK_SAMPLES, 2 * BLOCK_SAMPLES + 1], "samples": range(1, len(samples), 1009)}
    checksums = ShardChecksums()
    for piece in np.split(samples, cuts[pieces]):
        checksums.update(piece)
    # a checksum of each block, and one of them all
    alone = []
    for first in range(0, len(samples), BLOCK_SAMPLES):
        block = ShardChecksums()
        block.update(samples[first : first + BLOCK_SAMPLES])
        alone.append(block.to_bytes()[:4])
    whole = np.array([checksums.whole], dtype="<u4").tobytes()
    assert checksums.to_bytes() == b"".join(alone) + whole
    assert len(alone) == num_blocks(len(samples)) == 4
    assert checksum_bytes(len(samples)) == 4 * 5


def test_any_wrong_bit_of_a_shard_is_detected_on_reading(store: Store) -> None:
    """Header, samples and checksums alike: 300 single bits, in any of the shards."""
    paths = sorted((store.folder / "shards").iterdir())
    rng = np.random.default_rng(0)
    whole = read_all(store)
    for number in range(300):
        path = paths[rng.integers(len(paths))]
        size = path.stat().st_size
        beginnings = [rng.integers(HEADER_BYTES), rng.integers(size), rng.integers(size - 40, size)]
        byte, bit = int(beginnings[number % 3]), int(rng.integers(8))
        flip(path, byte, bit)
        with pytest.raises(MusictagError, match=rf"shard {path} is damaged: .*Affected songs: "):
            read_all(Store(store.folder))
        assert [found.name for found in Store(store.folder).damaged_shards(np.arange(5))] == [path.name]
        flip(path, byte, bit)
    assert read_all(Store(store.folder)) == whole


def test_only_the_songs_in_the_damaged_block_are_named_and_the_others_can_be_read(store: Store) -> None:
    path, offset, samples = place(store, "train-03")
    sample = samples // 2
    flip_sample(store, "train-03", sample)
    begin = (offset + sample) // BLOCK_SAMPLES * BLOCK_SAMPLES
    there, names = [], [f"train-{number:02d}" for number in range(5)]
    for name in names:
        _, first, length = place(store, name)
        if first < begin + BLOCK_SAMPLES and first + length > begin:
            there.append(name)
    assert "train-03" in there
    assert len(there) < 5
    for name in names:
        (row,) = store.rows_of(np.array([name]))
        fresh = Store(store.folder)
        if name not in there:
            fresh.read(row)
            fresh.patches(np.array([row]), np.array([0]), 1000)
            continue
        with pytest.raises(MusictagError) as caught:
            fresh.read(row)
        assert f"shard {path} is damaged: samples {begin} to " in str(caught.value)
        assert f"Affected songs: {', '.join(there)}. " in str(caught.value)
        assert f"rm -f {path}" in str(caught.value)
    # the samples before and after the block in the same song are intact
    (row,) = store.rows_of(np.array(["train-03"]))
    before = begin - offset
    assert before > 0
    assert len(Store(store.folder).read(row, 0, before)) == before
    with pytest.raises(MusictagError, match="train-03"):
        Store(store.folder).patches(np.array([row]), np.array([before - 100]), 101)
    Store(store.folder).patches(np.array([row]), np.array([before - 101]), 101)


def test_margins_and_short_songs_are_compared_too(store: Store) -> None:
    lengths = store.num_samples
    (long,) = store.rows_of(np.array(["train-03"]))
    start = int(lengths[long]) - 2000
    _, offset, _ = place(store, "train-03")
    boundary = (offset + start) // BLOCK_SAMPLES * BLOCK_SAMPLES - offset  # a block ends there
    flip_sample(store, "train-03", boundary - 1)
    store.patches(np.array([long]), np.array([boundary]), 500)
    with pytest.raises(MusictagError, match="train-03"):
        store.patches(np.array([long]), np.array([boundary]), 500, (1, 0))
    short = int(np.argmin(lengths))
    flip_sample(store, store.song_ids[short], int(lengths[short]) - 1)
    with pytest.raises(MusictagError, match=str(store.song_ids[short])):
        store.patches(np.array([short]), np.array([0]), int(lengths[short]) + 1000)


def test_a_short_song_after_damaged_neighbours_is_readable(store: Store) -> None:
    """What a patch exceeds its song by must not be searched in the next one."""
    index = read_index(store.folder)
    last_of_shard = index["offset"].to_numpy() + index["samples"].to_numpy() == index["shard_samples"].to_numpy()
    rows = np.flatnonzero(last_of_shard)
    assert len(rows) == 5
    patch = int(store.num_samples.max()) + BLOCK_SAMPLES
    for row in rows:
        block = store.patches(np.array([row]), np.array([0]), patch)
        np.testing.assert_array_equal(block[0, : store.num_samples[row]], store.read(int(row)))


def test_a_block_is_compared_once_in_a_process(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    original = checksums_module.Shard.damaged_block

    def counting(shard: checksums_module.Shard, blocks: list[int]) -> int | None:
        compared.extend(blocks)
        return original(shard, blocks)

    monkeypatch.setattr(checksums_module.Shard, "damaged_block", counting)
    index = read_index(store.folder)
    shards = dict(zip(index["shard"].to_pylist(), index["shard_samples"].to_pylist(), strict=True))
    blocks = sum(num_blocks(samples) for samples in shards.values())
    rows, starts = np.arange(24), np.zeros(24, dtype=np.int64)
    store.patches(rows, starts, 8000)
    some = len(compared)
    assert 5 <= some < blocks
    store.patches(rows, starts, 8000)
    assert len(compared) == some
    monkeypatch.setattr(store_module, "MAX_OPEN_SHARDS", 1)  # mapped again, and still known to be verified
    whole = read_all(store)
    assert len(compared) == blocks
    assert read_all(store) == whole
    assert len(compared) == blocks
    # another process, which may run on another machine, verifies for itself
    assert read_all(pickle.loads(pickle.dumps(store))) == whole
    assert len(compared) == 2 * blocks


def test_what_was_compared_is_remembered_block_by_block() -> None:
    rng = np.random.default_rng(0)
    samples = rng.integers(1, 40 * BLOCK_SAMPLES, 7)
    checked = CheckedBlocks(samples)
    known = [np.zeros(num_blocks(int(n)), dtype=bool) for n in samples]
    for _ in range(200):
        shards = rng.integers(0, 7, 5)
        firsts = (rng.random(5) * samples[shards]).astype(np.int64)
        lengths = 1 + (rng.random(5) * np.minimum(samples[shards] - firsts, 5 * BLOCK_SAMPLES)).astype(np.int64)
        lengths = np.minimum(lengths, samples[shards] - firsts)
        expected = []
        for shard, first, length in zip(shards, firsts, lengths, strict=True):
            blocks = np.arange(first // BLOCK_SAMPLES, (first + length - 1) // BLOCK_SAMPLES + 1)
            expected.append(known[shard][blocks].all())
            assert checked.unchecked(shard, first, length) == blocks[~known[shard][blocks]].tolist()
        np.testing.assert_array_equal(checked.are_checked(shards, firsts, lengths), expected)
        shard, first, length = int(shards[0]), int(firsts[0]), int(lengths[0])
        blocks = checked.unchecked(shard, first, length)[:2]
        checked.mark(shard, blocks)
        known[shard][blocks] = True
    assert any(shard.any() for shard in known)
    assert not pickle.loads(pickle.dumps(checked)).are_checked(shards, firsts, lengths).any()
    assert checked.unchecked(0, 0, 0) == []


def test_what_a_million_songs_take(tmp_path: Path) -> None:
    """20,000 shards of 64 songs of 30 s: a bit for each of 36 million blocks, and next to nothing in a pickle."""
    checked = CheckedBlocks(np.full(18_750, 64 * 30 * 16000))
    assert len(checked._bits) < 5e6
    assert len(pickle.dumps(checked)) < 200_000
    assert shard_bytes(64 * 30 * 16000) - samples_end(64 * 30 * 16000) < 0.0002 * samples_end(64 * 30 * 16000)


def test_a_shard_without_its_checksums_is_prepared_again(tiny_catalogue: Path, tmp_path: Path, store: Store) -> None:
    """As when the end of a file is lost."""
    whole = contents(store.folder)
    path, _, _ = place(store, "train-07")
    os.truncate(path, path.stat().st_size - 5)
    with pytest.raises(MusictagError, match=rf"{path} is damaged: it has \d+ bytes, not \d+"):
        read_all(Store(store.folder))
    source = CountingCatalogue(tiny_catalogue)
    prepare(source, tmp_path / "data", songs_per_shard=5)
    assert source.read == [f"train-{number:02d}" for number in range(5, 10)]
    assert contents(store.folder) == whole


def test_a_shard_of_another_index_is_refused(store: Store) -> None:
    """Consistent in itself, with the right length and name, but not the shard in the index."""
    path, _, _ = place(store, "train-00")
    index = read_index(store.folder)
    samples = index["shard_samples"][index["shard"].to_pylist().index(path.stem)].as_py()
    content, other = path.read_bytes(), ShardChecksums()
    other.update(np.arange(samples, dtype=np.int16))
    path.write_bytes(content[:HEADER_BYTES] + np.arange(samples, dtype="<i2").tobytes() + other.to_bytes())
    with pytest.raises(MusictagError, match="its checksums belong to other samples"):
        read_all(Store(store.folder))
    assert list(Store(store.folder).damaged_shards(np.arange(5))) == [path]
