"""The console script, on a tagger with weights drawn at random."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import musictag
from musictag import cli
from musictag.inference.network_tagger import NetworkTagger
from musictag.models import inference_form
from musictag.models.checkpoint import write_tagger
from musictag.models.network import TaggingNetwork
from tests.helpers.experiments import ROOT

TAGS = [{"name": name} for name in ("rock", "[bold]folk", "quiet")] + [{"name": "tempo", "kind": "regression"}]


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    torch.manual_seed(0)
    frontend = {"_target_": "musictag.models.frontends.waveform.SampleLevel", "channels": [4, 4, 4, 4]}
    backend = {"_target_": "musictag.models.backends.residual.Residual", "filters": 4, "dense_units": 4}
    network = TaggingNetwork(frontend, backend, TAGS, patch_seconds=0.5)
    write_tagger(tmp_path / "tagger.safetensors", network)
    return str(tmp_path / "tagger.safetensors")


@pytest.fixture
def song(tmp_path: Path) -> str:
    noise = 0.1 * np.random.default_rng(0).standard_normal((44100, 2))
    soundfile.write(tmp_path / "song.wav", noise, 44100)
    return str(tmp_path / "song.wav")


def test_the_table_shows_the_top_tags_and_all_measures(
    checkpoint: str, song: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["tag", song, "--model", checkpoint, "--top", "2"]) == 0
    shown = capsys.readouterr().out
    scores = musictag.load(checkpoint).tag(song)
    classes = [name for name in scores if name != "tempo"]
    for name in (*classes[:2], "tempo"):
        assert f"{scores[name]:.2f}  {name}" in shown
    assert classes[2] not in shown


def test_batches_are_scored_side_by_side(checkpoint: str, song: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, names = NetworkTagger.scores, []

    def noted(self: NetworkTagger, waveform: torch.Tensor) -> torch.Tensor:
        names.append(threading.current_thread().name)
        return scores(self, waveform)

    monkeypatch.setattr(NetworkTagger, "scores", noted)
    assert cli.main(["tag", song, "--model", checkpoint]) == 0
    assert names
    assert all(name.startswith("musictag-batch") for name in names)


def test_json_holds_all_tags_of_every_file(checkpoint: str, song: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tag", song, "--model", checkpoint, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {song: pytest.approx(musictag.load(checkpoint).tag(song))}


def test_a_file_that_cannot_be_read_costs_itself_and_the_exit_status(
    checkpoint: str, song: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.mp3"
    broken.write_text("no music")
    soundfile.write(tmp_path / "short.wav", np.full(1000, 0.1), 16000)
    files = [str(broken), song, "nowhere.wav", str(tmp_path / "short.wav")]
    assert cli.main(["tag", *files, "--model", checkpoint, "--json"]) == 1
    captured = capsys.readouterr()
    assert list(json.loads(captured.out)) == [song]
    assert f"{broken}: cannot be read as audio" in captured.err
    assert "nowhere.wav: file not found" in captured.err
    assert "too short" in captured.err


def test_what_is_no_model_is_said_so(song: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tag", song, "--model", "nowhere.safetensors"]) == 1
    assert "no tagger nowhere.safetensors" in capsys.readouterr().err
    assert cli.main(["tag", song, "--model", song]) == 1
    assert "is not a tagger of musictag" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["tag", song, "--model", song, "--top", "0"])


def test_songs_are_prepared_with_the_words_of_training(
    tiny_catalogue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["data=catalogue", f"data.path={tiny_catalogue}", f"data_dir={tmp_path / 'data'}", "data.prepare_workers=1"]
    assert cli.main(["prepare", *words]) == 0
    (folder,) = (tmp_path / "data").iterdir()
    shown = capsys.readouterr().out
    assert shown.startswith("24 songs")
    assert str(folder) in shown
    shards = {path: path.read_bytes() for path in (folder / "shards").iterdir()}
    damaged = min(shards)
    damaged.write_bytes(shards[damaged][:-2] + b"xy")
    assert cli.main(["prepare", *words, "--verify"]) == 0
    assert "every shard is intact" in capsys.readouterr().out
    audio = b"".join(path.read_bytes()[128:] for path in (folder / "shards").iterdir())
    assert len(audio) == sum(len(content) - 128 for content in shards.values())
    assert not damaged.exists() or damaged.read_bytes() == shards[damaged]
    assert cli.main(["prepare", "data=catalogue"]) == 1
    assert "use data.path=..." in capsys.readouterr().err
    # or simply the table
    assert cli.main(["prepare", str(tiny_catalogue), *words[2:]]) == 0
    assert [*(tmp_path / "data").iterdir()] == [folder]
    assert cli.main(["prepare", str(tiny_catalogue), "other.csv"]) == 1
    assert "one table at a time" in capsys.readouterr().err


def test_ctrl_c_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(arguments: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("musictag.cli.prepare.run", interrupted)
    assert cli.main(["prepare", "x.csv"]) == 130
    assert capsys.readouterr().err == "musictag: interrupted; rerun the command to continue\n"


def test_a_reader_that_has_had_enough_is_no_traceback(tiny_catalogue: Path) -> None:
    command = [sys.executable, "-m", "musictag.cli", "data", "check", str(tiny_catalogue)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    process.stdout.close()  # as `| head` does once it has its lines
    assert process.stderr.read() == b""
    assert process.wait() == 1


@pytest.mark.parametrize("command", [["data"], ["data", "check"], ["data", "describe"], ["data", "sort", "x"], []])
def test_a_command_that_is_not_whole_shows_its_usage(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(command)
    assert "usage: musictag" in capsys.readouterr().err


def test_the_module_runs_as_a_program() -> None:
    done = subprocess.run([sys.executable, "-m", "musictag.cli", "--version"], capture_output=True, text=True)
    assert done.stdout.strip() == f"musictag {musictag.__version__}"


@pytest.mark.parametrize("command", ["tag", "embed"])
def test_the_precision_reaches_the_model(
    command: str, checkpoint: str, song: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    make = TaggingNetwork.inference_form
    monkeypatch.setattr(inference_form, "has_bfloat16", lambda _device: True)
    monkeypatch.setattr(
        TaggingNetwork, "inference_form", lambda network, precision: asked.append(precision) or make(network, precision)
    )
    out = ["--out", str(tmp_path / "x.npz")] if command == "embed" else []
    for precision in ([], ["--precision", "bf16-mixed"]):
        (tmp_path / "x.npz").unlink(missing_ok=True)
        assert cli.main([command, song, "--model", checkpoint, *out, *precision]) == 0
    assert asked == ["32-true", "bf16-mixed"]
