"""`musictag catalogue` from a folder per genre."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from musictag.experiment import run as experiment
from tests.helpers.experiments import TINY, compose_config, folders
from tests.helpers.labelled import make, refuse, tag_table, trainable, write_folders, write_song


def test_a_folder_per_genre_is_a_catalogue_that_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folders(tmp_path / "genres", {"blues": 8, "hip hop": 8, "rock": 8})
    (tmp_path / "genres" / "blues" / "cover.jpg").write_bytes(b"x")
    (tmp_path / "genres" / "blues" / "._00000.wav").write_bytes(b"x")
    out = tmp_path / "catalogue.csv"
    report = make(capsys, tmp_path / "genres", "-o", out)
    assert "3 tags: blues 8, hip hop 8, rock 8" in report
    assert f"musictag data check {out}" in report
    assert "0 only means that the song was not given the tag" in report
    assert out.read_text().splitlines()[:2] == ["path,blues,hip hop,rock", "genres/blues/00000.wav,1,0,0"]
    manifest = trainable(out, capsys)
    assert tag_table(manifest)["rock"] == {f"genres/rock/{i:05d}.wav" for i in range(8)}
    config = compose_config("data=catalogue", f"data.path={out}", *TINY, "trainer.max_epochs=1", *folders(tmp_path))
    metrics = experiment.run(config)
    assert metrics["songs"]["train"] + metrics["songs"]["validation"] + metrics["songs"]["test"] == 24
    assert [tag["name"] for tag in metrics["test"]["tags"]] == ["blues", "hip hop", "rock"]


def test_folders_that_hold_everything_are_passed_and_deeper_ones_are_artists(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = {f"{g}/{a}/album {n}": 2 for g in ("jazz", "metal") for a in ("Ana", "bo", "Cy") for n in (1, 2)}
    write_folders(tmp_path / "data" / "original", counts)
    report = make(capsys, tmp_path / "data", "-o", tmp_path / "data" / "c.csv")
    assert f"the folders in {tmp_path / 'data' / 'original'}" in report
    manifest = trainable(tmp_path / "data" / "c.csv", capsys)
    assert {tag: len(songs) for tag, songs in tag_table(manifest).items()} == {"jazz": 12, "metal": 12}
    assert sorted(set(manifest.groups)) == ["Ana", "Cy", "bo"]


def test_too_few_artists_to_keep_apart_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folders(tmp_path, {f"{genre}/{artist}": 2 for genre in ("jazz", "metal") for artist in ("Ana", "bo")})
    report = make(capsys, tmp_path, "-o", tmp_path / "c.csv")
    assert "all songs are by Ana and bo, too few to be divided among three splits: left out" in report
    assert len(trainable(tmp_path / "c.csv", capsys)) == 8


def test_folders_of_splits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folders(
        tmp_path, {f"{s}/{g}": 2 for s in ("train", "val", "test") for g in ("pop", "rock")} | {"train/odd": 4}
    )
    report = make(capsys, tmp_path, "-o", tmp_path / "c.parquet")
    assert "odd: no song in test has it" in report
    manifest = trainable(tmp_path / "c.parquet", capsys)
    assert [len(manifest.split(split)) for split in ("train", "validation", "test")] == [4, 4, 4]
    assert set(tag_table(manifest)) == {"pop", "rock"}


def test_reserved_and_strange_names_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("split", "path", "Group", "artist", "duration", "song_id", "R&B, soul", "Ku\u0308nstler;x", "new\nline")
    write_folders(tmp_path / "m", dict.fromkeys(names, 3))
    report = make(capsys, tmp_path / "m", "-o", tmp_path / "c.csv")
    manifest = trainable(tmp_path / "c.csv", capsys)
    expected = {"split (tag)", "path (tag)", "Group (tag)", "artist (tag)", "duration (tag)", "song_id (tag)"}
    assert set(tag_table(manifest)) == expected | {"R&B, soul", "K\u00fcnstler;x", "new line"}
    assert "tag 'split' is in column 'split (tag)'" in report
    assert all(len(songs) == 3 for songs in tag_table(manifest).values())


def test_what_is_left_out_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folders(tmp_path / "m", {"Rock": 3, "rock": 2, "ROCK": 1, "pop": 4, "rare": 2})
    write_song(tmp_path / "m" / "loose.wav")
    (tmp_path / "m" / "pop" / "empty.mp3").write_bytes(b"")
    (tmp_path / "m" / "pop" / "gone.mp3").symlink_to(tmp_path / "nowhere.mp3")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "m" / "linked").symlink_to(tmp_path / "elsewhere")
    os.close(os.open(os.fsencode(tmp_path / "m" / "pop") + b"/P\xe9n.wav", os.O_CREAT))
    report = make(capsys, tmp_path / "m", "-o", tmp_path / "m" / "c.csv")
    for line in (
        "merged into 'Rock': 'ROCK' (1), 'rock' (2)",
        "rare: 2 songs, fewer than 3 (--min-songs)",
        "songs outside of any genre folder (1)",
        "empty files (1)",
        "files that do not exist (1)",
        "links to folders, which are not followed (1)",
        "songs without any tag left (2)",
        r"files whose names are not UTF-8, which no table can hold: rename them (1)",
        "2 tags: Rock 6, pop 4",
    ):
        assert line in report
    assert len(trainable(tmp_path / "m" / "c.csv", capsys)) == 10
    assert "rare 2" in make(capsys, tmp_path / "m", "-o", tmp_path / "m" / "d.csv", "--min-songs", "2")


def test_folders_that_cannot_be_read_are_reported_and_hidden_ones_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folders(tmp_path / "m", {"rock": 3, "pop": 3, "jazz": 3, ".hidden": 1})
    (tmp_path / "m" / ".hidden" / "linked").symlink_to(tmp_path)
    (tmp_path / "m" / ".link").symlink_to(tmp_path)
    listdir, closed = os.listdir, {str(tmp_path / "m" / "jazz")}

    def as_another_user(path: str) -> object:  # root may read everything
        if str(path) in closed:
            raise PermissionError(13, "Permission denied", str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", as_another_user)
    report = make(capsys, tmp_path / "m", "-o", tmp_path / "c.csv")
    assert "left out: folders that cannot be read (1)\n" in report
    assert f"{tmp_path / 'm' / 'jazz'}: Permission denied" in report
    assert "2 tags: pop 3, rock 3" in report
    assert "links to folders" not in report
    closed.add(str(tmp_path / "m"))
    said = refuse(capsys, tmp_path / "m", "-o", tmp_path / "d.csv")
    assert "no songs below" in said
    assert f"{tmp_path / 'm'}: Permission denied" in said


def test_nothing_to_learn_is_an_error_with_the_reasons(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folders(tmp_path / "m", {"rock": 4})
    assert "rock: all 4 songs have it" in refuse(capsys, tmp_path / "m", "-o", tmp_path / "c.csv", "--from", "folders")
    write_folders(tmp_path / "m", {"pop": 1})
    write_folders(tmp_path / "flat", {".": 2})
    assert "no folders for genres, and no genre" in refuse(capsys, tmp_path / "flat", "-o", tmp_path / "c.csv")
    (tmp_path / "none").mkdir()
    assert "no songs below" in refuse(capsys, tmp_path / "none", "-o", tmp_path / "c.csv")
    assert not (tmp_path / "c.csv").exists()


def test_no_file_is_overwritten_unless_forced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folders(tmp_path / "m", {"rock": 3, "pop": 3})
    out = tmp_path / "c.csv"
    out.write_text("mine")
    assert "already exists" in refuse(capsys, tmp_path / "m", "-o", out)
    assert out.read_text() == "mine"
    make(capsys, tmp_path / "m", "-o", out, "--force")
    assert len(trainable(out, capsys)) == 6
    assert "is the table to be read" in refuse(capsys, out, "-o", out, "--force")
    assert "-o" in refuse(capsys, tmp_path / "m", "-o", tmp_path / "c.xlsx")


def test_songs_elsewhere_need_a_root(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folders(tmp_path / "home" / "m", {"rock": 3, "pop": 3})
    (tmp_path / "work").mkdir()
    said = refuse(capsys, tmp_path / "home" / "m", "-o", tmp_path / "work" / "c.csv")
    assert f"-o {tmp_path / 'home' / 'm' / 'c.csv'}" in said
    assert f"--root {tmp_path / 'home' / 'm'}" in said
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    report = make(capsys, "~/m", "-o", tmp_path / "work" / "c.csv", "--root", "~/m")
    assert f"data.root={tmp_path / 'home' / 'm'}" in report
    assert len(trainable(tmp_path / "work" / "c.csv", capsys, "--root", tmp_path / "home" / "m")) == 6
    make(capsys, "~/m", "-o", "~/c.csv")
    assert len(trainable(tmp_path / "home" / "c.csv", capsys)) == 6


def test_unused_options_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folders(tmp_path / "m", {"rock": 3, "pop": 3})
    for option, value in (("--subset", "small"), ("--column", "x"), ("--separator", ";")):
        said = refuse(capsys, tmp_path / "m", "-o", tmp_path / "c.csv", option, value)
        assert f"{option}: not an option for labels of this form (--from folders)" in said
    assert "is a folder" in refuse(capsys, tmp_path / "m", "-o", tmp_path / "c.csv", "--from", "table")
    assert "tracks.csv" in refuse(capsys, tmp_path / "m", "-o", tmp_path / "c.csv", "--from", "fma")
    assert "there is no" in refuse(capsys, tmp_path / "nowhere", "-o", tmp_path / "c.csv")
