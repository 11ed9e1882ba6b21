"""Several taggers as one: the mean of their scores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import musictag
from musictag.common.errors import MusictagError
from musictag.inference.ensemble import read_members, write_members
from musictag.models.checkpoint import write_tagger
from musictag.models.network import TaggingNetwork

TAGS = [{"name": name, "kind": kind} for name, kind in (("rock", "classification"), ("speed", "regression"))]
FRONTEND = {"_target_": "musictag.models.frontends.waveform.SampleLevel", "channels": [4] * 6}
BACKEND = {"_target_": "musictag.models.backends.pooling.Pooling", "hidden_units": [4]}
AUDIO = (np.random.default_rng(0).normal(0, 0.1, 40_000).astype(np.float32), 16000)


def write(path: Path, seed: int = 0, tags: list[dict[str, str]] = TAGS, seconds: float = 1.0, **frontend: int) -> Path:
    torch.manual_seed(seed)
    write_tagger(path, TaggingNetwork(FRONTEND | frontend, BACKEND, tags, seconds))
    return path


@pytest.fixture
def members(tmp_path: Path) -> list[Path]:
    return [write(tmp_path / f"{seed}.safetensors", seed) for seed in range(3)]


def test_the_scores_are_the_means_of_those_of_the_members(members: list[Path], tmp_path: Path) -> None:
    write_members(tmp_path / "all", [*members, members[0]])
    write_members(tmp_path / "all", members)  # in their place
    assert sorted(path.name for path in (tmp_path / "all").iterdir())[1:] == [
        f"member-{number}.safetensors" for number in range(3)
    ]
    for path in members:
        path.unlink()  # the folder needs nothing else
    shutil.move(tmp_path / "all", tmp_path / "moved")
    tagger = musictag.load(tmp_path / "moved")
    alone = [musictag.load(tmp_path / "moved" / f"member-{number}.safetensors") for number in range(3)]
    found = tagger.tag(AUDIO)
    assert tagger.tags == TAGS
    for name in ("rock", "speed"):
        assert found[name] == pytest.approx(np.mean([member.tag(AUDIO)[name] for member in alone]), abs=1e-6)
    assert len({member.tag(AUDIO)["rock"] for member in alone}) == 3
    taggram = tagger.taggram(AUDIO, hop_seconds=0.5)
    expected = np.mean([member.taggram(AUDIO, 0.5).scores for member in alone], axis=0)
    np.testing.assert_allclose(taggram.scores, expected, atol=1e-6)
    soundfile.write(tmp_path / "song.wav", *AUDIO)
    with (tmp_path / "song.wav").open("rb") as file:  # which can be read once
        assert tagger.taggram(file, hop_seconds=0.5).scores.shape == taggram.scores.shape
    (song,) = tagger.tag_many([AUDIO])
    assert song.tags == found
    for each in (tagger, alone[0], alone[1], alone[2]):
        each.set_hop(1.7)
    gaps = tagger.tag(AUDIO)
    assert gaps["rock"] == pytest.approx(np.mean([member.tag(AUDIO)["rock"] for member in alone]), abs=1e-6)
    assert gaps["rock"] != pytest.approx(found["rock"], abs=1e-6)
    with pytest.raises(MusictagError, match="an ensemble has no layers of its own"):
        tagger.embed(AUDIO)
    with pytest.raises(MusictagError, match="an ensemble has no layers of its own"):
        tagger.layers()


def test_members_that_do_not_fit_together_are_refused(members: list[Path], tmp_path: Path) -> None:
    for number, (other, words) in enumerate(
        [
            (write(tmp_path / "other.safetensors", tags=TAGS[::-1]), "need the same tags, in the same order"),
            (write(tmp_path / "rate.safetensors", sample_rate=8000), "need the same sample rate"),
        ]
    ):
        write_members(tmp_path / str(number), [members[0], other])
        with pytest.raises(MusictagError, match=words):
            musictag.load(tmp_path / str(number))
    write_members(tmp_path / "lengths", [members[0], write(tmp_path / "long.safetensors", seconds=2.0)])
    tagger = musictag.load(tmp_path / "lengths")
    assert set(tagger.tag(AUDIO)) == {"rock", "speed"}
    with pytest.raises(MusictagError, match="patches of different lengths, and so no taggram"):
        tagger.taggram(AUDIO)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not an ensemble of musictag, or is damaged"),
        ({"what": "musictag ensemble 2", "members": ["member-0.safetensors"]}, "was not written by this version"),
        ({"what": "musictag ensemble 1", "members": "member-0.safetensors"}, "was not written by this version"),
        (
            {"what": "musictag ensemble 1", "members": ["../0.safetensors"]},
            "'../0.safetensors' is not the name of a mem",
        ),
        ({"what": "musictag ensemble 1", "members": ["ensemble.json"]}, "'ensemble.json' is not the name of a member"),
        ({"what": "musictag ensemble 1", "members": ["member-9.json"]}, "member-9.json is not beside it"),
        ({"what": "musictag ensemble 1", "members": ["member-0.safetensors"] * 2}, "it names a member twice"),
        ({"what": "musictag ensemble 1", "members": []}, "an ensemble needs members"),
    ],
)
def test_other_files_are_refused(members: list[Path], tmp_path: Path, content: object, words: str) -> None:
    write_members(tmp_path / "all", members)
    path = tmp_path / "all" / "ensemble.json"
    assert [member.name for member in read_members(path)[0]] == [f"member-{number}.safetensors" for number in range(3)]
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(MusictagError, match=words):
        musictag.load(path)
