"""Only the unusable song itself is lost, and problems.csv lists it with its reason."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musictag.common.errors import MusictagError
from musictag.data.datasets.catalogue import CatalogueFile
from musictag.data.preparation.prepare import prepare
from tests.helpers.catalogues import read_rows, synthetic_song, write_table
from tests.helpers.marks import first_fast
from tests.helpers.preparations import CountingCatalogue


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def replace_by_text(path: Path) -> None:
    path.write_text("These are the words of a song.\n" * 100)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere.wav")


def replace_by_silence(path: Path) -> None:
    soundfile.write(path, np.zeros(16000), 16000)


def replace_by_nothing_to_hear(path: Path) -> None:
    soundfile.write(path, np.zeros(0), 16000)


def flip_header(path: Path) -> None:
    path.write_bytes(bytes(255 - byte for byte in path.read_bytes()[:64]) + path.read_bytes()[64:])


#: What happens to a song's file, and the expected reason.
DAMAGES = {
    Path.unlink: "file not found",
    cut_in_half: "cut short",
    os.truncate: "empty file",
    replace_by_text: "cannot be read as audio: it is text",
    replace_by_folder: "not a file",
    replace_by_dangling_link: "file not found",
    replace_by_silence: "silent",
    replace_by_nothing_to_hear: "empty: no samples",
    flip_header: "cannot be read as audio",
}


@pytest.mark.parametrize("workers", first_fast([2, 1]))
def test_any_problem_of_a_file_costs_only_that_song(tiny_catalogue: Path, tmp_path: Path, workers: int) -> None:
    rows = read_rows(tiny_catalogue)
    for row, damage in zip(rows, DAMAGES, strict=False):
        path = tiny_catalogue.parent / row["path"]
        damage(path, 0) if damage is os.truncate else damage(path)
    # a misleading name is not damage
    mislabelled = tiny_catalogue.parent / rows[-1]["path"]
    rows[-1]["path"] = "audio/in truth a wav.mp3"
    mislabelled.rename(tiny_catalogue.parent / rows[-1]["path"])
    write_table(tiny_catalogue, rows)

    source = CatalogueFile(tiny_catalogue)
    prepared = prepare(source, tmp_path / "data", workers=workers, songs_per_shard=4, max_bad_fraction=0.5)
    bad = len(DAMAGES)
    assert [song_id for song_id, _, _ in prepared.problems] == [row["song_id"] for row in rows[:bad]]
    listed = {row["song_id"]: row for row in read_rows(prepared.store.folder / "problems.csv")}
    assert len(listed) == bad
    for row, reason in zip(rows, DAMAGES.values(), strict=False):
        assert listed[row["song_id"]]["path"] == row["path"]
        assert reason in listed[row["song_id"]]["reason"]
    assert prepared.manifest.song_ids.tolist() == [row["song_id"] for row in rows[bad:]]
    reader = source.reader()
    for song_id, path in zip(prepared.manifest.song_ids, prepared.manifest.paths, strict=True):
        (row,) = prepared.store.rows_of(np.array([song_id]))
        np.testing.assert_array_equal(prepared.store.read(row), reader(song_id, path))


def test_bad_songs_are_left_out_and_listed(tiny_catalogue: Path, tmp_path: Path) -> None:
    audio = tiny_catalogue.parent / "audio"
    (audio / "train-00.wav").unlink()
    (audio / "test-01.wav").write_bytes(b"garbage")
    source = CatalogueFile(tiny_catalogue)
    with pytest.raises(
        MusictagError, match=r"(?s)2 of 24 songs .*max_bad_fraction=0.05.*1 x file not found, for example train-00"
    ):
        prepare(source, tmp_path / "data", max_bad_fraction=0.05)
    prepared = prepare(source, tmp_path / "data", max_bad_fraction=0.1)
    assert [problem[:2] for problem in prepared.problems] == [
        ("train-00", "audio/train-00.wav"), ("test-01", "audio/test-01.wav"),
    ]  # fmt: skip
    assert len(prepared.manifest) == len(prepared.store) == 22
    listed = read_rows(prepared.store.folder / "problems.csv")
    assert [row["song_id"] for row in listed] == ["test-01", "train-00"]
    assert listed[1]["reason"] == "file not found"
    assert listed[0]["reason"] == "cannot be read as audio: it is text"
    assert {row["used"] for row in listed} == {"no"}

    # repaired files are tried again, and nothing else
    soundfile.write(audio / "train-00.wav", synthetic_song(1, True, True, 0.5, seed=0), 16000)
    again = CountingCatalogue(tiny_catalogue)
    assert len(prepare(again, tmp_path / "data").manifest) == 23
    assert again.read == ["train-00"]
    assert [row["song_id"] for row in read_rows(prepared.store.folder / "problems.csv")] == ["test-01"]


def test_a_block_of_bad_songs_alone_needs_no_shard(tiny_catalogue: Path, tmp_path: Path) -> None:
    for number in range(4):
        (tiny_catalogue.parent / "audio" / f"train-{number:02d}.wav").unlink()
    source = CatalogueFile(tiny_catalogue)
    prepared = prepare(source, tmp_path / "data", songs_per_shard=2, max_bad_fraction=0.5)
    assert (len(prepared.problems), len(prepared.store)) == (4, 20)
    assert len(list((prepared.store.folder / "shards").glob("*.npy"))) == 10
    with pytest.raises(MusictagError, match="24 of 24 songs cannot be used"):
        prepare(CatalogueFile(tiny_catalogue, root=tmp_path), tmp_path / "data")


class WrongCatalogue(CatalogueFile):
    def reader(self):
        return lambda song_id, path: np.zeros(5, dtype=np.float32) if song_id == "train-01" else 1 // 0


def test_a_bug_in_a_reader_is_not_a_bad_song(tiny_catalogue: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"reading song train-00 .* ZeroDivisionError"):
        prepare(WrongCatalogue(tiny_catalogue), tmp_path / "data")
    rows = read_rows(tiny_catalogue)
    write_table(tiny_catalogue, rows[1:])
    with pytest.raises(RuntimeError, match="float32"):
        prepare(WrongCatalogue(tiny_catalogue), tmp_path / "data")
