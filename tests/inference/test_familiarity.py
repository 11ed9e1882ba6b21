"""What sounds like the validation songs and what does not; and which tags are given with confidence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import musictag
from musictag.cli import main
from musictag.common.errors import MusictagError, SongError
from musictag.evaluation.calibration import calibrate
from musictag.inference.familiarity import MIN_SONGS, check_familiarity, fit_familiarity, sound, strangeness
from musictag.inference.tagger import Tagger
from musictag.models.checkpoint import write_tagger
from musictag.models.network import TaggingNetwork
from tests.helpers.notes import notes
from tests.helpers.strangers import RATE, strangers

TAGS = [
    {"name": "rock", "kind": "classification"},
    {"name": "rare", "kind": "classification"},
    {"name": "speed", "kind": "regression"},
]
FRONTEND = {"_target_": "musictag.models.frontends.waveform.SampleLevel", "channels": [4] * 6}
BACKEND = {"_target_": "musictag.models.backends.pooling.Pooling", "hidden_units": [4]}


@pytest.fixture(scope="module")
def familiarity() -> dict[str, Any]:
    return fit_familiarity([sound(notes(seed), RATE) for seed in range(60)])


def test_silence_noise_tones_and_speech_are_strange_and_songs_are_not(familiarity: dict[str, Any]) -> None:
    check_familiarity(json.loads(json.dumps(familiarity)))
    for kind, sounds in strangers(2).items():
        assert min(strangeness(familiarity, samples, RATE) for samples in sounds) > 1, kind
    songs = [strangeness(familiarity, notes(seed), RATE) for seed in range(100, 160)]
    assert np.mean(np.array(songs) > 1) <= 0.1


def test_neither_level_nor_a_silent_end_nor_length_makes_a_song_strange(familiarity: dict[str, Any]) -> None:
    song = np.concatenate([notes(7)] * 8)
    usual = strangeness(familiarity, song, RATE)
    assert usual < 1
    assert strangeness(familiarity, song // 8, RATE) == pytest.approx(usual, abs=0.15)
    ended = np.concatenate([song, np.zeros(12 * RATE, np.int16)])
    assert strangeness(familiarity, ended, RATE) < 1 < strangeness(familiarity, ended[-12 * RATE :], RATE)
    assert np.isfinite(strangeness(familiarity, song[:1600], RATE))


def test_few_songs_do_not_tell_what_is_familiar() -> None:
    assert fit_familiarity([sound(notes(0), RATE)] * (MIN_SONGS - 1)) is None
    check_familiarity(None)


@pytest.mark.parametrize(
    "change",
    [{"limit": 0}, {"limit": "1"}, {"mean": [0.0]}, {"mean": [float("nan")] * 5}, {"spread": [[1.0]]}, {"more": 1}],
)
def test_damaged_familiarity_is_refused(familiarity: dict[str, Any], change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="familiar"):
        check_familiarity(familiarity | change)
    with pytest.raises(ValueError, match="damaged"):
        check_familiarity([])


def write(path: Path, **facts: Any) -> Tagger:
    torch.manual_seed(0)
    write_tagger(path, TaggingNetwork(FRONTEND, BACKEND, TAGS, 1.0), **facts)
    return musictag.load(path)


def calibration(familiarity: Any, positives: int = 40) -> dict[str, Any]:
    """Of songs whose score tells the tag rock exactly, from 0.5 on, in so many songs, and the others not at all."""
    scores = np.linspace(1, 0, 80, dtype=np.float32)[:, None].repeat(3, 1)
    targets = np.zeros_like(scores)
    targets[:positives, 0] = 1
    return {"tags": calibrate(scores, targets, [tag["kind"] for tag in TAGS]), "familiarity": familiarity}


def test_confident_tags_reach_their_threshold_on_familiar_songs(tmp_path: Path, familiarity: dict[str, Any]) -> None:
    tagger = write(tmp_path / "t.safetensors", calibration=calibration(familiarity))
    found = tagger.confident({"rock": 0.8, "rare": 0.99, "speed": 0.9}, strangeness=0.9)
    assert (list(found.tags), found.why) == (["rock"], None)
    assert 0.8 < found.tags["rock"] <= 1  # a probability, not the score
    assert tagger.confident(np.array([0.8, 0.99, 0.9], dtype=np.float32), 0.9) == found
    for scores, distance, why in (
        ([0.2, 0.9, 0.9], 0.9, "no score reaches its threshold"),
        ([0.8, 0.9, 0.9], 1.01, "does not sound like the validation songs"),
        ([0.8, 0.9, 0.9], float("nan"), "does not sound like the validation songs"),
    ):
        found = tagger.confident(np.array(scores, dtype=np.float32), distance)
        assert found.tags == {}
        assert why in found.why
    assert "does not sound like" in tagger.confident_song(np.zeros(RATE, np.int16)).why
    with pytest.raises(SongError, match="not finite"):
        tagger.confident(np.array([np.nan, 0.9, 0.9], dtype=np.float32), 0.9)


def test_why_there_are_no_confident_tags_at_all(tmp_path: Path, familiarity: dict[str, Any]) -> None:
    scores = np.ones(3, dtype=np.float32)
    few = write(tmp_path / "few.safetensors", calibration=calibration(None))
    assert few.strangeness(notes(0)) == np.inf
    assert "too few" in few.confident(scores, 0.5).why
    unsure = write(tmp_path / "unsure.safetensors", calibration=calibration(familiarity, positives=5))
    assert "right often enough on 80 validation songs" in unsure.confident(scores, 0.5).why
    with pytest.raises(MusictagError, match="does not know how far its scores can be trusted"):
        write(tmp_path / "old.safetensors").confident(scores, 0.5)


@pytest.mark.parametrize("damaged", [[], {"tags": []}, {"tags": [], "familiarity": None}])
def test_a_damaged_calibration_is_an_error_on_loading(tmp_path: Path, damaged: Any) -> None:
    with pytest.raises(MusictagError, match=r"t\.safetensors: the tagger is damaged: .*calibration"):
        write(tmp_path / "t.safetensors", calibration=damaged)


def test_confident_on_the_command_line(
    tmp_path: Path, familiarity: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    import soundfile

    tagger = write(tmp_path / "sure.safetensors", calibration=calibration(familiarity))
    songs = {"song": notes(3, 5.0), "noise": strangers(1)["white noise"][0]}
    for name, samples in songs.items():
        soundfile.write(tmp_path / f"{name}.wav", samples, RATE)
    facts = calibration(familiarity)
    score = tagger.tag(tmp_path / "song.wav")["rock"]
    for threshold, expected in ((score, ["rock"]), (score + 1e-3, [])):
        facts["tags"][0]["precision_threshold"] = threshold
        write(tmp_path / "t.safetensors", **{"calibration": facts})
        files = [str(tmp_path / f"{name}.wav") for name in songs]
        command = ["tag", *files, "--model", str(tmp_path / "t.safetensors"), "--confident", "--json"]
        assert main(command) == 0
        printed = capsys.readouterr()
        found = json.loads(printed.out)
        assert [list(tags) for tags in found.values()] == [expected, []]
        assert "noise.wav: no confident tags: it does not sound like the validation songs" in printed.err
        assert ("song.wav: no confident tags: no score reaches its threshold" in printed.err) == (not expected)
    assert main(command[:-1]) == 0  # the table, too
    write(tmp_path / "t.safetensors")
    assert main(command) == 1
    assert "does not know how far its scores can be trusted" in capsys.readouterr().err
