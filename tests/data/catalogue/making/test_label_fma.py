"""`musictag catalogue` from FMA's metadata and audio."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.helpers.labelled import make, refuse, tag_table, trainable, write_song

HEADER = (
    ("", "album", "artist", "set", "set", "track", "track", "track", "track"),
    ("", "title", "name", "split", "subset", "duration", "genre_top", "genres_all", "title"),
    ("track_id", "", "", "", "", "", "", "", ""),
)
GENRES = {"21": "Hip-Hop", "12": "Rock", "5": "Loud, noisy"}


def fma(folder: Path) -> Path:
    """Metadata of 24 songs, of which 21 have audio, in the subsets small (18) and large; returns tracks.csv."""
    metadata = folder / "fma_metadata"
    metadata.mkdir(parents=True)
    rows = []
    for number in range(24):
        track = (2, 140, 1003)[number % 3] + number
        split = ("training", "validation", "test")[number // 2 % 3]
        subset, genre = ("small", ("21", "12")[number % 2]) if number < 18 else ("large", "")
        ids = [genre, "5"] if number % 4 == 0 else [genre]
        name = GENRES.get(genre, "")
        rows.append(
            (track, "Album", f"Artist {number}", split, subset, 30, name, f"[{', '.join(filter(None, ids))}]", "a\nb")
        )
        if number < 21:
            write_song(folder / "fma_small" / f"{track // 1000:03d}" / f"{track:06d}.mp3", number)
    with open(metadata / "tracks.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([*HEADER, *rows])
    with open(metadata / "genres.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("genre_id", "title"), *GENRES.items()])
    return metadata / "tracks.csv"


def test_genre_top_with_the_splits_of_fma(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracks = fma(tmp_path)
    report = make(capsys, tmp_path, "-o", tmp_path / "c.csv")
    assert "3 songs of tracks.csv have no file" in report
    assert "songs without any tag left (3)" in report
    manifest = trainable(tmp_path / "c.csv", capsys)
    assert {tag: len(songs) for tag, songs in tag_table(manifest).items()} == {"Hip-Hop": 9, "Rock": 9}
    assert [len(manifest.split(split)) for split in ("train", "validation", "test")] == [6, 6, 6]
    assert manifest.paths[0] == "fma_small/000/000002.mp3"
    assert manifest.song_ids[2] == "1005"
    assert manifest.paths[2] == "fma_small/001/001005.mp3"
    assert manifest.groups[2] == "Artist 2"
    make(capsys, tracks, "-o", tmp_path / "d.csv")
    assert (tmp_path / "d.csv").read_text() == (tmp_path / "c.csv").read_text()


def test_genres_all_and_the_subset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracks = fma(tmp_path)
    (tmp_path / "fma_small").rename(tmp_path / "audio")
    assert "name it with --audio" in refuse(capsys, tracks, "-o", tmp_path / "c.csv")
    options = ("--audio", tmp_path / "audio", "--genres", "all")
    make(capsys, tracks, "-o", tmp_path / "c.csv", *options)
    counts = {tag: len(songs) for tag, songs in tag_table(trainable(tmp_path / "c.csv", capsys)).items()}
    assert counts == {"Hip-Hop": 9, "Rock": 9, "Loud, noisy": 6}
    make(capsys, tracks, "-o", tmp_path / "d.csv", *options, "--subset", "medium")
    counts = {tag: len(songs) for tag, songs in tag_table(trainable(tmp_path / "d.csv", capsys)).items()}
    assert counts == {"Hip-Hop": 9, "Rock": 9, "Loud, noisy": 5}


def test_missing_files_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracks = fma(tmp_path)
    (tmp_path / "empty").mkdir()
    said = refuse(capsys, tracks, "-o", tmp_path / "c.csv", "--audio", tmp_path / "empty")
    assert "none of its songs is in" in said
    (tracks.parent / "genres.csv").unlink()
    assert "genres.csv" in refuse(capsys, tracks, "-o", tmp_path / "c.csv", "--genres", "all")
    tracks.write_text(tracks.read_text().replace("subset", "other"))
    assert "has no column set subset" in refuse(capsys, tracks, "-o", tmp_path / "c.csv")


@pytest.mark.parametrize(
    ("damage", "why"),
    [(b"\xff\xfe", "can't decode byte"), (b'"' + b"x" * 200_000, "field larger than field limit")],
)
def test_a_damaged_table_says_where_to_get_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: bytes, why: str
) -> None:
    tracks = fma(tmp_path)
    far_from_the_header = b"\n" * 10_000
    tracks.write_bytes(tracks.read_bytes() + far_from_the_header + damage)
    said = refuse(capsys, tracks, "-o", tmp_path / "c.csv")
    assert f"{tracks} is damaged" in said
    assert why in said
    assert "unpack fma_metadata.zip again" in said


def test_check_and_training_name_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from musictag import cli

    tracks = fma(tmp_path)
    assert cli.main(["data", "check", str(tracks)]) == 1
    assert f"musictag catalogue {tracks} -o {tracks.parent / 'catalogue.csv'}" in capsys.readouterr().out
    assert cli.main(["prepare", str(tracks)]) == 1
    assert f"musictag catalogue {tracks} -o {tracks.parent / 'catalogue.csv'}" in capsys.readouterr().err
