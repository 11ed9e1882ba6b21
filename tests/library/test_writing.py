"""Tags in files: where players look, with the audio untouched, and back again byte for byte."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import mutagen
import numpy as np
import pytest
import soundfile
from mutagen.apev2 import APEBinaryValue, APEv2
from mutagen.id3 import COMM, ID3, TCON, TIT2, TXXX, TYER
from mutagen.mp3 import MP3

from musictag.common.errors import MusictagError, SongError
from musictag.data.audio.decode import read
from musictag.library import writing
from musictag.library.content import content_key, differences, take_back
from musictag.library.fields import FIELDS, read_field, write_field
from musictag.library.writing import KEEP, MERGE, REPLACE, Journal, planned, undo, write
from tests.helpers.audio_files import encoded

KINDS = (".mp3", ".flac", ".ogg", ".opus", ".m4a", ".wav", ".aiff", ".wv")
TAGS = ["rock", "soul & größe"]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder, found = tmp_path_factory.mktemp("originals"), {}
    noise = 0.1 * np.random.default_rng(0).standard_normal((24000, 2))
    for kind in KINDS:
        if kind in (".ogg", ".wav", ".aiff"):
            how = {"format": "OGG", "subtype": "VORBIS"} if kind == ".ogg" else {}
            soundfile.write(folder / f"song{kind}", noise, 44100, **how)
            found[kind] = (folder / f"song{kind}").read_bytes()
        else:
            found[kind] = encoded(kind, noise, 48000 if kind == ".opus" else 44100)
    return found


@pytest.fixture
def song(originals: dict[str, bytes], tmp_path: Path) -> Callable[[str], str]:
    def make(kind: str) -> str:
        (tmp_path / f"song{kind}").write_bytes(originals[kind])
        return str(tmp_path / f"song{kind}")

    return make


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("kind", KINDS)
def test_written_read_and_taken_back(kind: str, field: str, song: Callable[[str], str], tmp_path: Path) -> None:
    path, journal = song(kind), Journal(str(tmp_path / "journal.jsonl"))
    before, key, pcm = Path(path).read_bytes(), content_key(path), read(path).samples
    os.chmod(path, 0o640)
    write(planned(path, field, TAGS), journal)
    expected = ["; ".join(TAGS)] if field == "comment" else TAGS
    assert read_field(path, field) == expected
    write(planned(path, field, ["jazz", "ROCK"] if field != "comment" else ["jazz"], MERGE), journal)
    assert read_field(path, field) == [*expected, "jazz"]
    assert content_key(path) == key
    np.testing.assert_array_equal(read(path).samples, pcm)
    assert os.stat(path).st_mode & 0o777 == 0o640
    assert os.path.getsize(journal.path) < 20_000
    assert [said for _, said in undo(journal.path)] == ["is as it was"] * 2
    assert Path(path).read_bytes() == before
    assert [said for _, said in undo(journal.path)][1] == "is as it was"  # nothing is left to do
    assert sorted(os.listdir(tmp_path)) == ["journal.jsonl", f"song{kind}"]


@pytest.mark.parametrize("kind", ["flac", "wav"])
def test_of_a_large_file_all_audio_counts(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A parser that reads on and on without audio is stopped, after 64 MB; here after 2."""
    monkeypatch.setattr("musictag.data.audio.decoding.window._MOST_WITHOUT_AUDIO", 2_000_000)
    path, other = str(tmp_path / f"song.{kind}"), str(tmp_path / f"other.{kind}")
    samples = np.random.default_rng(0).integers(-30_000, 30_000, 2_000_000).astype(np.int16)
    soundfile.write(path, samples, 44100)
    soundfile.write(other, np.append(samples[:-100], np.zeros(100, np.int16)), 44100)
    key = content_key(path)
    assert content_key(other) != key
    write(planned(path, "comment", ["x" * 5000]), Journal(str(tmp_path / "j.jsonl")))
    assert content_key(path) == key


def test_the_fields_that_players_read(song: Callable[[str], str]) -> None:
    names = {
        ".mp3": ("TCON", "TMOO", "GRP1", "COMM::eng"),
        ".flac": ("genre", "mood", "grouping", "comment"),
        ".opus": ("genre", "mood", "grouping", "comment"),
        ".m4a": ("\xa9gen", "----:com.apple.iTunes:MOOD", "\xa9grp", "\xa9cmt"),
        ".wv": ("Genre", "Mood", "Grouping", "Comment"),
    }
    for kind, keys in names.items():
        path = song(kind)
        for field in FIELDS:
            write_field(path, field, ["x"])
        tags = mutagen.File(path).tags
        for key in keys:
            assert key in tags, (kind, key)


def test_id3_2_3_stays_2_3_and_nothing_else_changes(song: Callable[[str], str]) -> None:
    path = song(".mp3")
    tags = ID3()
    tags.add(TIT2(encoding=1, text=["Ü", "two"]))
    tags.add(TYER(encoding=0, text="1999"))
    tags.add(COMM(encoding=0, lang="deu", desc="iTunNORM", text="0000"))
    tags.save(path, v2_version=3, v23_sep=None, v1=2)
    v1 = Path(path).read_bytes()[-128:]
    for field in FIELDS:
        write_field(path, field, TAGS)
    found = ID3(path, translate=False, load_v1=False)
    assert found.version == (2, 3, 0)
    assert sorted(found) == ["COMM::eng", "COMM:iTunNORM:deu", "GRP1", "TCON", "TIT2", "TXXX:MOOD", "TYER"]
    assert found["TIT2"].text == ["Ü", "two"]
    assert found["TCON"].text == ["rock/soul & größe"]
    assert Path(path).read_bytes()[-128:] == v1
    assert planned(path, "genre", ["jazz", *TAGS], MERGE).after == ["rock/soul & größe", "jazz"]


def test_an_mp3_with_ape_tags_gets_both(song: Callable[[str], str]) -> None:
    path = song(".mp3")
    ape = APEv2()
    ape["Genre"] = "Punk"
    ape.save(path)
    assert planned(path, "genre", TAGS).after == ["Punk"]
    write_field(path, "genre", TAGS)
    assert list(APEv2(path)["Genre"]) == TAGS
    assert MP3(path).tags["TCON"].text == TAGS


def test_an_entry_that_is_no_text_costs_one_song(song: Callable[[str], str]) -> None:
    path = song(".mp3")
    ape = APEv2()
    ape["Genre"] = APEBinaryValue(b"\xff\0")
    ape.save(path)
    before = Path(path).read_bytes()
    with pytest.raises(SongError, match="its tags cannot be read: "):
        planned(path, "genre", TAGS)
    assert Path(path).read_bytes() == before


def test_an_entry_stays_unless_told_otherwise(song: Callable[[str], str]) -> None:
    path = song(".mp3")
    tags = MP3(path)
    tags.tags.add(TCON(encoding=3, text=["(17)", "Rock"]))
    tags.tags.add(TXXX(encoding=3, desc="Mood", text=["calm"]))
    tags.save()
    assert planned(path, "genre", ["jazz"], KEEP).after == ["Rock"]
    assert planned(path, "genre", ["rock", "jazz"], MERGE).after == ["Rock", "jazz"]
    assert planned(path, "genre", ["jazz"], REPLACE).after == ["jazz"]
    assert planned(path, "genre", [], REPLACE).after == ["Rock"]
    assert str(planned(path, "mood", ["wild"], REPLACE)) == f"{path}: mood calm -> wild"
    assert str(planned(path, "comment", ["a", "b"])) == f"{path}: comment (nothing) -> a; b"


def test_a_description_is_a_comment_and_is_replaced(song: Callable[[str], str], tmp_path: Path) -> None:
    path = song(".flac")
    audio = mutagen.File(path)
    audio["DESCRIPTION"] = "old"
    audio.save()
    write(planned(path, "comment", ["new"], REPLACE), Journal(str(tmp_path / "j.jsonl")))
    assert read_field(path, "comment") == ["new"]
    assert "description" not in mutagen.File(path)


def test_files_that_are_left_alone(song: Callable[[str], str], tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "journal.jsonl"))
    path = song(".mp3")
    change = planned(path, "genre", TAGS)
    before = Path(path).read_bytes()
    os.link(path, tmp_path / "seeding.mp3")
    with pytest.raises(SongError, match="one file under 2 names"):
        write(change, journal)
    os.unlink(tmp_path / "seeding.mp3")
    os.chmod(path, 0o444)
    with pytest.raises(SongError, match="is read-only"):
        write(change, journal)
    os.chmod(path, 0o644)
    (tmp_path / "x.mka").write_bytes(encoded(".mka", np.zeros(9000), 44100))
    (tmp_path / "x.mp3").write_text("no music")
    for name in ("x.mka", "x.mp3"):
        with pytest.raises(SongError):
            planned(str(tmp_path / name), "genre", TAGS)
    assert Path(path).read_bytes() == before
    assert not os.path.exists(journal.path)


def test_a_link_stays_a_link(song: Callable[[str], str], tmp_path: Path) -> None:
    path = song(".flac")
    os.symlink(path, tmp_path / "link.flac")
    write(planned(str(tmp_path / "link.flac"), "genre", TAGS), Journal(str(tmp_path / "j.jsonl")))
    assert os.path.islink(tmp_path / "link.flac")
    assert read_field(path, "genre") == TAGS


@pytest.mark.parametrize("when", ["copy2", "replace", "journal", "audio"])
def test_whatever_fails_leaves_the_file_as_it_was(
    when: str, song: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, journal = (
        song(".m4a"),
        Journal(str(tmp_path / "gone" / "j.jsonl" if when == "journal" else tmp_path / "j.jsonl")),
    )
    before, change = Path(path).read_bytes(), planned(path, "genre", TAGS)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    if when == "copy2":
        monkeypatch.setattr(writing.shutil, "copy2", full)
    elif when == "replace":
        monkeypatch.setattr(writing.os, "replace", full)
    elif when == "audio":
        monkeypatch.setattr(writing, "write_field", lambda copy, *_: Path(copy).write_bytes(before[:-500]))
    told = {"journal": "no more files are changed", "audio": "would change its audio"}.get(
        when, "No space left on device"
    )
    with pytest.raises(MusictagError if when == "journal" else SongError, match=told):
        write(change, journal)
    monkeypatch.undo()
    assert Path(path).read_bytes() == before
    assert [name for name in os.listdir(tmp_path) if "part" in name] == []
    if when == "replace":  # the journal has the change, which has not happened
        assert [said for _, said in undo(journal.path)] == ["is as it was"]
        assert Path(path).read_bytes() == before


def test_after_other_changes_the_field_alone_is_taken_back(song: Callable[[str], str], tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "j.jsonl"))
    for kind in (".mp3", ".flac"):
        write(planned(song(kind), "genre", TAGS), journal)
        write_field(str(tmp_path / f"song{kind}"), "comment", ["by hand"])
    write_field(str(tmp_path / "song.flac"), "genre", ["by hand"])
    os.rename(tmp_path / "song.flac", tmp_path / "other.flac")
    said = dict(undo(journal.path))
    assert said[str(tmp_path / "song.mp3")] == "has been changed since; its genre is as it was"
    assert "cannot be read (No such file" in str(said[str(tmp_path / "song.flac")])
    assert read_field(str(tmp_path / "song.mp3"), "genre") == []
    assert read_field(str(tmp_path / "song.mp3"), "comment") == ["by hand"]
    os.rename(tmp_path / "other.flac", tmp_path / "song.flac")
    (_, why), (_, again) = undo(journal.path)
    assert "its genre, too; nothing was taken back" in str(why)
    assert again == "has been changed since; its genre is as it was"  # also the second time


def test_a_journal_that_was_cut_short(song: Callable[[str], str], tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "j.jsonl"))
    path = song(".flac")
    before = Path(path).read_bytes()
    write(planned(path, "genre", TAGS), journal)
    with open(journal.path, "a") as file:
        file.write('\n{"path": "/x')
    assert [said for _, said in undo(journal.path)] == ["is as it was"]
    assert Path(path).read_bytes() == before
    (tmp_path / "other.jsonl").write_text("{}\n")
    with pytest.raises(MusictagError, match="is not a journal"):
        list(undo(str(tmp_path / "other.jsonl")))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"abc", b"abc"),
        (b"abc", b"aXbc"),
        (b"aXbc", b"abc"),
        (b"aaaa", b"aaaaaa"),
        (b"x", b"yyy"),
        (b"R\0" + b"m" * 30_000, b"R\1" + b"m" * 30_000 + b"tail"),
        (b"R\0" + bytes(range(256)) * 90 + b"old tail", b"R\1" + bytes(range(256)) * 90),
    ],
)
def test_differences(old: bytes, new: bytes, tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(old)
    (tmp_path / "new").write_bytes(new)
    found = differences(str(tmp_path / "old"), str(tmp_path / "new"))
    assert sum(len(removed) for _, removed, _ in found) < 9000
    take_back(str(tmp_path / "new"), found)
    assert (tmp_path / "new").read_bytes() == old
