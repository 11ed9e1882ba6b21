"""A split that musictag makes keeps copies of a recording together."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from musictag.common.errors import MusictagError
from musictag.data.datasets.catalogue import CatalogueFile
from musictag.data.preparation.prepare import prepare
from tests.data.catalogue.test_copies import SPLITS, twins
from tests.helpers.catalogues import read_rows, write_table


def unsplit(folder: Path, count: int = 60, every: int = 6) -> tuple[Path, np.ndarray]:
    """Songs of which every ``every``-th is a copy of the previous one, and which recording each song is."""
    (folder / "audio").mkdir(parents=True)
    recordings, rows = np.arange(count), []
    recordings[every - 1 :: every] -= 1
    for number, recording in enumerate(recordings.tolist()):
        # equal lengths, so that sizes say nothing
        (folder / f"audio/{number}.wav").write_bytes(b"recording %04d" % recording)
        rows.append({"path": f"audio/{number}.wav", "high": number % 2})
    return write_table(folder / "c.csv", rows), recordings


def check_together(splits: np.ndarray, recordings: np.ndarray) -> None:
    for recording in set(recordings.tolist()):
        assert len(set(splits[recordings == recording])) == 1, recording
    assert set(splits) == set(SPLITS)


def splits_of(path: Path, **settings: object) -> np.ndarray:
    return np.array(CatalogueFile(path, **settings).manifest().column("split").to_pylist())


def test_a_split_keeps_identical_files_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, recordings = unsplit(tmp_path / "a")
    splits = splits_of(path)
    check_together(splits, recordings)
    assert "20 songs that are copies of each other kept together" in capsys.readouterr().err
    # without keeping copies together, some would be divided
    other, _ = unsplit(tmp_path / "b")
    for number in range(60):
        (tmp_path / f"b/audio/{number}.wav").write_bytes(b"recording %04d" % number)
    apart = splits_of(other)
    assert any(len(set(apart[recordings == recording])) > 1 for recording in set(recordings.tolist()))
    assert "copies" not in capsys.readouterr().err
    # the order of the rows does not matter
    shutil.copytree(tmp_path / "a", tmp_path / "c", ignore=shutil.ignore_patterns("*.split-*"))
    rows = read_rows(tmp_path / "c/c.csv")
    for order in (np.arange(60)[::-1], np.random.default_rng(0).permutation(60)):
        write_table(tmp_path / "c/c.csv", [rows[row] for row in order])
        np.testing.assert_array_equal(splits_of(tmp_path / "c/c.csv"), splits[order])
        (tmp_path / "c/c.split-0.csv").unlink()


def test_artists_that_share_a_recording_are_one_group(tmp_path: Path) -> None:
    path, recordings = unsplit(tmp_path, count=120, every=10)
    rows = read_rows(path)
    for number, row in enumerate(rows):
        # two songs per artist: copies are by consecutive artists
        row["artist"] = f"artist {(number + 1) // 2}"
    splits = splits_of(write_table(path, rows))
    check_together(splits, recordings)
    for number in range(1, 60):
        assert splits[2 * number - 1] == splits[2 * number]
    # 9 is a copy of 8, by another artist: so 7, 8, 9 and 10 are in one split
    assert len(set(splits[7:11])) == 1


def test_copies_that_come_later_join_the_songs_that_are_there(tmp_path: Path) -> None:
    path, recordings = unsplit(tmp_path, count=90, every=3)
    rows = read_rows(path)
    whole = np.arange(90) % 3 < 2
    first = splits_of(write_table(path, [row for row, there in zip(rows, whole, strict=True) if there]))
    splits = splits_of(write_table(path, rows))
    np.testing.assert_array_equal(splits[whole], first)
    check_together(splits, recordings)


def test_files_are_only_compared_when_songs_need_a_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = unsplit(tmp_path)
    splits = splits_of(path)
    monkeypatch.setattr(
        "musictag.data.catalogue.copies.same_files", lambda *arguments: pytest.fail("looked for copies")
    )
    np.testing.assert_array_equal(splits_of(path), splits)


def test_prepared_songs_are_compared_by_samples(tmp_path: Path) -> None:
    path = twins(tmp_path)
    rows = [{key: value for key, value in row.items() if key != "split"} for row in read_rows(path)]
    write_table(path, rows)
    data = tmp_path / "data"
    found = []
    for seed in range(8):
        # not prepared yet: files with other bytes are other recordings
        splits = splits_of(path, data_dir=data, split_seed=seed)
        assert splits[2] == splits[13]
        found.append(len({splits[0], splits[5], splits[9]}))
    assert max(found) > 1
    prepare(CatalogueFile(path), data)
    for seed in range(10, 18):
        splits = splits_of(path, data_dir=data, split_seed=seed)
        assert splits[2] == splits[13]
        assert splits[0] == splits[5] == splits[9]


def test_fewer_recordings_than_splits_cannot_be_split(tmp_path: Path) -> None:
    for name in "abcd":
        (tmp_path / name).write_bytes(b"same" if name != "a" else b"else")
    path = write_table(tmp_path / "c.csv", [{"path": name, "high": number % 2} for number, name in enumerate("abcd")])
    with pytest.raises(MusictagError, match=r"4 songs of 2 groups cannot be split.*copies of a recording"):
        splits_of(path)
