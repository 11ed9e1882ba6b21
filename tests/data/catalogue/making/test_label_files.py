"""`musictag catalogue` from genre, mood and grouping inside audio files, in every format that has them."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from mutagen.apev2 import APEv2
from mutagen.asf import ASFUnicodeAttribute
from mutagen.id3 import COMM, GRP1, TALB, TIT1, TMOO, TPE1, TPE2, TXXX

from musictag.data.catalogue.making.files import FileTags, all_file_tags, file_tags
from tests.helpers.catalogues import synthetic_song
from tests.helpers.labelled import make, refuse, tag_table, trainable, write_folders, write_song, write_tags


def id3(path: Path) -> None:
    write_tags(
        path,
        genre=["Rock", "Pop"],
        a=TXXX(encoding=3, desc="Mood", text=["happy"]),
        b=TIT1(encoding=3, text=["party"]),
        c=TPE1(encoding=3, text=["Ana"]),
        d=TALB(encoding=3, text=["First"]),
        e=COMM(encoding=3, lang="eng", desc="mood", text=["no mood"]),
    )


def vorbis(path: Path) -> None:
    write_tags(path, Genre=["Rock", "Pop"], MOOD="happy", grouping="party", artist="Ana", album="First")


def mp4(path: Path) -> None:
    freeform = {"----:com.apple.iTunes:mood": [b"happy"]}
    names = {"\xa9gen": ["Rock", "Pop"], "\xa9grp": "party", "\xa9ART": "Ana", "\xa9alb": "First"}
    write_tags(path, **names, **freeform)


def asf(path: Path) -> None:
    texts = {"WM/Genre": ["Rock", "Pop"], "WM/Mood": ["happy"], "WM/ContentGroupDescription": ["party"]}
    texts |= {"Author": ["Ana"], "WM/AlbumTitle": ["First"]}
    write_tags(path, **{name: [ASFUnicodeAttribute(text) for text in values] for name, values in texts.items()})


def ape(path: Path) -> None:
    tags = APEv2()
    texts = {"Genre": ["Rock", "Pop"], "MOOD": "happy", "Grouping": "party", "Artist": "Ana", "Album": "First"}
    for name, value in texts.items():
        tags[name] = value
    tags.save(path)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.mp3", id3), ("a.wav", id3), ("a.aiff", id3), ("a.flac", vorbis), ("a.ogg", vorbis), ("a.opus", vorbis),
        ("a.m4a", mp4), ("a.wma", asf), ("a.wv", ape), ("b.mp3", ape),
    ],
)  # fmt: skip
def test_every_format(tmp_path: Path, name: str, write: object) -> None:
    if name.endswith(".opus"):
        soundfile.write(tmp_path / name, synthetic_song(1, True, False, 0.5, 0), 16000, format="OGG", subtype="OPUS")
    else:
        write_song(tmp_path / name)
    assert not any(file_tags(tmp_path / name).texts.values())
    write(tmp_path / name)
    assert file_tags(tmp_path / name).texts == {
        "genre": ["Rock", "Pop"], "mood": ["happy"], "grouping": ["party"], "artist": ["Ana"], "album": ["First"]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("written", "genres"),
    [
        (["(17)"], ["Rock"]),
        (["17"], ["Rock"]),
        (["(51)(39)"], ["Techno-Industrial", "Noise"]),
        (["(17) Rock"], ["Rock"]),
        (["17", "Jazz"], ["Rock", "Jazz"]),
        (["1990"], ["1990"]),
        (["RX"], ["Remix"]),
    ],
)
def test_numbers_of_genres(tmp_path: Path, written: list[str], genres: list[str]) -> None:
    path = write_song(tmp_path / "a.mp3")
    write_tags(path, genre=written)
    assert file_tags(path).texts["genre"] == genres
    vorbis_path = write_song(tmp_path / "a.flac")
    write_tags(vorbis_path, GENRE=written)
    assert file_tags(vorbis_path).texts["genre"] == genres


def test_id3_version_1(tmp_path: Path) -> None:
    path = write_song(tmp_path / "a.mp3")
    with open(path, "ab") as file:
        file.write(b"TAG" + b"Title".ljust(30, b"\0") + b"Ana".ljust(30, b"\0") + bytes(64) + bytes([17]))
    assert file_tags(path).first("genre") == "Rock"
    assert file_tags(path).first("artist") == "Ana"


def test_other_names_of_mood_and_grouping(tmp_path: Path) -> None:
    path = write_song(tmp_path / "a.mp3")
    write_tags(path, a=TMOO(encoding=3, text=["calm"]), b=GRP1(encoding=3, text=["x"]), c=TPE2(encoding=3, text=["V"]))
    tags = file_tags(path).texts
    assert (tags["mood"], tags["grouping"], tags["artist"], tags["genre"]) == (["calm"], ["x"], ["V"], [])


def library(folder: Path) -> None:
    """Twelve songs at artist/album/song in four formats; half of them have an artist tag."""
    for number in range(12):
        path = folder / f"artist {number % 4}" / "CD 1" / f"{number}{('.mp3', '.flac', '.m4a', '.ogg')[number % 4]}"
        write_song(path, number)
        genres = (["Rock"], ["rock ; Pop"], ["17"])[number // 4]
        mood, artist = ("happy", "Sad")[number % 2], f"singer {number % 3}" if number >= 6 else None
        if path.suffix == ".mp3":
            more = {"a": TPE1(encoding=3, text=[artist])} if artist else {}
            write_tags(path, genre=genres, m=TMOO(encoding=3, text=[mood]), **more)
        elif path.suffix == ".m4a":
            more = {"\xa9ART": artist} if artist else {}
            write_tags(path, **{"\xa9gen": genres, "----:com.apple.iTunes:MOOD": [mood.encode()]}, **more)
        else:
            write_tags(path, GENRE=genres, MOOD=mood, **({"ARTIST": artist} if artist else {}))


def test_a_library_of_several_formats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    library(tmp_path)
    (tmp_path / "artist 0" / "page.mp3").write_text("<html>" * 100)
    (tmp_path / "artist 0" / "empty.flac").write_bytes(b"")
    make(capsys, tmp_path, "-o", tmp_path / "c.csv")
    report = make(capsys, tmp_path, "-o", tmp_path / "d.csv", "--fields", "genre", "mood")
    assert "files whose tags cannot be read (2)" in report
    assert "artist of 6 songs: from their folders" in report
    assert "merged into 'Rock': 'rock' (4)" in report
    genres = tag_table(trainable(tmp_path / "c.csv", capsys))
    assert {tag: len(songs) for tag, songs in genres.items() if tag != "Rock"} == {"Pop": 4}
    manifest = trainable(tmp_path / "d.csv", capsys)
    assert {tag: len(songs) for tag, songs in tag_table(manifest).items()} == {"Sad": 6, "happy": 6, "Pop": 4}
    assert set(manifest.groups) == {*(f"artist {n}" for n in range(4)), *(f"singer {n}" for n in range(3))}
    assert "Rock: all 12 songs have it" in report


def test_tags_inside_or_names_of_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folders(tmp_path / "m", {"a": 4, "b": 4})
    for number, path in enumerate(sorted((tmp_path / "m").rglob("*.wav"))):
        if number in (0, 1):
            write_tags(path, genre=["Jazz"])
    said = refuse(capsys, tmp_path / "m", "-o", tmp_path / "c.csv")
    assert "25% of 8 files have a genre tag, and there are folders, too" in said
    assert "--from files or --from folders" in said
    make(capsys, tmp_path / "m", "-o", tmp_path / "c.csv", "--from", "folders")
    assert set(tag_table(trainable(tmp_path / "c.csv", capsys))) == {"a", "b"}
    for number, path in enumerate(sorted((tmp_path / "m").rglob("*.wav"))):
        write_tags(path, genre=[("Jazz", "a")[number % 2]])
    report = make(capsys, tmp_path / "m", "-o", tmp_path / "d.csv")
    assert "tags inside the files: genre (--from folders uses the names of the folders)" in report
    manifest = trainable(tmp_path / "d.csv", capsys)
    assert {tag: len(songs) for tag, songs in tag_table(manifest).items()} == {"Jazz": 4, "a": 4}


def test_a_folder_named_like_the_genre_is_not_an_artist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folders(tmp_path, {"Rock": 3, "Pop": 3, "Jazz": 3})
    for path in tmp_path.rglob("*.wav"):
        write_tags(path, genre=[path.parent.name.lower()])
    make(capsys, tmp_path, "-o", tmp_path / "c.csv")
    assert (tmp_path / "c.csv").read_text().startswith("path,jazz,pop,rock\n")
    trainable(tmp_path / "c.csv", capsys)


def test_a_bomb_of_a_tag_costs_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small compressed frame that expands to 256 MB."""
    monkeypatch.setattr("musictag.data.catalogue.making.files._MEMORY_BYTES", 2**27)
    path = write_song(tmp_path / "a.mp3")
    squeezed = zlib.compressobj(1)
    zeros = bytes(2**24)
    data = bytes(4) + b"".join(squeezed.compress(zeros) for _ in range(16)) + squeezed.flush()

    def syncsafe(number: int) -> bytes:
        return bytes(number >> shift & 127 for shift in (21, 14, 7, 0))

    frame = b"TCON" + syncsafe(len(data)) + b"\x00\x09" + data
    path.write_bytes(b"ID3\x04\x00\x00" + syncsafe(len(frame)) + frame + path.read_bytes())
    good = write_song(tmp_path / "b.mp3")
    write_tags(good, genre=["Rock"])
    bad, tags = all_file_tags([str(path), str(good)])
    assert bad.problem
    assert tags.first("genre") == "Rock"


def test_rubbish_does_not_crash(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for suffix in (".mp3", ".flac", ".m4a", ".ogg", ".wma", ".wav"):
        path = write_song(tmp_path / f"a{suffix}")
        whole = path.read_bytes()
        for _ in range(5):
            damaged = bytearray(whole[: rng.integers(1, len(whole))])
            for at in rng.integers(0, len(damaged), 20):
                damaged[at] = rng.integers(256)
            path.write_bytes(damaged)
            assert isinstance(file_tags(path), FileTags)
