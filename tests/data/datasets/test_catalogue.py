"""A user's catalogue: required columns, handling of tags, paths and groups, and messages."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from musictag.common.errors import MusictagError
from musictag.data.datasets.catalogue import CatalogueFile
from musictag.data.manifest import SPLITS, Tag
from musictag.experiment.builders import build_source
from tests.helpers.catalogues import read_rows, write_songs, write_table
from tests.helpers.experiments import compose_config


def test_path_and_one_tag_are_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_table(tmp_path / "mine.csv", [{"path": f"{i}.mp3", "happy": i % 2} for i in range(10)])
    manifest = CatalogueFile(path).manifest()
    assert manifest.song_ids.tolist() == manifest.paths.tolist() == [f"{i}.mp3" for i in range(10)]
    assert manifest.tags == (Tag("happy"),)
    assert set(manifest.table["split"].to_pylist()) == set(SPLITS)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        f"{path}: 10 songs, no groups (a column group would name the artist or the work)",
        "  1 classification tag: happy",
        "  kinds inferred from the values; 'data.tags={happy:classification,...}' chooses tags and their kinds",
        f"  split made (0.8, 0.1, 0.1; seed 0) and saved in {tmp_path / 'mine.split-0.csv'}: "
        "train 8, validation 1, test 1",
        *[line for line in said.err.splitlines() if line.startswith("  no song of ")],
    ]
    again = CatalogueFile(path)
    assert again.manifest().digest() == manifest.digest()
    assert "split saved in" in capsys.readouterr().err
    again.manifest()
    assert capsys.readouterr().err == ""


def test_kinds_and_tags_without_songs_in_a_split_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"path": f"{i}.wav", "split": split, "artist": f"a{i}", "rock": int(i < 4), "energy": i / 10, "sad": 1}
        for i, split in enumerate(["train"] * 6 + ["validation"] * 2 + ["test"] * 2)
    ]
    path = write_table(tmp_path / "c.csv", rows)
    CatalogueFile(path).manifest()
    assert capsys.readouterr().err.splitlines() == [
        f"{path}: 10 songs, 10 groups (column artist)",
        "  2 classification tags: rock, sad",
        "  1 regression tag: energy",
        "  kinds inferred from the values; 'data.tags={rock:classification,...}' chooses tags and their kinds",
        "  column split: train 6, validation 2, test 2",
        "  no song of validation has: rock",
        "  no song of test has: rock",
    ]
    CatalogueFile(path, tags={"rock": "classification", "energy": "regression"}).manifest()
    assert "inferred" not in capsys.readouterr().err


def test_a_hundred_tags_stay_a_compact_block(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tags = {f"tag{i}": [0.0, 1.0, 1.0] for i in range(139)}
    pq.write_table(pa.table({"path": ["a", "b", "c"], "split": list(SPLITS), **tags}), tmp_path / "c.parquet")
    CatalogueFile(tmp_path / "c.parquet").manifest()
    said = capsys.readouterr().err
    assert "139 classification tags: tag0, tag1, tag2, tag3, tag4, tag5, tag6, tag7 and 131 more" in said
    assert "no song of train has: tag0" in said
    assert len(said.splitlines()) == 5


def test_other_processes_print_nothing_and_save_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_table(tmp_path / "mine.csv", [{"path": f"{i}.mp3", "happy": i % 2} for i in range(10)])
    monkeypatch.setattr("musictag.common.progress.is_rank_zero", lambda: False)
    other = CatalogueFile(path).manifest()
    assert capsys.readouterr().err == ""
    assert sorted(file.name for file in tmp_path.glob("*.csv")) == ["mine.csv", "mine.split-0.csv"]
    monkeypatch.undo()
    assert CatalogueFile(path).manifest().digest() == other.digest()


def test_declared_kinds_that_do_not_fit_are_refused_with_their_rows(tmp_path: Path) -> None:
    rows = [{"path": f"{i}.wav", "split": "train", "a": i / 4, "b": i % 2} for i in range(5)]
    path = write_table(tmp_path / "c.csv", rows)
    with pytest.raises(MusictagError, match=r"(?s)row 2: a 0\.25 is neither 0 nor 1.*row 4: a 0\.75"):
        CatalogueFile(path, tags={"a": "classification"}).manifest()
    with pytest.raises(MusictagError, match="of kind 'ranking'"):
        CatalogueFile(path, tags={"a": "ranking"}).manifest()
    tags = CatalogueFile(path, tags={"b": "regression", "a": None}).manifest().tags
    assert tags == (Tag("b", "regression"), Tag("a", "regression"))
    config = compose_config("data=catalogue", f"data.path={path}", "data.tags={b:regression,a:null}")
    assert build_source(config).manifest().tags == tags


def test_words_are_not_a_tag(tmp_path: Path) -> None:
    rows = [{"path": f"{i}.wav", "title": f"song {i}", "genre": "rock", "happy": i % 2} for i in range(5)]
    path = write_table(tmp_path / "c.csv", rows)
    with pytest.raises(
        MusictagError, match=r"(?s)columns title, genre: not numbers.*data\.tags=\[happy\].*named group"
    ):
        CatalogueFile(path).manifest()
    assert CatalogueFile(path, tags=["happy"]).manifest().tags == (Tag("happy"),)
    write_table(path, [{"path": "a.wav", "artist": "x"}])
    with pytest.raises(MusictagError, match="no tag column: add one"):
        CatalogueFile(path).manifest()
    write_table(path, [{"": "0", "path": "a.wav", "x": "1"}])
    with pytest.raises(MusictagError, match=r"columns without a name.*index=False.*: column 1"):
        CatalogueFile(path).manifest()
    write_table(path, [{"file": "a.wav", "x": "1"}])
    with pytest.raises(MusictagError, match="no column path; the columns are file, x"):
        CatalogueFile(path).manifest()


def test_the_artist_is_the_group_unless_there_is_a_group(tmp_path: Path) -> None:
    rows = [{"path": f"{i}.wav", "group": f"g{i}", "artist": f"a{i}", "x": i % 2} for i in range(6)]
    path = write_table(tmp_path / "c.csv", rows)
    assert CatalogueFile(path, tags=["x"]).manifest().groups[0] == "g0"
    write_table(path, [{key: value for key, value in row.items() if key != "group"} for row in rows])
    assert CatalogueFile(path).manifest().groups[0] == "a0"
    write_table(path, [{"path": f"{i}.wav", "artist": i % 2, "x": 1} for i in range(6)])
    manifest = CatalogueFile(path, tags=["artist"]).manifest()
    assert (manifest.tags, manifest.groups[0]) == ((Tag("artist"),), None)


def test_tables_of_other_programs_are_read(tmp_path: Path) -> None:
    """Types that pandas and polars write: large strings, dictionaries, float64 with NaN, booleans, integers."""
    columns = {
        "song_id": pa.array([1, 2, 3]),
        "path": pa.array(["a", "b", "c"], pa.large_string()),
        "split": pa.array(SPLITS).dictionary_encode(),
        "group": pa.array(["x", None, "y"], pa.large_string()),
        "loud": pa.array([True, False, None]),
        "fast": pa.array([0.25, float("nan"), 1.0]),
        "live": pa.array(["1", "", "0"], pa.large_string()),
        "with.dot": pa.array([0, 1, 1], pa.int8()),
    }
    pq.write_table(pa.table(columns), tmp_path / "c.parquet")
    manifest = CatalogueFile(tmp_path / "c.parquet").manifest()
    assert manifest.song_ids.tolist() == ["1", "2", "3"]
    assert [tag.kind for tag in manifest.tags] == ["classification", "regression", "classification", "classification"]
    expected = [[1, 0.25, 1, 0], [0, np.nan, np.nan, 1], [np.nan, 1, 0, 1]]
    np.testing.assert_array_equal(manifest.targets(), np.array(expected, dtype=np.float32))


def test_spaces_around_numbers_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("path,split,x,y\na,train, 1 ,\t0.5\nb,test, ,1e-1\n")
    manifest = CatalogueFile(path).manifest()
    np.testing.assert_array_equal(manifest.targets(), np.array([[1, 0.5], [np.nan, 0.1]], dtype=np.float32))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (codecs.BOM_UTF16_LE + "path,x\na,1\n".encode("utf-16-le"), "is UTF-16 text.*iconv -f UTF-16 -t UTF-8"),
        ("path,x,bäd\na,1,0\n".encode("cp1252"), "its first row is not UTF-8 .*iconv -f CP1252"),
        (b"pathx\na1\n", "no column path; the columns are pathx"),
        (b'path,x\n"a,1\nb,0\n', "cannot be read as csv"),
    ],
)
def test_tables_that_are_not_utf8_with_commas_say_so(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "c.csv").write_bytes(content)
    with pytest.raises(MusictagError, match=message):
        CatalogueFile(tmp_path / "c.csv").manifest()


def test_absolute_paths_below_the_root_become_relative_and_links_are_followed(tmp_path: Path) -> None:
    songs = write_songs(tmp_path / "elsewhere", 2)
    (tmp_path / "music").mkdir()
    os.symlink(tmp_path / "elsewhere", tmp_path / "music" / "disk")
    paths = [str(tmp_path / "music" / "disk" / songs[0]), f"disk/{songs[1]}", "./disk/../c.wav"]
    rows = [{"path": path, "split": split, "x": 1} for path, split in zip(paths, SPLITS, strict=True)]
    source = CatalogueFile(write_table(tmp_path / "music" / "c.csv", rows))
    manifest = source.manifest()
    assert manifest.paths.tolist() == [f"disk/{songs[0]}", f"disk/{songs[1]}", "./disk/../c.wav"]
    assert len(source.reader()(manifest.song_ids[0], manifest.paths[0])) == 16000
    for path in ("..\\x.wav", "C:\\music\\x.wav", "a\0b"):
        write_table(tmp_path / "music" / "c.csv", [rows[0] | {"path": path}])
        with pytest.raises(MusictagError, match="lead out of"):
            CatalogueFile(tmp_path / "music" / "c.csv").manifest()


def test_a_split_that_is_made_is_that_of_the_configuration(tiny_catalogue: Path, tmp_path: Path) -> None:
    rows = [{key: value for key, value in row.items() if key != "split"} for row in read_rows(tiny_catalogue)]
    write_table(tiny_catalogue, rows)
    saved = tmp_path / "chosen.csv"
    keys = ("data.split_fractions=[0.5,0.25,0.25]", "data.split_seed=7", f"data.split_path={saved}")
    manifest = build_source(compose_config("data=catalogue", f"data.path={tiny_catalogue}", *keys)).manifest()
    assert [len(manifest.split(split)) for split in SPLITS] == [12, 6, 6]
    assert saved.read_text().startswith('# split made by musictag: {"fractions": [0.5, 0.25, 0.25], "seed": 7}\n')
    other = build_source(
        compose_config("data=catalogue", f"data.path={tiny_catalogue}", "data.split_seed=8")
    ).manifest()
    assert other.digest() != manifest.digest()
    assert (tiny_catalogue.parent / "catalogue.split-8.csv").is_file()


def test_nothing_is_saved_for_a_table_that_cannot_be_used(tmp_path: Path) -> None:
    path = write_table(tmp_path / "c.csv", [{"path": f"{i // 2}.wav", "x": i % 2} for i in range(10)])
    with pytest.raises(MusictagError, match="is already used"):
        CatalogueFile(path).manifest()
    assert [file.name for file in tmp_path.iterdir()] == ["c.csv"]


@pytest.mark.parametrize("seconds", ["abc", 1e-9, 0, -1, float("nan")])
def test_lengths_that_no_song_can_have_are_refused(tmp_path: Path, seconds: object) -> None:
    with pytest.raises(MusictagError, match=rf"max_seconds={seconds}: give 0\.1 seconds or more, or null"):
        CatalogueFile(tmp_path / "c.csv", max_seconds=seconds)
