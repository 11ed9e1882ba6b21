"""docs/tagging.md: its first commands, in order, on a folder of songs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from musictag import cli
from musictag.data.audio.decode import read
from musictag.library.fields import read_field
from tests.helpers.audio_files import encoded
from tests.helpers.embeddings import make_network, save, write_song
from tests.helpers.experiments import ROOT

PAGE = (ROOT / "docs" / "tagging.md").read_text(encoding="utf-8")


def test_from_a_folder_to_tags_in_files_and_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    model = save(tmp_path / "tagger.safetensors", make_network())
    (tmp_path / "music").mkdir()
    song = tmp_path / "music" / "song.mp3"
    samples = read(write_song(tmp_path / "x.wav", 1.0)).samples / 32768
    song.write_bytes(encoded(".mp3", samples, 16000))
    before = song.read_bytes()
    lines = [line.partition("  #")[0].strip() for line in re.findall(r"^    (musictag .*)$", PAGE, re.M)]
    assert [shlex.split(line)[1] for line in lines[:6]] == ["pretrained", "tag", "tag", "tag", "tag", "undo"]
    for line in lines[1:5]:
        assert cli.main(shlex.split(line.replace("musicnn-msd", model))[1:]) == 0
    told = capsys.readouterr().out
    journal = re.search(r"musictag undo (\S+)", told)
    assert (tmp_path / "tags.csv").read_text().startswith("path,violin,drums,reel,")
    assert len(read_field(str(song), "genre")) == 3
    assert cli.main(["undo", journal[1]]) == 0
    assert song.read_bytes() == before
