"""docs/tagging.md: its first commands, in order, on a folder of songs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import musictag
from musictag import cli
from musictag.data.audio.decode import read
from musictag.library.fields import read_field, write_field
from tests.helpers.audio_files import encoded
from tests.helpers.embeddings import make_network, save, write_song
from tests.helpers.experiments import ROOT

PAGE = (ROOT / "docs" / "tagging.md").read_text(encoding="utf-8")


def test_from_a_folder_to_tags_in_files_and_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And to a page and an export, with files of many kinds, some of which are broken."""
    monkeypatch.chdir(tmp_path)
    model = save(tmp_path / "tagger.safetensors", make_network())
    samples = read(write_song(tmp_path / "x.wav", 1.0)).samples / 32768
    (tmp_path / "music" / "größte Hits 🎶").mkdir(parents=True)
    good = [f"song{kind}" for kind in (".mp3", ".m4a", ".flac", ".wv")] + ["größte Hits 🎶/1 – Übung.opus"]
    for name in good:
        Path("music", name).write_bytes(encoded(Path(name).suffix, samples, 48000 if "opus" in name else 16000))
    write_field("music/song.flac", "genre", ["Rumba"])
    bad = {
        "cut.mp3": Path("music/song.mp3").read_bytes()[:2000] + b"x" * 3000,
        "empty.mp3": b"",
        "lyrics.mp3": b"La la la\n" * 99,
        "notes.txt": b"not even looked at",
    }
    for name, content in bad.items():
        Path("music", name).write_bytes(content)
    before = {path: path.read_bytes() for path in Path("music").rglob("*.*")}

    lines = [line.partition("  #")[0].strip() for line in re.findall(r"^    (musictag .*)$", PAGE, re.M)]
    words = [shlex.split(line.replace("musicnn-msd", model))[1:] for line in lines[:7]]
    assert [first for first, *_ in words] == ["pretrained", "tag", "tag", "tag", "undo", "taggram", "export"]
    _, *tagging, undo, taggram, export = words
    assert [cli.main(line) for line in tagging] == [1, 1, 1]
    told = capsys.readouterr()
    for name in [*bad][:3]:
        assert f"music/{name}: " in told.err
    assert "notes" not in told.err
    assert Path("tags.csv").read_text(encoding="utf-8").count("\n") == 1 + len(good)
    assert "song.flac: genre stays Rumba" in told.out
    assert len(read_field("music/song.mp3", "genre")) == 3
    journal = re.search(r"musictag undo (\S+)", told.out)
    assert cli.main([undo[0], journal[1]]) == 0
    assert {path: path.read_bytes() for path in Path("music").rglob("*.*")} == before
    assert [cli.main(line) for line in (taggram, export)] == [0, 0]
    assert "song.mp3" in Path("song.html").read_text(encoding="utf-8")
    assert musictag.load("tagger.onnx").tag_names == musictag.load(model).tag_names
