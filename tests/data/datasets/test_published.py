"""Where the songs of a published data set are, which of them exist, and the messages about it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pytorch_lightning.utilities import rank_zero_only

from musictag.common.errors import MusictagError
from musictag.data.datasets.audio_files import AudioFiles
from musictag.data.datasets.published import announce, choose, files_there, find_audio, make_manifest
from musictag.data.manifest import Manifest
from musictag.experiment.builders import build_source
from tests.helpers.experiments import compose_config
from tests.helpers.public_files import make_files

PATHS = ["a/1.mp3", "a/2.mp3", "b/3.mp3", "4.mp3", ""]
#: Nothing is prepared.
NONE = pa.array([], pa.string())


def manifest(splits: str, groups: str = "", there: str = "") -> Manifest:
    """One song per letter: t(rain), v(alidation), e (test); groups and presence likewise."""
    names = {"t": "train", "v": "validation", "e": "test"}
    ids = [str(number) for number in range(len(splits))]
    columns = {"song_id": ids, "path": ids, "split": [names[letter] for letter in splits]}
    if groups:
        columns["group"] = [None if letter == "?" else letter for letter in groups]
    present = np.array([letter == "1" for letter in there or "1" * len(splits)])
    return make_manifest("mine", columns, ["rock", "jazz"], np.eye(len(splits), 2), present)


def test_files_are_found_by_name(tmp_path: Path) -> None:
    make_files(tmp_path, ["a/2.mp3", "4.mp3", "b"])
    assert files_there(tmp_path, PATHS, NONE).tolist() == [False, True, False, True, False]
    prepared = pa.array(["b/3.mp3", "elsewhere.mp3"])
    assert files_there(tmp_path, PATHS, prepared).tolist() == [False, True, True, True, False]


@pytest.mark.parametrize("path", ["../1.mp3", "a/../../1.mp3", "/etc/1.mp3"])
def test_paths_that_lead_out_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(MusictagError, match="leads out of"):
        files_there(tmp_path, [*PATHS, path], NONE)


def test_the_layout_with_most_files_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layouts = {"full": PATHS, "low": [path.replace(".mp3", ".low.mp3") for path in PATHS]}
    make_files(tmp_path, ["a/2.mp3", "a/2.low.mp3", "b/3.low.mp3"])
    paths, there = find_audio(tmp_path, layouts, "audio", "auto", "advice", NONE)
    assert (paths, there.tolist()) == (layouts["low"], [False, True, True, False, False])
    assert f"audio below {tmp_path} as in a/2.low.mp3 (data.audio=low), 2 of 5 songs" in capsys.readouterr().err
    paths, there = find_audio(tmp_path, layouts, "audio", "full", "advice", NONE)
    assert (paths, there.tolist()) == (PATHS, [False, True, False, False, False])
    (tmp_path / "b" / "3.low.mp3").unlink()
    assert find_audio(tmp_path, layouts, "audio", "auto", "advice", NONE)[0] == PATHS


def test_without_any_file_it_says_what_was_looked_for(tmp_path: Path) -> None:
    layouts = {"full": ["", *PATHS], "low": ["x.low.mp3"]}
    with pytest.raises(MusictagError) as caught:
        find_audio(tmp_path, layouts, "audio", "auto", "Buy some.", NONE)
    for words in (f"below {tmp_path};", "data.root=...", "  full: a/1.mp3\n  low: x.low.mp3\nBuy some."):
        assert words in str(caught.value)
    with pytest.raises(MusictagError) as caught:
        find_audio(tmp_path, layouts, "audio", "low", "Buy some.", NONE)
    assert "full" not in str(caught.value)


def test_songs_without_audio_are_not_in_the_manifest() -> None:
    made = manifest("tve", "xy?", there="101")
    assert (made.song_ids.tolist(), made.groups.tolist()) == (["0", "2"], ["x", None])
    assert made.targets().tolist() == [[1, 0], [0, 0]]
    assert [(tag.name, tag.kind) for tag in made.tags] == [("rock", "classification"), ("jazz", "classification")]


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_counts_are_compared_with_the_published_ones(capsys: pytest.CaptureFixture[str]) -> None:
    announce(manifest("ttve"), "split original", (2, 1, 1), without_audio=0)
    assert said(capsys)[0] == "mine, split original: songs train 2, validation 1, test 1, as published; 2 tags"
    announce(manifest("ttve"), "split original", (3, 1, 1), without_audio=1)
    assert said(capsys)[:3] == [
        "mine, split original: songs train 2, validation 1, test 1; 2 tags",
        "1 of 5 songs have no audio file and are left out",
        "WARNING: the published numbers are train 3, validation 1, test 1. Audio is missing, so scores are only "
        "roughly comparable.",
    ]
    announce(manifest("ttve"), "split original", (3, 1, 1), without_audio=0)
    assert said(capsys)[1].endswith("test 1. The lists differ, so scores are only roughly comparable.")
    announce(manifest("tt"), "merged", None, without_audio=0)
    first, *others = said(capsys)
    assert first == "mine, merged: songs train 2, validation 0, test 0; 2 tags"
    assert not any("WARNING" in line for line in others)


def test_artists_that_cross_splits_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    announce(manifest("ttvveee", "xyxzyz?"), "split", None, 0)
    assert said(capsys)[1:] == [
        "artists: 3, of whom 3 are in more than one split; 1 of 3 test songs are by artists of training songs"
    ]
    announce(manifest("tve"), "split", None, 0)
    assert "artists are unknown" in said(capsys)[1]


def test_only_the_first_process_prints(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    announce(manifest("tve"), "split", (3, 3, 3), 0)
    assert said(capsys) == []


def test_settings_must_exist() -> None:
    choose("split", 0, range(5))
    with pytest.raises(MusictagError, match=r"data\.split=5 does not exist; choose one of 0, 1, 2, 3, 4"):
        choose("split", 5, range(5))


@pytest.mark.parametrize("data", ["magnatagatune", "msd", "jamendo"])
def test_the_shipped_configuration_makes_the_source(data: str, tmp_path: Path) -> None:
    source = build_source(compose_config(f"data={data}", f"data.root={tmp_path}", "data.max_seconds=7"))
    assert isinstance(source, AudioFiles)
    assert (source.name, source.root, source.max_seconds) == (data, tmp_path, 7)
    with pytest.raises(MusictagError, match=r"data\.(root|lists)="):
        source.manifest()
