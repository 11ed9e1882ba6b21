"""Only the unusable song itself is lost, and problems.csv lists it with its reason."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musictag.common.errors import MusictagError, PassingSongError
from musictag.data.audio import decode
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


def test_a_song_that_could_not_be_reached_is_tried_again(
    tiny_catalogue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = read_rows(tiny_catalogue)
    unread, missing = (tiny_catalogue.parent / row["path"] for row in rows[:2])
    away = missing.rename(tmp_path / "away.wav")
    check = decode._check_file

    def refuse(path: Path) -> None:
        if path == unread:
            raise PassingSongError("cannot be opened (Permission denied)")
        check(path)

    def prepared() -> tuple[list[str], list[str]]:
        source = CountingCatalogue(tiny_catalogue)
        return [reason for *_, reason in prepare(source, tmp_path / "data", max_bad_fraction=0.5).problems], source.read

    monkeypatch.setattr(decode, "_check_file", refuse)
    assert prepared()[0] == ["cannot be opened (Permission denied)", "file not found"]
    assert prepared()[1] == [rows[0]["song_id"]]  # there is still no file of the other one
    monkeypatch.undo()
    away.rename(missing)  # with its old time of change
    assert prepared() == ([], [row["song_id"] for row in rows[:2]])


def test_prepared_audio_outlives_its_file(tiny_catalogue: Path, tmp_path: Path) -> None:
    rows = read_rows(tiny_catalogue)
    before = prepare(CatalogueFile(tiny_catalogue), tmp_path / "data")
    audio = before.store.read(int(before.store.rows_of([rows[0]["song_id"]])[0]))
    (tiny_catalogue.parent / rows[0]["path"]).unlink()
    old, rows[0]["path"] = rows[0]["path"], "audio/elsewhere.wav"
    write_table(tiny_catalogue, rows)
    for _ in range(2):
        after = prepare(CatalogueFile(tiny_catalogue), tmp_path / "data")
        assert after.problems == []
        note = f"file not found: audio/elsewhere.wav; what was prepared from {old} is used"
        assert after.notes == [(rows[0]["song_id"], "audio/elsewhere.wav", note)]
        np.testing.assert_array_equal(after.store.read(int(after.store.rows_of([rows[0]["song_id"]])[0])), audio)


def test_a_shard_that_is_lost_while_the_files_are_away_comes_back_with_them(
    tiny_catalogue: Path, tmp_path: Path
) -> None:
    before = prepare(CatalogueFile(tiny_catalogue), tmp_path / "data", songs_per_shard=8)
    folder = tiny_catalogue.parent / "audio"
    shard = next((before.store.folder / "shards").glob("*.npy"))
    whole = shard.read_bytes()
    shard.unlink()
    folder.rename(tmp_path / "away")
    after = prepare(CatalogueFile(tiny_catalogue), tmp_path / "data", songs_per_shard=8, max_bad_fraction=0.5)
    assert {reason for *_, reason in after.problems} == {"file not found"}
    (tmp_path / "away").rename(folder)
    assert prepare(CatalogueFile(tiny_catalogue), tmp_path / "data", songs_per_shard=8).problems == []
    assert shard.read_bytes() == whole
