"""Features on disk: computed once, kept after a kill at any point, and never those of other audio."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from filelock import FileLock
from threadpoolctl import threadpool_limits

from musictag.common.errors import MusictagError
from musictag.data.audio.decode import to_float
from musictag.data.features import cache as feature_store
from musictag.data.features.cache import completed, feature_folder, stored_features
from musictag.data.features.descriptors import feature_names, song_features
from musictag.data.store.store import Store
from tests.helpers.catalogues import ready


@pytest.fixture
def store(tiny_catalogue: Path) -> Store:
    """24 songs of 1 to 5 s."""
    return ready(tiny_catalogue).store


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lengths of the songs whose features this process computes, in their order."""
    lengths = []

    def noted(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        lengths.append(len(waveform))
        return song_features(waveform, sample_rate)

    monkeypatch.setattr(feature_store, "song_features", noted)
    return lengths


def directly(store: Store, song_ids: np.ndarray) -> np.ndarray:
    with threadpool_limits(1):
        return np.stack([song_features(to_float(store.read(row))) for row in store.rows_of(song_ids).tolist()])


def test_features_come_in_the_order_asked_for_and_are_computed_once(store: Store, computed: list[int]) -> None:
    ids = np.random.default_rng(0).permutation(store.song_ids)[:15]
    first = stored_features(store, ids)
    np.testing.assert_array_equal(first, directly(store, ids))
    assert len(computed) == 15
    np.testing.assert_array_equal(stored_features(Store(store.folder), pa.array(ids[::-1])), first[::-1])
    assert len(computed) == 15
    # another subset: only its new songs
    rest = stored_features(store, store.song_ids)
    assert sorted(computed) == sorted(store.num_samples)
    np.testing.assert_array_equal(rest, directly(store, store.song_ids))


@pytest.mark.slow
def test_worker_processes_write_the_same(store: Store, computed: list[int]) -> None:
    found = stored_features(store, store.song_ids, workers=2)
    assert not computed
    np.testing.assert_array_equal(found, directly(store, store.song_ids))


def test_an_interrupted_computation_continues_after_its_blocks(
    store: Store, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = feature_store.song_features

    def interrupted(*arguments: object) -> np.ndarray:
        if len(computed) == 20:
            raise KeyboardInterrupt
        return counting(*arguments)

    monkeypatch.setattr(feature_store, "song_features", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stored_features(store, store.song_ids)
    (feature_folder(store) / ".block.123.part").write_bytes(b"what a killed process was writing")
    assert len(computed) == 20
    monkeypatch.setattr(feature_store, "song_features", counting)
    found = stored_features(store, store.song_ids)
    assert len(computed) == 20 + 8  # two blocks of 8 were written; 4 songs of the third were lost
    np.testing.assert_array_equal(found, directly(store, store.song_ids))
    assert not list(feature_folder(store).glob(".*.part"))


def _die(rows: np.ndarray, entries: pa.Array) -> int:
    """In a worker: the first block is written, whatever the features (to compile librosa takes long), and no other."""
    (write,) = feature_store._worker
    if list(write.args[1].glob("*.parquet")):
        os._exit(9)
    feature_store.song_features = lambda *_: np.zeros(len(feature_names()), np.float32)
    return write(rows, entries)


def test_a_killed_worker_is_reported_and_finished_blocks_are_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_store, "_work", _die)
    with pytest.raises(MusictagError, match="a worker process died while computing features"):
        stored_features(store, store.song_ids, workers=2)
    assert list(feature_folder(store).glob("*.parquet"))


@pytest.mark.parametrize("song", ["train-00", "train-03"])
def test_other_audio_has_its_own_features(tiny_catalogue: Path, song: str) -> None:
    """Also if it has the same length and position in its shard as the old one, as the first song does."""
    store = ready(tiny_catalogue).store
    before = stored_features(store, store.song_ids)
    path = tiny_catalogue.parent / "audio" / f"{song}.wav"
    samples, rate = soundfile.read(path)
    soundfile.write(path, samples[::-1] * 0.5, rate, subtype="PCM_16")
    os.utime(path, ns=(1, 1))
    store = ready(tiny_catalogue).store
    after = stored_features(store, store.song_ids)
    changed = np.flatnonzero((before != after).any(axis=1))
    assert store.song_ids[changed].tolist() == [song]
    np.testing.assert_array_equal(after, directly(store, store.song_ids))


def test_features_of_another_version_are_computed_beside(
    store: Store, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    stored_features(store, store.song_ids[:3])
    monkeypatch.setattr(feature_store, "feature_digest", lambda: "0123abcd")
    stored_features(store, store.song_ids[:3])
    assert len(computed) == 6
    assert len(list(store.folder.glob("features-*"))) == 2


@pytest.mark.parametrize("damage", ["cut", "empty", "bit"])
def test_a_damaged_block_is_named_and_repaired(store: Store, damage: str) -> None:
    found = stored_features(store, store.song_ids)
    block = min(feature_folder(store).glob("*.parquet"))
    content = bytearray(block.read_bytes())
    content[800] ^= 1
    block.write_bytes({"cut": content[:-30], "empty": b"", "bit": content}[damage])
    with pytest.raises(MusictagError, match=f"{block.name} is damaged: delete it"):
        stored_features(store, store.song_ids)
    block.unlink()
    np.testing.assert_array_equal(stored_features(store, store.song_ids), found)


def test_of_two_processes_on_the_same_features_one_computes(store: Store, capfd: pytest.CaptureFixture[str]) -> None:
    folder = feature_folder(store)
    folder.mkdir()
    with FileLock(folder / ".lock"):
        other = threading.Thread(target=stored_features, args=(store, store.song_ids[:3]))
        other.start()
        other.join(0.5)
        assert other.is_alive()
        assert not list(folder.glob("*.parquet"))
    other.join(20)
    assert not other.is_alive()
    assert len(list(folder.glob("*.parquet"))) == 1
    assert "another process is computing features in" in capfd.readouterr().err.replace("\n", " ")


def row_numbers(store: Store, rows: np.ndarray) -> pa.Array:
    """Features that are quickly computed: bytes that tell the row."""
    return pa.array([b"%d" % row for row in rows.tolist()])


def test_blocks_that_another_process_adds_while_they_are_read_change_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, ids = tmp_path / "features", store.song_ids
    completed(store, folder, ids[12:], {}, row_numbers)
    read = pq.read_table

    def read_slowly(path: Path, columns: list[str], **settings: object) -> pa.Table:
        found = read(path, columns=columns, **settings)
        if "features" in columns:
            entries = store.audio_names(np.arange(8))
            pq.write_table(
                pa.table({"audio": entries, "features": row_numbers(store, np.arange(8))}), folder / "0.parquet"
            )
        return found

    monkeypatch.setattr(pq, "read_table", read_slowly)
    found = completed(store, folder, ids[12:], {}, row_numbers)
    assert (folder / "0.parquet").exists()
    assert found.to_pylist() == row_numbers(store, np.arange(12, 24)).to_pylist()


def test_bytes_of_all_blocks_together_may_exceed_two_gigabytes(store: Store, tmp_path: Path) -> None:
    """They are read with offsets of 64 bits: pyarrow joins the blocks to take some songs of them."""
    found = completed(store, tmp_path / "features", store.song_ids[::-1], {}, row_numbers)
    assert found.type == pa.large_binary()
    assert found.to_pylist() == row_numbers(store, np.arange(24)[::-1]).to_pylist()


def test_an_unwritable_folder_is_reported(store: Store) -> None:
    feature_folder(store).write_text("a file where the folder should be")
    with pytest.raises(MusictagError, match=r"cannot write to .*use another folder with data_dir="):
        stored_features(store, store.song_ids[:3])


def test_songs_that_were_not_prepared_are_named(store: Store) -> None:
    with pytest.raises(MusictagError, match=r"1 songs are not in .* such as nobody"):
        stored_features(store, np.array([store.song_ids[0], "nobody"]))
