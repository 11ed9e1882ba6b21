"""Files of tags: they grow, are continued whatever happened, and hold one analysis; playlists."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from musictag.common.errors import MusictagError
from musictag.inference.network_tagger import NetworkTagger
from musictag.library.choice import Choice, named_tags
from musictag.library.playlists import write_playlists
from musictag.library.tags_file import TagsFile
from tests.helpers.embeddings import make_network

TAGS = ["rock", "=SUM(A1)", "größe, laut"]
SCORES = {"größe, laut": 0.75, "rock": 0.25}
NAMES = ("a.mp3", "=x\ny.mp3", "P\udce9n.mp3")


def started(path: Path, analysis: str = "m top=2", tags: list[str] = TAGS) -> TagsFile:
    return TagsFile(str(path), tags, analysis)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_rows_stay_and_are_continued(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"t{suffix}"
    grows = tmp_path / "t.parquet.part.jsonl" if suffix == ".parquet" else path
    file = started(path)
    for number, name in enumerate(NAMES[:2]):
        file.add(name, f"key{number}", 10 + number, 100, SCORES)
        assert f"key{number}".encode() in grows.read_bytes()  # at once, without closing it
    with pytest.raises(MusictagError, match="another command is writing"):
        started(path)
    file._file.write(b'{"path": "cut sho')
    file._unlock()  # as after kill -9
    file = started(path)
    assert len(file) == 2
    assert file.unchanged(NAMES[1], 11, 100) is not None
    assert file.unchanged(NAMES[1], 11, 101) is None
    assert file.same_content("key2") is None
    file.add(NAMES[2], "key2", 12, 100, {})
    file.close()
    assert sorted(os.listdir(tmp_path)) == [path.name]
    file = started(path)
    assert [file.scores(file.same_content(f"key{number}")) for number in range(3)] == [SCORES, SCORES, {}]
    assert list(file.scores(file.same_content("key0"))) == ["größe, laut", "rock"]
    file.close()
    if suffix == ".parquet":
        assert pq.read_table(path)["rock"].to_pylist() == [0.25, 0.25, None]
    if suffix == ".csv":
        assert path.read_text().splitlines()[:3] == [
            'path,rock,\'=SUM(A1),"größe, laut",content,size,modified,analysis',
            "a.mp3,0.25,,0.75,key0,10,100,m top=2",
            "./=x\\ny.mp3,0.25,,0.75,key1,11,100,m top=2",
        ]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_one_row_per_path_and_none_of_a_song_that_was_moved(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("new place", "copy", "changed"):
        Path(name).touch()
    file = started(tmp_path / f"t{suffix}")
    for path, key in (("old place", "a"), ("new place", "a"), ("copy", "b"), ("copy 2", "b"), ("copy", "b"),
                      ("changed", "c"), ("changed", "d"), ("on another disk", "e")):  # fmt: skip
        file.add(path, key, 1, 1, SCORES)
    file.close()
    file = started(tmp_path / f"t{suffix}")
    assert sorted(file._rows) == ["changed", "copy", "new place", "on another disk"]
    assert file._rows["changed"].content == "d"
    file.close()


def test_what_cannot_be_continued_is_refused_and_stays(tmp_path: Path) -> None:
    for name, text in (
        ("a.jsonl", '{"x": 1}\n'),
        ("b.csv", "path,jazz\n1,2\n"),
        ("c.parquet", "no"),
        ("d.jsonl", "\xff\n"),
        ("e.jsonl", '{"x": 1}'),
        ("f.csv", "song,jazz"),
        ("g.jsonl", "5\n"),
    ):
        (tmp_path / name).write_text(text, encoding="latin-1")
        with pytest.raises(MusictagError, match="cannot be continued"):
            started(tmp_path / name)
        assert (tmp_path / name).read_text(encoding="latin-1") == text
    file = started(tmp_path / "t.jsonl")
    file.add("a", "k", 1, 1, SCORES)
    file.close()
    with pytest.raises(
        MusictagError, match=r"holds results of m top=2, and this command would add those of m top=3: choose"
    ):
        started(tmp_path / "t.jsonl", "m top=3")
    with pytest.raises(MusictagError, match="this model has no tag"):
        started(tmp_path / "t.jsonl", tags=["jazz"])
    with pytest.raises(MusictagError, match=r"must end in \.jsonl"):
        started(tmp_path / "t.txt")
    with pytest.raises(MusictagError, match=r"use --out NAME\.jsonl"):
        started(tmp_path / "t.csv", tags=["path"])
    assert sorted(os.listdir(tmp_path)) == [
        *(f"{name}" for name in ("a.jsonl", "b.csv", "c.parquet", "d.jsonl", "e.jsonl", "f.csv", "g.jsonl")),
        "t.jsonl",
    ]


def test_a_full_disk_keeps_whole_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = started(tmp_path / "t.jsonl")
    file.add("a", "k", 1, 1, SCORES)

    class Full:
        def __init__(self, whole: object) -> None:
            self._whole = whole

        def __getattr__(self, name: str) -> object:
            return getattr(self._whole, name)

        def write(self, content: bytes) -> int:
            return self._whole.write(content[:9])

    monkeypatch.setattr(file, "_file", Full(file._file))
    with pytest.raises(MusictagError, match=r"the disk is full\. It holds 1 songs"):
        file.add("b", "l", 1, 1, SCORES)
    file.close()
    (line,) = (tmp_path / "t.jsonl").read_text().splitlines()
    assert json.loads(line)["path"] == "a"


def test_choices() -> None:
    tagger = NetworkTagger(make_network())
    scores = {"reel": 0.9, "drums": 0.6, "violin": 0.2}
    assert Choice()(tagger, scores) == scores
    assert list(Choice(top=2)(tagger, scores)) == ["reel", "drums"]
    assert list(Choice(threshold=0.6)(tagger, scores)) == ["reel", "drums"]
    assert list(Choice(1, 0.5, ("drums", "violin"))(tagger, scores)) == ["drums"]
    assert str(Choice(1, 0.5, ("drums", "violin"))) == "top=1 threshold=0.5 tags=drums,violin"
    tagger.tag_kinds = ("regression", "classification", "classification")
    assert list(Choice(top=1)(tagger, scores)) == ["reel", "violin"]
    assert named_tags(["drums, reel"], tagger) == ("drums", "reel")
    with pytest.raises(MusictagError, match="no tag 'drum'; it has drums"):
        named_tags(["drum"], tagger)


def test_playlists(tmp_path: Path) -> None:
    music = tmp_path / "m"
    songs = {
        str(music / "a.mp3"): {"rock/pop": 0.5, "Jazz": 0.1},
        str(music / "b.mp3"): {"rock/pop": 0.9},
        str(music / "P\udce9.mp3"): {"rock\\pop": 0.3},
    }
    assert write_playlists(str(tmp_path / "lists"), songs) == {"Jazz.m3u8": 1, "rock-pop.m3u8": 2, "rock-pop_.m3u8": 1}
    lists = tmp_path / "lists"
    assert (lists / "rock-pop.m3u8").read_text().splitlines() == [
        "#EXTM3U",
        "# by musictag",
        "../m/b.mp3",
        "../m/a.mp3",
    ]
    assert (lists / "rock-pop_.m3u8").read_bytes().endswith(b"\n../m/P\xe9.mp3\n")
    write_playlists(str(lists), songs)
    (lists / "Jazz.m3u8").write_text("#EXTM3U\nmine.mp3\n")
    with pytest.raises(MusictagError, match=r"Jazz\.m3u8 was not written by musictag"):
        write_playlists(str(lists), songs)


@pytest.mark.parametrize("path", ["=x.mp3", "./=x.mp3", "././@x.mp3", "./x.mp3", "../=x.mp3", "/=x.mp3"])
def test_a_path_that_looks_like_a_formula_is_read_back_as_it_was(path: str, tmp_path: Path) -> None:
    file = started(tmp_path / "t.csv")
    file.add(path, "key", 1, 1, SCORES)
    file.close()
    assert not (tmp_path / "t.csv").read_text().splitlines()[1].startswith(("=", "@"))
    assert started(tmp_path / "t.csv").unchanged(path, 1, 1) is not None
