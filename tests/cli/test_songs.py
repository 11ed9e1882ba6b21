"""`musictag tag` on many songs: folders, names of any bytes, results as they come, and what an interruption leaves."""

from __future__ import annotations

import io
import json
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import musictag
from musictag.cli.each_song import Songs
from musictag.common.errors import SongWarning
from musictag.data.catalogue.paths import songs_below
from tests.helpers.embeddings import make_network, save
from tests.helpers.tagged_songs import at_song, checkpoint, fail_with, songs, tag  # noqa: F401

# ruff: noqa: F811

# which songs


def test_a_folder_is_all_audio_below_it_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = ["m/B.FLAC", "m/a.mp3", "m/b.opus", "m/deep/er/z.M4A", "m/x.wav/y.wma", "m/ü.ogg"]
    others = ["m/cover.jpg", "m/notes.txt", "m/.hidden.wav", "m/.git/a.wav", "m/._a.mp3", "m/mp3", "m/a.wav.part"]
    for name in (*wanted, *others):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("")
    assert songs_below("m", {}) == wanted
    assert songs_below("m/", {}) == wanted
    assert songs_below(".", {}) == [f"./{name}" for name in wanted]


def test_links_are_followed_and_never_in_circles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("m/a", "elsewhere"):
        os.makedirs(folder)
        Path(folder, "song.mp3").write_text("")
    os.symlink("..", "m/a/up")
    os.symlink("a", "m/same")
    os.symlink("loop", "m/loop")
    os.symlink("../elsewhere", "m/z")
    os.symlink("../elsewhere/song.mp3", "m/one.mp3")
    os.symlink("nowhere", "m/broken.mp3")
    assert songs_below("m", {}) == ["m/a/song.mp3", "m/broken.mp3", "m/one.mp3", "m/z/song.mp3"]


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    unreadable: dict[str, str] = {}
    assert songs_below(str(tmp_path / "gone"), unreadable) == []
    assert unreadable == {str(tmp_path / "gone"): "No such file or directory"}


def test_files_and_folders_each_song_once(songs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    os.makedirs("more/empty")
    os.rename("c.wav", "more/c.wav")
    os.rename("d.wav", "d.xyz")  # of no name that a folder gives
    assert Songs(["./a.wav", "a.wav", os.path.abspath("a.wav")]).paths == ["./a.wav"]  # as it was named first
    assert Songs(["more", "b.wav", "./more/c.wav", "more/"]).paths == ["more/c.wav", "b.wav"]
    assert Songs(["b.wav", ".", "d.xyz", "nowhere.wav"]).paths == [
        "b.wav", "./a.wav", "./more/c.wav", "d.xyz", "nowhere.wav",
    ]  # fmt: skip
    assert capsys.readouterr().err == ""
    empty = Songs(["more/empty", "a.wav"])
    assert empty.paths == ["a.wav"]
    assert len(empty.failures) == 1
    assert "more/empty: no file in this folder has an audio extension" in capsys.readouterr().err


def test_a_folder_is_tagged(songs: list[str], checkpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("broken.mp3").write_text("no music")
    tagger = musictag.load(checkpoint)
    assert tag(".", "--model", checkpoint, "--json") == 1
    told = capsys.readouterr()
    assert json.loads(told.out) == {f"./{song}": pytest.approx(tagger.tag(song)) for song in songs}
    assert "./broken.mp3: " in told.err


def test_home_is_a_folder_too(
    songs: list[str], checkpoint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(Path(checkpoint).parent))
    assert tag("~/here/a.wav", "~nobody-there/b.wav", "--model", "~/tagger.safetensors", "--json") == 1
    told = capsys.readouterr()
    assert list(json.loads(told.out)) == [os.path.abspath("a.wav")]
    assert "~nobody-there/b.wav: file not found" in told.err


# names


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"P\xe9n\xe9lope.wav", "P\\xe9n\\xe9lope.wav"),  # Latin-1
        (b"\x83e\x83X\x83g.wav", "\\x83e\\x83X\\x83g.wav"),  # Shift-JIS
        (b"\xff\xfe.wav", "\\xff\\xfe.wav"),
        (b"cut\xc3.wav", "cut\\xc3.wav"),  # half a letter of UTF-8
        (b"new\nline\xe9.wav", "new\nline\\xe9.wav"),
        ("größe.wav".encode(), "größe.wav"),
    ],
)
def test_names_of_any_bytes_are_opened_and_written_out(
    name: bytes, shown: str, songs: list[str], checkpoint: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    os.rename("a.wav", name)
    expected = musictag.load(checkpoint).tag("b.wav")
    os.mkdir(b"f\xe9")
    os.rename("b.wav", b"f\xe9/b.wav")
    assert tag(os.fsdecode(name), os.fsdecode(b"f\xe9"), "--model", checkpoint, "--json") == 0
    told = json.loads(capfdbinary.readouterr().out.decode("utf-8"))
    assert list(told) == [shown, "f\\xe9/b.wav"]
    assert told["f\\xe9/b.wav"] == pytest.approx(expected)
    assert tag(os.fsdecode(name), "--model", checkpoint) == 0
    table = capfdbinary.readouterr().out.decode("utf-8")
    assert all(line in table for line in shown.splitlines())
    assert tag(os.fsdecode(b"no\xe9.wav"), "--model", checkpoint) == 1
    assert b"musictag: no\\xe9.wav: file not found" in capfdbinary.readouterr().err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_output_of_another_encoding(
    encoding: str, songs: list[str], checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.rename("a.wav", "größe 音.wav")
    for words in ([], ["--json"]):
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
        assert tag("größe 音.wav", "--model", checkpoint, *words) == 0
        text = written.getvalue().decode(encoding)
        if words:
            assert list(json.loads(written.getvalue().decode("utf-8"))) == ["größe 音.wav"]
        else:
            assert "\\u97f3.wav" in text


# one after the other


@pytest.mark.parametrize("words", [["--json"], []])
def test_results_are_there_as_songs_finish(
    words: list[str], songs: list[str], checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, seen = io.BytesIO(), []
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="utf-8"))  # keeps back what is not flushed
    with monkeypatch.context() as patched:
        at_song(3, lambda: seen.append(written.getvalue().decode()), patched)
        assert tag(*songs, "--model", checkpoint, *words) == 0
    (before,) = seen
    after = written.getvalue().decode().removeprefix(before)
    assert ["a.wav" in before, "b.wav" in before, "c.wav" in before] == [True, True, False]
    assert ["b.wav" in after, "c.wav" in after, "d.wav" in after] == [False, True, True]
    if words:
        found = json.loads(before + after)
        assert found == {song: pytest.approx(musictag.load(checkpoint).tag(song)) for song in songs}
        assert before + after == json.dumps(found, indent=2) + "\n"


def test_all_rows_of_the_table_are_one_table(
    songs: list[str], checkpoint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    os.rename("b.wav", "a much longer name [of] a song.wav")
    monkeypatch.setenv("COLUMNS", "100")
    assert tag("a.wav", "a much longer name [of] a song.wav", "--top", "2", "--model", checkpoint) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["file", "tags"]
    at = head.index("tags")
    assert [line[:at].strip() for line in lines] == ["a.wav", "", "", "a much longer name [of] a song.wav", "", ""]
    assert all(line[at : at + 2] == "0." and line[at - 2 : at] == "  " for line in lines if line.strip())
    assert all(line == line.rstrip() for line in [head, *lines])


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("a library's own"), "b.wav: failed unexpectedly: RuntimeError: a library's own"),
        (MemoryError(), "b.wav: needs more memory than is available"),
        (RecursionError("too deep"), "b.wav: failed unexpectedly: RecursionError: too deep"),
        (OSError(5, "Input/output error"), "b.wav: failed unexpectedly: OSError: [Errno 5] Input/output error"),
    ],
)
def test_whatever_happens_to_one_song_costs_that_song(
    error: Exception,
    told: str,
    songs: list[str],
    checkpoint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    at_song(2, fail_with(error), monkeypatch)
    assert tag(*songs, "--json", "--model", checkpoint) == 1
    captured = capsys.readouterr()
    assert list(json.loads(captured.out)) == ["a.wav", "c.wav", "d.wav"]
    assert captured.err == f"musictag: {told}\n"


def test_scores_that_are_no_numbers_are_no_json(
    songs: list[str], checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    network = make_network()
    network.backend.output.bias.data.fill_(float("nan"))
    save(Path(checkpoint), network)
    assert tag(*songs[:2], "--json", "--model", checkpoint) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {}
    assert "a.wav: the model's scores are not finite" in captured.err


def test_what_was_left_out_of_a_file_is_said(songs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> Iterator[tuple[str, int]]:
        for path in songs[:2]:
            warnings.warn(f"{path}: 3 s of rubbish were skipped", SongWarning, stacklevel=1)
            yield path, 1

    several = Songs(songs[:2])
    with several.stoppable():
        assert list(several.successes(work())) == [("a.wav", 1), ("b.wav", 1)]
    lines = [f"musictag: {song}: 3 s of rubbish were skipped" for song in songs[:2]]
    assert capsys.readouterr().err.splitlines() == lines
