"""`musictag taggram`: what is drawn, and a page that stays what it is."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musictag import cli, load
from musictag.library.taggram import hear
from tests.helpers.embeddings import make_network, save, write_song


@pytest.fixture
def model(tmp_path: Path) -> str:
    return save(tmp_path / "tagger.safetensors", make_network())


def taggram(*words: str) -> int:
    return cli.main(["taggram", *words])


def test_a_picture_of_the_highest_tags(model: str, tmp_path: Path) -> None:
    tagger, song = load(model), write_song(tmp_path / "song.wav", 2.0)
    heard = hear(tagger, tagger.read(song), 2, 0.25)
    whole = tagger.taggram(song, 0.25)
    best = np.argsort(-whole.scores.mean(axis=0))[:2]
    assert heard.taggram.tags == tuple(whole.tags[k] for k in best)
    assert np.array_equal(heard.taggram.scores, whole.scores[:, best])
    assert heard.seconds == 2.0
    out = tmp_path / "taggram.png"
    assert taggram(song, "--model", model, "-o", str(out), "--top", "2", "--hop", "0.25") == 0
    assert out.read_bytes().startswith(b"\x89PNG")


def test_a_page_holds_the_song_and_runs_nothing_from_names(model: str, tmp_path: Path) -> None:
    song = write_song(tmp_path / "<script>alert(1)<&.wav", 1.7)
    out = tmp_path / "page.html"
    assert taggram(song, "--model", model, "--out", str(out), "--hop", "0.5") == 0
    text = out.read_text()
    assert "<script>alert" not in text
    assert "<h1>&lt;script&gt;alert(1)&lt;&amp;.wav</h1>" in text
    policy = re.search(r"script-src '(sha256-[^']+)'", html.unescape(text))[1]
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.S)
    assert policy == "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    data = json.loads(re.search(r'id="data">(.*?)</script>', text)[1])
    (model,) = data["models"]
    assert len(model["times"]) == len(model["scores"])
    assert len(model["scores"][0]) == text.count('<th scope="row"') == 3
    (tmp_path / "heard.mp3").write_bytes(base64.b64decode(re.search(r"audio/mpeg;base64,([^\"]+)", text)[1]))
    heard = soundfile.info(tmp_path / "heard.mp3")
    assert heard.duration == pytest.approx(data["seconds"], abs=0.15)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-o", "x.pdf"], "must end in .png or .html"),
        (["-o", "there.png"], "there.png exists"),
        (["--hop", "nan"], "hop_seconds=nan"),
        (["--hop", "0"], "hop_seconds=0.0"),
    ],
)
def test_what_cannot_be_drawn(
    words: list[str], told: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.png").write_bytes(b"mine")
    song = write_song(tmp_path / "song.wav", 1.0)
    assert taggram(song, "--model", model, *words) == 1
    assert told in capsys.readouterr().err
    assert (tmp_path / "there.png").read_bytes() == b"mine"
    assert taggram(str(tmp_path / "there.png"), "--model", model) == 1
    assert "there.png: " in capsys.readouterr().err


def test_a_song_too_long_for_a_page(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr("musictag.library.taggram.LONGEST_PAGE_SECONDS", 1)
    song = write_song(tmp_path / "song.wav", 1.5)
    assert taggram(song, "--model", model, "-o", str(tmp_path / "x.html")) == 1
    assert "too long for a page" in capsys.readouterr().err
    assert taggram(song, "--model", model, "-o", str(tmp_path / "x.png")) == 0
