"""`musictag tag` interrupted: what is finished stays, what is said is true, and the output is whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from musictag import cli
from musictag.cli import tag as tagging
from musictag.training.signals import SignalHandler
from tests.helpers.embeddings import write_song
from tests.helpers.tagged_songs import at_song, checkpoint, fail_with, songs, tag  # noqa: F401

# ruff: noqa: F811


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGUSR1", 128 + signal.SIGUSR1)])
@pytest.mark.parametrize("words", [["--json"], []])
def test_what_is_finished_stays(
    name: str,
    status: int,
    words: list[str],
    songs: list[str],
    checkpoint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = signal.getsignal(signal.SIGINT)
    at_song(3, lambda: os.kill(os.getpid(), getattr(signal, name)), monkeypatch)
    assert tag(songs[0], "nowhere.wav", *songs[1:], "--model", checkpoint, *words) == status
    captured = capsys.readouterr()
    assert captured.err == ("musictag: nowhere.wav: file not found\nmusictag: interrupted: 1 of 5 files were tagged\n")
    if words:
        assert list(json.loads(captured.out)) == ["a.wav"]
    else:
        assert "a.wav" in captured.out
        assert "b.wav" not in captured.out
    assert signal.getsignal(signal.SIGINT) is before


def test_a_result_that_is_being_written_is_written_to_its_end(
    songs: list[str], checkpoint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write = tagging._write

    def interrupted(text: str) -> None:
        half = len(text) // 2
        write(text[:half])
        os.kill(os.getpid(), signal.SIGINT)
        write(text[half:])

    monkeypatch.setattr(tagging, "_write", interrupted)
    assert tag(*songs, "--json", "--model", checkpoint) == 130
    captured = capsys.readouterr()
    assert list(json.loads(captured.out)) == ["a.wav"]
    assert captured.err == "musictag: interrupted: 1 of 4 files were tagged\n"


def test_before_the_first_song_there_is_an_empty_object(
    songs: list[str], checkpoint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        at_song(1, fail_with(KeyboardInterrupt()), patched)
        assert tag(*songs, "--json", "--model", checkpoint) == 130
    assert json.loads(capsys.readouterr().out) == {}
    monkeypatch.setattr("musictag.inference.load.load", lambda *_: fail_with(KeyboardInterrupt())())
    assert tag(*songs, "--json", "--model", checkpoint) == 130
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {}
    assert captured.err == "musictag: interrupted before the first file was tagged\n"
    assert tag(*songs, "--model", checkpoint) == 130
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "target", "told"),
    [
        (["prepare", "x.csv"], "musictag.cli.prepare.run", "; rerun the command to continue"),
        (["embed", "x.wav", "--model", "x"], "musictag.cli.embed.run", "; nothing was written"),
        (["data", "describe", "x.csv"], "musictag.cli.describe.run", ""),
        (["status", "x"], "musictag.cli.status.run", ""),
    ],
)
def test_what_is_said_of_an_interruption_is_true(
    words: list[str],
    target: str,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(target, lambda *_: fail_with(KeyboardInterrupt())())
    assert cli.main(words) == 130
    assert capsys.readouterr().err == f"musictag: interrupted{told}\n"


def test_a_signal_is_put_off_without_a_word_where_none_is_promised(capfd: pytest.CaptureFixture[str]) -> None:
    signal_handler = SignalHandler(promise="")
    with signal_handler.installed():
        signal_handler.defer(True)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signal_handler.signum == signal.SIGTERM
    assert capfd.readouterr().err == ""


def test_nobody_takes_the_output(
    songs: list[str], checkpoint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert tag(*songs, "--json", "--model", checkpoint) == 1
    assert capsys.readouterr().err == "musictag: standard output cannot be written: No space left on device\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_process_that_is_stopped(name: str, tmp_path: Path, checkpoint: str) -> None:
    write_song(tmp_path / "short.wav", 1.0)
    write_song(tmp_path / "long.wav", 600.0)
    names = ["short.wav", *(f"long {number}.wav" for number in range(200))]
    for long in names[1:]:
        os.link(tmp_path / "long.wav", tmp_path / long)
    command = [sys.executable, "-m", "musictag.cli", "tag", *names, "--json", "--model", checkpoint]
    with open(tmp_path / "out.json", "w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, cwd=tmp_path, text=True)
        while not (tmp_path / "out.json").stat().st_size:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(getattr(signal, name))
        _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + getattr(signal, name)
    found = json.loads((tmp_path / "out.json").read_text())
    assert next(iter(found)) == "short.wav"
    assert said == f"musictag: interrupted: {len(found)} of 201 files were tagged\n"
