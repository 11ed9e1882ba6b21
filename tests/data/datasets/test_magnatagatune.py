"""MagnaTagATune: the published splits song by song, tags and their order, and messages about missing files."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pytest

from musictag.common.errors import MusictagError
from musictag.data.datasets.magnatagatune import ANNOTATIONS, CLIP_INFO, SYNONYMS, TAGS, MagnaTagATune
from musictag.data.datasets.msd.pickles import load_pickle
from musictag.data.manifest import SPLITS, Manifest
from musictag.data.preparation.prepare import prepare
from musictag.data.store.store import read_index
from tests.helpers.public_files import make_audio, make_files, public_file

#: Columns as in the published table: unordered, and more than are used.
COLUMNS = sorted(
    {*TAGS, *(name for names in SYNONYMS for name in names), "banjo", "bongos", "folk", "lol", "organ", "water"}
)
INFO = (
    "clip_id",
    "track_number",
    "title",
    "artist",
    "album",
    "url",
    "segmentStart",
    "segmentEnd",
    "original_url",
    "mp3_path",
)


def write_tables(root: Path, paths: dict[str, str], tags: dict[str, set[str]]) -> Path:
    """Both tables, in the published form: tabs, everything in quotes. ``tags`` are those of a clip."""
    root.mkdir(parents=True, exist_ok=True)
    columns = {"clip_id": list(paths)}
    columns |= {name: ["1" if name in tags.get(clip, ()) else "0" for clip in paths] for name in COLUMNS}
    write_table(root / ANNOTATIONS, columns | {"mp3_path": list(paths.values())})
    artist = [path.partition("/")[2].partition("-")[0] for path in paths.values()]
    facts = {name: ["0"] * len(paths) for name in INFO} | {"clip_id": list(paths), "artist": artist}
    # in another order than the clips of the other table
    write_table(root / CLIP_INFO, {name: values[::-1] for name, values in facts.items()})
    return root


def write_table(path: Path, columns: dict[str, list[str]]) -> None:
    options = pacsv.WriteOptions(delimiter="\t", quoting_style="all_valid")
    pacsv.write_csv(pa.table(columns), path, options)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """All 25,863 clips of the real index; real tags for validation and test, none for training; empty audio files."""
    index = public_file("mtt/index_mtt.tsv")
    paths = dict(line.split("\t") for line in index.read_text().splitlines())
    tags = {}
    for split in ("val", "test"):
        for clip, values in truth(split).items():
            tags[clip] = {tag for tag, value in zip(TAGS, values, strict=True) if value}
    root = write_tables(tmp_path_factory.mktemp("magnatagatune"), paths, tags)
    yield make_files(root, paths.values())
    shutil.rmtree(root)


def truth(split: str) -> dict[str, list[float]]:
    lines = public_file(f"mtt/{split}_gt_mtt.tsv").read_text().splitlines()
    return {clip: json.loads(values) for clip, values in (line.split("\t") for line in lines)}


def counts(manifest: Manifest) -> tuple[int, ...]:
    return tuple(len(manifest.split(split)) for split in SPLITS)


def test_the_original_split(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = MagnaTagATune(published).manifest()
    assert counts(manifest) == (18706, 1825, 5329)
    assert not {"35644", "55753", "57881"} & set(manifest.song_ids)
    for split, name in (("validation", "val"), ("test", "test")):
        songs, expected = manifest.split(split), truth(name)
        assert songs.song_ids.tolist() == list(expected)
        np.testing.assert_array_equal(songs.targets(), list(expected.values()))
    said = capsys.readouterr().err
    for words in (
        "broken: 35644, 55753, 57881",
        "split original: songs train 18,706, validation 1,825, test 5,329, as published; 50 tags",
        "artists: 230, of whom 56 are in more than one split; 3,284 of 5,329 test songs are by artists of training",
    ):
        assert words in said


def test_the_clean_split_is_the_published_list(published: Path) -> None:
    manifest = MagnaTagATune(published, split="clean").manifest()
    for split, name, size in (("validation", "valid", 1529), ("test", "test", 4332)):
        listed = load_pickle(public_file(f"mtt/{name}_list_pub.cP"))
        assert len(listed) == size
        assert {path.removesuffix(".mp3") for path in manifest.split(split).paths} == {
            path.removesuffix(".npy") for path in listed
        }


def test_the_tags_are_the_published_50() -> None:
    spelled = public_file("mtt/top50.txt").read_text().split()
    assert sorted(tag.replace(" ", "").lower() for tag in TAGS) == sorted(tag.lower() for tag in spelled)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Eight clips with real audio; the last one has no tag, the one before only one beyond the 50."""
    paths = {
        str(number): f"{folder}/{artist}-album-01-title-{number}-29.mp3"
        for number, (folder, artist) in enumerate(zip("0bccdeff", "aabacdee", strict=True))
    }
    tags = {
        "0": {"guitar", "no vocals"}, "1": {"guitars", "woman"}, "2": {"female voice"}, "3": {"classic"},
        "4": {"classical", "guitar"}, "5": {"clasical"}, "6": {"bongos"},
    }  # fmt: skip
    return make_audio(write_tables(tmp_path / "mtt", paths, tags), paths.values())


def test_from_the_tables_to_prepared_audio(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = MagnaTagATune(small, max_seconds=1.0, data_dir=tmp_path / "data")
    prepared = prepare(source, tmp_path / "data")
    for folder in small.glob("[0-9a-f]"):  # the files are no longer needed
        shutil.rmtree(folder)
    again = prepare(MagnaTagATune(small, max_seconds=1.0, data_dir=tmp_path / "data"), tmp_path / "data")
    assert again.manifest.digest() == prepared.manifest.digest()
    assert not prepared.problems
    assert counts(prepared.manifest) == (2, 2, 4)
    assert [tag.name for tag in prepared.manifest.tags] == list(TAGS)
    assert prepared.manifest.groups.tolist() == list("aabacdee")
    assert read_index(prepared.store.folder)["samples"].to_pylist() == [16000] * 8
    targets = dict(zip(TAGS, prepared.manifest.targets().T, strict=True))
    assert targets["guitar"].tolist() == [1, 0, 0, 0, 1, 0, 0, 0]
    assert targets["no vocals"].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    assert "WARNING: the published numbers are train 18,706" in capsys.readouterr().err


def test_clean_leaves_out_clips_without_a_tag(small: Path) -> None:
    # guitars and clasical are not among the 50
    assert MagnaTagATune(small, split="clean").manifest().song_ids.tolist() == ["0", "1", "2", "3", "4"]


def test_synonyms_become_one_tag(small: Path) -> None:
    manifest = MagnaTagATune(small, merge_synonyms=True).manifest()
    names = [tag.name for tag in manifest.tags]
    assert len(names) == 50
    # three clips, three, two, then one each by name, then none by name
    assert names[:6] == ["classical", "guitar", "female", "bongos", "no singer", "ambient"]
    targets = dict(zip(names, manifest.targets().T, strict=True))
    assert targets["classical"].tolist() == [0, 0, 0, 1, 1, 1, 0, 0]
    assert targets["guitar"].tolist() == [1, 1, 0, 0, 1, 0, 0, 0]
    assert targets["female"].tolist() == [0, 1, 1, 0, 0, 0, 0, 0]
    merged = {name for _, *others in SYNONYMS for name in others}
    assert not merged & set(names)
    clean = MagnaTagATune(small, split="clean", merge_synonyms=True).manifest()
    assert clean.song_ids.tolist() == ["0", "1", "2", "3", "4", "5", "6"]


def test_a_tag_is_the_synonym_of_one_other() -> None:
    names = [name for line in SYNONYMS for name in line]
    assert len(set(names)) == len(names)


def test_clips_without_audio_are_left_out_and_counted(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    next((small / "0").iterdir()).unlink()
    manifest = MagnaTagATune(small).manifest()
    assert "0" not in manifest.song_ids
    assert "1 of 8 songs have no audio file and are left out" in capsys.readouterr().err


def without_folders(root: Path) -> None:
    for folder in "0bcdef":
        shutil.rmtree(root / folder)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["mp3.zip.001", "mp3.zip.002"], r"Run: cd \S+ && cat mp3\.zip\.00\? > mp3\.zip && unzip -q mp3\.zip$"),
        (["mp3.zip"], r"Run: cd \S+ && unzip -q mp3\.zip$"),
        ([], r"(?s)cat mp3\.zip\.00\?.*mp3\.zip\.003 are published at https://mirg\.city\.ac\.uk"),
    ],
    ids=["parts", "zip", "nothing"],
)
def test_audio_that_is_not_unpacked(small: Path, files: list[str], message: str) -> None:
    without_folders(small)
    for file in files:
        (small / file).touch()
    with pytest.raises(MusictagError, match=message):
        MagnaTagATune(small).manifest()


def test_empty_folders_are_not_audio(small: Path) -> None:
    without_folders(small)
    (small / "a").mkdir()
    with pytest.raises(MusictagError, match="contain none of the clips"):
        MagnaTagATune(small).manifest()


@pytest.mark.parametrize("file", [ANNOTATIONS, CLIP_INFO])
def test_tables_that_are_missing_or_damaged(small: Path, file: str) -> None:
    whole = (small / file).read_bytes()
    for content, message in (
        (b"", "cannot be read"),
        (whole[: len(whole) // 2], "cannot be read"),
        (whole.replace(b'"clip_id"', b'"clip\xff"'), "cannot be read"),
    ):
        (small / file).write_bytes(content)
        with pytest.raises(MusictagError, match=rf"{file} {message}"):
            MagnaTagATune(small).manifest()
    (small / file).unlink()
    with pytest.raises(MusictagError, match=rf"there is no {file} in .*data\.root=.* published at https://mirg"):
        MagnaTagATune(small).manifest()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row.pop("sitar"), "has no column sitar"),
        (lambda row: row.pop("clip_id"), "has no column clip_id"),
        (lambda row: row.update(sitar="2"), "column sitar holds something other than 0 and 1"),
        (lambda row: row.update(sitar=""), "column sitar holds something other than 0 and 1"),
        (lambda row: row.update(sitar="much"), "cannot be read"),
        (lambda row: row.update(mp3_path=f"g/{row['mp3_path']}"), "'g/0/.*' is in none of the folders"),
    ],
    ids=["column", "clip", "number", "empty", "text", "folder"],
)
def test_annotations_that_are_not_the_published_ones(small: Path, change, message: str) -> None:
    with (small / ANNOTATIONS).open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    for row in rows:
        change(row)
    write_table(small / ANNOTATIONS, {name: [row[name] for row in rows] for name in rows[0]})
    with pytest.raises(MusictagError, match=message):
        MagnaTagATune(small).manifest()


def test_a_missing_artist_is_unknown(small: Path) -> None:
    table = pacsv.read_csv(small / CLIP_INFO, parse_options=pacsv.ParseOptions(delimiter="\t"))
    table = table.set_column(3, "artist", pc.if_else(pc.equal(table["artist"], "b"), "", table["artist"]))
    table = table.filter(pc.not_equal(table["clip_id"], 7))
    write_table(small / CLIP_INFO, {name: table[name].cast(pa.string()).to_pylist() for name in table.column_names})
    groups = MagnaTagATune(small).manifest().groups.tolist()
    assert groups == ["a", "a", None, "a", "c", "d", "e", None]


def test_splits_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(MusictagError, match=r"data\.split=official does not exist; choose one of original, clean"):
        MagnaTagATune(tmp_path, split="official")
