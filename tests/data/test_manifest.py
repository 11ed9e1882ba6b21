"""The manifest: what it accepts, its messages, and how a catalogue becomes one."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from musictag.common.errors import MusictagError
from musictag.data.datasets.catalogue import CatalogueFile
from musictag.data.manifest import Manifest, Tag
from tests.helpers.catalogues import read_rows, write_table

TAGS = (Tag("rock"), Tag("tempo", "regression"))


def table(**changed: list) -> pa.Table:
    columns = {
        "tempo": [0.25, None, float("nan"), 1.0],
        "rock": [1, 0, None, 1],
        "song_id": ["a", "b", "c", "d"],
        "path": ["a.wav", "b.wav", "c.wav", "d.wav"],
        "split": ["train", "train", "validation", "test"],
        "group": ["x", "y", None, "x"],
        "duration": [10.0, None, 2.5, 3],
    }
    return pa.table({name: values for name, values in (columns | changed).items() if values is not None})


def test_columns_come_out_in_order_and_unknown_is_nan() -> None:
    manifest = Manifest(table(), TAGS, "mine")
    assert manifest.table.column_names == ["song_id", "path", "split", "group", "duration", "rock", "tempo"]
    assert manifest.table.schema.field("rock").type == pa.float32()
    assert manifest.table["tempo"].null_count == 2
    targets = manifest.targets()
    assert targets.dtype == np.float32
    np.testing.assert_array_equal(targets, [[1, 0.25], [0, np.nan], [np.nan, np.nan], [1, 1]])
    assert manifest.song_ids.tolist() == ["a", "b", "c", "d"]
    assert manifest.groups.tolist() == ["x", "y", None, "x"]
    assert manifest.leaked_groups() == ["x"]
    train = manifest.split("train")
    assert (len(train), train.paths.tolist(), train.leaked_groups()) == (2, ["a.wav", "b.wav"], [])
    assert manifest.select(np.array([3, 0])).song_ids.tolist() == ["d", "a"]
    with pytest.raises(ValueError, match="twice"):
        manifest.select(np.array([1, 1]))
    with pytest.raises(IndexError, match="4 songs; asked for rows 1 to 4"):
        manifest.select(np.array([1, 4]))


def test_a_view_of_a_view_is_what_a_manifest_of_its_rows_would_be() -> None:
    whole = Manifest(table(split=["train", "test", "train", "train"]), TAGS, "mine")
    view = whole.split("train").select(np.array([2, 0]))
    alone = Manifest(whole.table.take([3, 0]), TAGS, "mine")
    assert (len(view), view.song_ids.tolist(), view.groups.tolist()) == (2, ["d", "a"], ["x", "x"])
    np.testing.assert_array_equal(view.targets(), alone.targets())
    np.testing.assert_array_equal(view.values("duration"), np.array([3, 10], dtype=np.float32))
    assert view.column("path").to_pylist() == ["d.wav", "a.wav"]
    assert view.table.equals(alone.table)
    assert view.digest() == alone.digest() != whole.digest()


def test_all_problems_are_named_at_once_with_their_rows() -> None:
    broken = table(
        song_id=["a", "a", "", None],
        path=["a.wav", " ", "c.wav", "d.wav"],
        split=["train", "valid", "validation", None],
        duration=[0.0, -1.0, float("inf"), None],
        rock=[1, 0.5, 0, None],
        tempo=[1.5, -0.1, None, 0.5],
    )
    with pytest.raises(MusictagError) as caught:
        Manifest(broken, TAGS, "mine")
    lines = [line.strip() for line in str(caught.value).splitlines()[1:]]
    assert lines == [
        "row 3: song_id '' is empty",
        "row 4: song_id None is empty",
        "row 2: path ' ' is empty",
        "row 4: split None is empty",
        "row 2: song_id 'a' is already used by a song above",
        "row 2: split 'valid' is not one of train, validation, test, unlabelled",
        "row 1: duration 0.0 is not a number of seconds above 0",
        "row 2: duration -1.0 is not a number of seconds above 0",
        "row 3: duration inf is not a number of seconds above 0",
        "row 2: rock 0.5 is neither 0 nor 1",
        "row 1: tempo 1.5 is not between 0 and 1",
        "row 2: tempo -0.10000000149011612 is not between 0 and 1",
    ]


def test_a_long_list_of_problems_is_cut() -> None:
    size = 1000
    ids = [str(i) for i in range(size)]
    many = table(
        song_id=ids,
        path=ids,
        split=["train"] * size,
        group=ids,
        duration=[1.0] * size,
        rock=[2] * size,
        tempo=[9] * size,
    )
    with pytest.raises(MusictagError) as caught:
        Manifest(many, TAGS, "mine")
    lines = str(caught.value).splitlines()
    assert len(lines) == 22
    assert lines[-1].strip() == "... and 1,980 more"


@pytest.mark.parametrize(
    ("changed", "tags", "message"),
    [
        ({"split": None, "rock": None}, TAGS, r"(?s)'split' is missing.*'rock' is missing"),
        ({"mood": [1, 2, 3, 4]}, TAGS, "'mood' is neither a tag nor"),
        ({"rock": ["yes", "no", "no", "no"]}, TAGS, "'rock' holds string"),
        ({}, (*TAGS, Tag("rock")), "'rock' is given twice"),
        ({}, (*TAGS, Tag("split")), "'split': this name is reserved"),
        ({}, (Tag("rock", "ranking"), TAGS[1]), "of kind 'ranking'"),
        ({}, (), "no tags"),
        ({name: [] for name in table().column_names}, TAGS, "no songs"),
    ],
)
def test_wrong_columns_and_tags_are_refused(changed: dict, tags: tuple[Tag, ...], message: str) -> None:
    with pytest.raises(MusictagError, match=message):
        Manifest(table(**changed), tags, "mine")


def test_the_digest_covers_what_a_result_depends_on() -> None:
    digest = Manifest(table(), TAGS, "mine").digest()
    assert Manifest(table(group=[None] * 4, duration=[None] * 4), TAGS, "other").digest() == digest
    for change in ({"rock": [1, 0, 0, 1]}, {"tempo": [0.26, None, None, 1]}, {"path": ["a", "b", "c", "d"]},
                   {"split": ["train", "test", "validation", "test"]}, {"song_id": ["a", "b", "c", "e"]}):  # fmt: skip
        assert Manifest(table(**change), TAGS, "mine").digest() != digest
    assert Manifest(table(rock=[1, 0, 0, 1]), (Tag("rock", "regression"), TAGS[1]), "m").digest() != digest


# a catalogue: a user's own music


def test_a_catalogue_becomes_a_manifest(tiny_catalogue: Path) -> None:
    source = CatalogueFile(tiny_catalogue)
    manifest = source.manifest()
    assert manifest.tags == (Tag("high"), Tag("noisy"), Tag("brightness", "regression"))
    assert [len(manifest.split(split)) for split in ("train", "validation", "test")] == [12, 5, 7]
    assert np.isnan(manifest.targets()[0, 2])
    assert manifest.name == source.name == "catalogue"
    reader = source.reader()
    assert reader("x", "audio/train-00.wav").dtype == np.int16

    parquet = tiny_catalogue.with_suffix(".parquet")
    pq.write_table(manifest.table, parquet)
    assert CatalogueFile(parquet).manifest().digest() == manifest.digest()
    tsv = tiny_catalogue.with_suffix(".tsv")
    tsv.write_text(tiny_catalogue.read_text().replace(",", "\t"), encoding="utf-8-sig")
    assert CatalogueFile(tsv).manifest().digest() == manifest.digest()


def test_tags_can_be_chosen_and_their_kind_decided(tiny_catalogue: Path) -> None:
    assert CatalogueFile(tiny_catalogue, tags=["noisy"]).manifest().tags == (Tag("noisy"),)
    chosen = CatalogueFile(tiny_catalogue, tags={"high": "regression"}).manifest()
    assert chosen.tags == (Tag("high", "regression"),)
    with pytest.raises(MusictagError, match=r"tags without a column; .*: loud"):
        CatalogueFile(tiny_catalogue, tags=["loud"]).manifest()


def test_identifiers_stay_text_and_empty_cells_unknown(tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "my songs.csv",
        [
            {"song_id": "007", "path": "0.wav", "split": "train", "group": "", "duration": "", "rock": "1", "sad": ""},
            {
                "song_id": "NA",
                "path": "1.wav",
                "split": "test",
                "group": " ",
                "duration": "2.5",
                "rock": "0.0",
                "sad": "",
            },
        ],
    )
    manifest = CatalogueFile(path).manifest()
    assert manifest.song_ids.tolist() == ["007", "NA"]
    assert manifest.groups.tolist() == [None, None]
    assert manifest.table["duration"].to_pylist() == [None, 2.5]
    assert manifest.tags == (Tag("rock"), Tag("sad"))
    assert np.isnan(manifest.targets()[:, 1]).all()
    assert manifest.name == "my-songs"


def test_unusable_catalogues_say_what_to_do(tmp_path: Path) -> None:
    row = {"song_id": "a", "path": "a.wav", "split": "train", "rock": "1"}
    with pytest.raises(MusictagError, match="no catalogue at"):
        CatalogueFile(tmp_path / "none.csv").manifest()
    with pytest.raises(MusictagError, match=r"a \.csv, \.tsv or \.parquet file"):
        CatalogueFile(tmp_path / "none.xlsx").manifest()
    path = tmp_path / "c.csv"
    write_table(path, [row, row | {"rock": "maybe"}, row | {"rock": "1,5"}])
    with pytest.raises(MusictagError, match=r"(?s)row 2: rock 'maybe'.*row 3: rock '1,5'"):
        CatalogueFile(path).manifest()
    path.write_text("song_id,path,split,rock\na,a.wav,train\n")
    with pytest.raises(MusictagError, match="cannot be read as csv"):
        CatalogueFile(path).manifest()
    path.write_bytes(b"song_id,path,split,rock\n\xff\xfe,a.wav,train,1\n")
    with pytest.raises(MusictagError, match="cannot be read as csv"):
        CatalogueFile(path).manifest()
    path.write_text("song_id,path,split,rock,rock\n")
    with pytest.raises(MusictagError, match="duplicate column names"):
        CatalogueFile(path).manifest()
    path.write_text("")
    with pytest.raises(MusictagError, match="cannot be read as csv"):
        CatalogueFile(path).manifest()
    (tmp_path / "c.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(MusictagError, match="cannot be read as parquet"):
        CatalogueFile(tmp_path / "c.parquet").manifest()


def test_paths_may_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    row = {"song_id": "a", "path": "in/../ok.wav", "split": "train", "rock": "1"}
    paths = ["../secret.wav", "/etc/passwd", "in/../../x.wav", str(tmp_path) + "2/a.wav"]
    outside = [row | {"song_id": str(i), "path": path} for i, path in enumerate(paths)]
    path = write_table(tmp_path / "c.csv", [row, *outside])
    with pytest.raises(MusictagError) as caught:
        CatalogueFile(path).manifest()
    message = str(caught.value)
    assert all(f"row {i}: {outside[i - 2]['path']}" in message for i in range(2, 6))
    assert "row 1" not in message
    assert len(CatalogueFile(path, root="/").manifest()) == 5


def test_adding_songs_changes_no_fingerprint_and_a_changed_file_its_version(tiny_catalogue: Path) -> None:
    rows = read_rows(tiny_catalogue)
    source = CatalogueFile(tiny_catalogue)
    before = source.fingerprint()
    versions = source.versions(source.manifest())
    write_table(tiny_catalogue, rows[:10])
    fewer = CatalogueFile(tiny_catalogue)
    assert fewer.fingerprint() == before
    assert fewer.versions(fewer.manifest()) == versions[:10]
    os.utime(tiny_catalogue.parent / rows[3]["path"], ns=(1, 1))
    (tiny_catalogue.parent / rows[5]["path"]).unlink()
    after = fewer.versions(fewer.manifest())
    assert [i for i in range(10) if after[i] != versions[i]] == [3, 5]
    assert after[5] is None
    assert CatalogueFile(tiny_catalogue, sample_rate=8000).fingerprint() != before
