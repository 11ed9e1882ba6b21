"""`musictag tag` on a library: files of tags that are continued, tags into files, playlists, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import musictag
from musictag import cli
from musictag.cli.each_song import Songs
from musictag.common.errors import SongError
from musictag.common.progress import Progress
from musictag.inference.network_tagger import NetworkTagger
from musictag.library.analyse import Analysed
from musictag.library.fields import read_field, write_field
from tests.helpers.embeddings import write_song
from tests.helpers.experiments import ROOT
from tests.helpers.tagged_songs import at_song, checkpoint, songs, tag  # noqa: F401

# ruff: noqa: F811


def rows(path: str) -> dict[str, dict]:
    return {row["path"]: row for row in map(json.loads, Path(path).read_text().splitlines())}


@pytest.fixture
def analysed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The songs that a model has worked on."""
    found: list[str] = []
    whole = NetworkTagger.tag_many

    def tag_many(tagger: NetworkTagger, sources, *how):
        for song in whole(tagger, sources, *how):
            found.append(song.source)
            yield song

    monkeypatch.setattr(NetworkTagger, "tag_many", tag_many)
    return found


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_songs_are_analysed_once_by_content(
    suffix: str, songs: list[str], checkpoint: str, analysed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("broken.mp3").write_text("no music")
    words = [".", "--model", checkpoint, "--out", f"tags{suffix}"]
    assert tag(*words) == 1
    assert analysed == [f"./{song}" for song in (*songs[:2], "broken.mp3", *songs[2:])]
    told = capsys.readouterr()
    assert told.out.count("\n\n") == 4
    assert told.err.splitlines()[0].startswith("musictag: ./broken.mp3: cannot be read as audio")
    assert told.err.splitlines()[-1] == f"tags{suffix}: 4 songs"
    if suffix == ".parquet":
        table = pq.read_table("tags.parquet")
    elif suffix == ".csv":
        table = pyarrow.csv.read_csv("tags.csv")
    if suffix != ".jsonl":
        found = {row.pop("path"): row for row in table.select(["path", "violin", "drums", "reel"]).to_pylist()}
    else:
        found = {path: row["tags"] for path, row in rows("tags.jsonl").items()}
    tagger = musictag.load(checkpoint)
    assert found == {f"./{song}": pytest.approx(tagger.tag(song), abs=1e-5) for song in songs}

    analysed.clear()
    os.rename("a.wav", "renamed.wav")
    write_field("b.wav", "genre", ["by hand"])
    write_song(Path("c.wav"), 0.7, seed=9)
    assert tag(*words) == 1
    assert analysed == ["./broken.mp3", "./c.wav"]
    assert "renamed" not in capsys.readouterr().out
    assert tag(*words, "--json") == 1
    assert sorted(json.loads(capsys.readouterr().out)) == ["./b.wav", "./c.wav", "./d.wav", "./renamed.wav"]
    assert sorted(os.listdir()) == ["b.wav", "broken.mp3", "c.wav", "d.wav", "renamed.wav", f"tags{suffix}"]


def test_another_analysis_is_not_mixed_in(
    songs: list[str], checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*songs, "--model", checkpoint, "--out", "tags.jsonl"]
    assert tag(*words, "--top", "1", "--tags", "reel,drums") == 0
    before = Path("tags.jsonl").read_bytes()
    assert all(len(row["tags"]) == 1 for row in rows("tags.jsonl").values())
    assert tag(*words, "--top", "2") == 1
    assert "choose another name, or the same model and options" in capsys.readouterr().err
    assert Path("tags.jsonl").read_bytes() == before


def test_a_hop_is_another_analysis(songs: list[str], checkpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*songs, "--model", checkpoint, "--out", "tags.jsonl", "--hop"]
    assert tag(*words, "0.3") == 0
    tagger = musictag.load(checkpoint)
    tagger.set_hop(0.3)
    for path, row in rows("tags.jsonl").items():
        assert row["tags"] == pytest.approx(tagger.tag(path), abs=1e-4)
    assert tag(*words, "0.4") == 1
    assert "choose another name, or the same model and options" in capsys.readouterr().err
    assert tag(*words, "0") == 1
    assert "hop_seconds=0.0; it must be at least one sample" in capsys.readouterr().err


def test_a_file_of_all_tags_is_chosen_from(
    songs: list[str], checkpoint: str, analysed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", checkpoint, "--out", "tags.csv"]
    assert tag(*songs[:3], *words) == 0
    analysed.clear()
    capsys.readouterr()
    assert tag(*songs, *words, "--top", "1", "--json") == 0
    assert analysed == [songs[3]]
    found = json.loads(capsys.readouterr().out)
    tagger = musictag.load(checkpoint)
    assert found == {song: pytest.approx(tagger.tag(song, top=1), abs=1e-5) for song in songs}
    assert all(line.count(",") == 7 and ",," not in line for line in Path("tags.csv").read_text().splitlines())


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(
    songs: list[str],
    checkpoint: str,
    analysed: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [*songs, "--model", checkpoint, "--out", "tags.jsonl", "--top", "1", "--playlists", "lists"]
    with monkeypatch.context() as patched:
        at_song(3, lambda: os.kill(os.getpid(), signal.SIGINT), patched)
        assert tag(*words) == 130
    assert capsys.readouterr().err.splitlines() == [
        "tagging: stopped after 2 of 4 files",
        "tags.jsonl: 2 songs",
        "lists: no playlists, as songs are missing",
        "musictag: interrupted: 2 of 4 files were tagged; repeat the command to continue",
    ]
    assert list(rows("tags.jsonl")) == ["a.wav", "b.wav"]
    analysed.clear()
    assert tag(*words) == 0
    assert analysed == ["c.wav", "d.wav"]
    assert list(rows("tags.jsonl")) == songs
    entries = [line for path in Path("lists").iterdir() for line in path.read_text().splitlines() if line[0] != "#"]
    assert sorted(entries) == [f"../{song}" for song in songs]


@pytest.mark.slow
def test_kill_keeps_what_is_finished(tmp_path: Path, checkpoint: str) -> None:
    for number in range(40):
        write_song(tmp_path / f"{number:02}.wav", 20.0, seed=number)
    command = [sys.executable, "-m", "musictag.cli", "tag", ".", "--model", checkpoint, "--out", "tags.csv"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    while not (tmp_path / "tags.csv").exists() or (tmp_path / "tags.csv").read_bytes().count(b"\n") < 3:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    kept = (tmp_path / "tags.csv").read_bytes().count(b"\n") - 1
    assert 2 <= kept < 40
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert again.returncode == 0
    assert again.stdout.count(b".wav") in (40 - kept, 41 - kept)  # the last row may have been cut short
    assert (tmp_path / "tags.csv").read_bytes().count(b"\n") == 41


def test_into_files_and_back(songs: list[str], checkpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_field("b.wav", "genre", ["Punk"])
    before = {song: Path(song).read_bytes() for song in songs}
    words = [*songs, "nowhere.wav", "--model", checkpoint, "--top", "1", "--write", "genre"]
    top = {song: next(iter(musictag.load(checkpoint).tag(song))) for song in songs}
    assert tag(*words, "--dry-run") == 1
    dry = capsys.readouterr().out
    assert f"a.wav: genre (nothing) -> {top['a.wav']}\nb.wav: genre stays Punk\n" in dry
    assert "files that have a genre already: 1; see --merge and --replace" in dry
    assert {song: Path(song).read_bytes() for song in songs} == before
    assert tag(*words, "--journal", "j.jsonl", "--merge", "--keep-times") == 1
    assert "files changed: 4; to take that back: musictag undo j.jsonl" in capsys.readouterr().out
    assert read_field("b.wav", "genre") == ["Punk", top["b.wav"]]
    assert tag(*words, "--journal", "j.jsonl") == 1
    assert "j.jsonl exists" in capsys.readouterr().err
    assert cli.main(["undo", "j.jsonl"]) == 0
    assert capsys.readouterr().out.count("is as it was") == 4
    assert {song: Path(song).read_bytes() for song in songs} == before
    os.unlink("a.wav")
    assert cli.main(["undo", "j.jsonl"]) == 1
    assert cli.main(["undo", "b.wav"]) == 1
    assert "is not a journal of musictag" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--write", "genre"], "--write needs to know which tags a song has: --confident"),
        (["--playlists", "x"], "--playlists needs to know"),
        (["--dry-run"], "--dry-run goes with --write"),
        (["--merge"], "--merge goes with --write"),
        (["--json", "--write", "mood", "--top", "1"], "not JSON: use --out"),
        (["--out", "x.txt"], "must end in .jsonl, .csv, .parquet"),
        (["--tags", "reel,jig"], "this model has no tag 'jig'"),
    ],
)
def test_what_does_not_go_together(
    words: list[str], told: str, songs: list[str], checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(os.listdir())
    assert tag(*songs, "--model", checkpoint, *words) == 1
    captured = capsys.readouterr()
    assert told in captured.err
    assert captured.out == ""
    assert sorted(os.listdir()) == before


def test_failures_among_many_are_listed_again(
    songs: list[str], checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"gone{number}.wav" for number in range(20)]
    assert tag(*songs, *names, "--model", checkpoint) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[:20] == [f"musictag: {name}: file not found" for name in names]
    assert lines[20] == "musictag: 20 of 24 files could not be used:"
    assert lines[21:] == [f"musictag:   {name}: file not found" for name in names]


def test_the_bar_leaves_standard_output_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A terminal shows the bar, but results may go into a file."""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    with Progress("x", 2) as progress:
        assert progress._bar is not None
        print("a result")
        progress.show(1)
    captured = capsys.readouterr()
    assert captured.out == "a result\n"
    assert "a result" not in captured.err


def test_songs_that_were_known_take_no_time_from_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = iter([0.0, 20.0, 30.0])
    monkeypatch.setattr("musictag.common.progress.time.monotonic", lambda: next(now))
    with Progress("x", 1000) as progress:
        progress.show(910, before=900)
    assert "910 of 1,000 songs, 0.5 per second, 3 min 0 s left" in capsys.readouterr().err


def test_songs_that_were_known_are_told_apart(songs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[int, ...]] = []
    monkeypatch.setattr(Progress, "show", lambda _, *numbers: shown.append(numbers))
    results = [("a.wav", Analysed({}, False, None)), ("b.wav", SongError("x")), ("c.wav", Analysed({}, True, None))]
    assert len(list(Songs(songs).successes(results, "tagging"))) == 2
    assert shown == [(1, 1), (2, 1), (3, 1)]
