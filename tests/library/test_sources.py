"""Names on the command line become songs."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from musictag.library.sources import songs_of


def nothing_wrong(name: str, why: str) -> None:
    raise AssertionError(f"{name}: {why}")


def test_a_playlist_is_its_entries_relative_to_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.makedirs("lists")
    Path("with space.mp3").touch()
    Path("größe.flac").touch()
    entries = [
        "#EXTM3U",
        "#EXTINF:3,x",
        "../a.mp3",
        "",
        f"file://{tmp_path}/with%20space.mp3",
        "..\\größe.flac",
        "/abs.mp3",
        "./../a.mp3",  # once more
    ]
    Path("lists/x.M3U8").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(entries).encode())
    assert songs_of(["lists/x.M3U8", "b.wav"], nothing_wrong) == [
        "lists/../a.mp3", f"{tmp_path}/with space.mp3", "lists/../größe.flac", "/abs.mp3", "b.wav",
    ]  # fmt: skip
    Path("latin.m3u").write_bytes(b"P\xe9n.mp3\n")
    assert list(map(os.fsencode, songs_of(["latin.m3u"], nothing_wrong))) == [b"P\xe9n.mp3"]
    Path("Pén.mp3").touch()
    assert songs_of(["latin.m3u"], nothing_wrong) == ["Pén.mp3"]


def test_what_a_playlist_cannot_give_is_told(tmp_path: Path) -> None:
    problems: list[str] = []
    (tmp_path / "radio.m3u").write_text("http://radio/stream.mp3\nsong.mp3\n")
    (tmp_path / "empty.m3u").write_text("#EXTM3U\n")
    names = [str(tmp_path / name) for name in ("radio.m3u", "empty.m3u", "gone.m3u")]
    found = songs_of(names, lambda name, why: problems.append(why))
    assert found == [str(tmp_path / "song.mp3"), names[2]]  # which is said to be missing when it is read
    assert problems == ["http://radio/stream.mp3 is not a file on this machine", "this playlist is empty"]


@pytest.mark.parametrize("text", [b"a.mp3\nb c.mp3\r\n\nP\xe9.mp3\n", b"a.mp3\0b c.mp3\0P\xe9.mp3\0"])
def test_names_from_standard_input(text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert list(map(os.fsencode, songs_of(["-", "a.mp3"], nothing_wrong))) == [b"a.mp3", b"b c.mp3", b"P\xe9.mp3"]
