"""Million Song Dataset: one manifest from either form of its lists, its layouts, its two splits and its artists."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from musictag.common.errors import MusictagError
from musictag.data.datasets.msd import MillionSongDataset
from musictag.data.datasets.msd.lists import CALS_TAGS, PREVIEW_MAPS, TAGS, read_pickles, read_tables
from musictag.data.manifest import SPLITS, Manifest
from musictag.data.preparation.prepare import prepare
from tests.helpers.public_files import make_audio, make_files, public_file

NUM_TRAIN = 201680
#: Songs that have audio here, and their previews at 7digital.
SONGS = {
    "train": ["TRAAA0TRAIN0000000", "TRAAA0TRAIN0000001", f"TRAAA0TRAIN{NUM_TRAIN - 1:07d}"],
    "validation": [f"TRBCD0TRAIN{NUM_TRAIN:07d}", f"TRBCD0TRAIN{NUM_TRAIN + 1:07d}"],
    "test": ["TRXYZ0TEST00000000", "TRXYZ0TEST00000001", "TRXYZ0TEST00000002"],
}
WITH_AUDIO = [song for songs in SONGS.values() for song in songs]
TRACK_PATHS = [f"{song[2]}/{song[3]}/{song[4]}/{song}.mp3" for song in WITH_AUDIO]
PREVIEWS = [f"8/{number}/{7000 + number}.clip.mp3" for number in range(len(WITH_AUDIO))]
VECTORS = {song: np.random.default_rng(seed).integers(0, 2, (50, 1)) * 1.0 for seed, song in enumerate(WITH_AUDIO)}


def dump(path: Path, content: object) -> None:
    path.write_bytes(pickle.dumps(content, 0))


@pytest.fixture(scope="module")
def pickles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lists of the published length as pickles; songs without audio share two vectors. Read-only."""
    folder = tmp_path_factory.mktemp("pickles")
    others = [f"TRMNO0TRAIN{number:07d}" for number in range(NUM_TRAIN + 11774)]
    train = [*SONGS["train"][:2], *others[2 : NUM_TRAIN - 1], SONGS["train"][2], *SONGS["validation"]]
    train += others[NUM_TRAIN + 2 :]
    test = [*SONGS["test"], *(f"TRMNO0TEST{number:08d}" for number in range(3, 28435))]
    shared = [np.zeros((50, 1)), np.ones((50, 1))]
    vectors = {song: VECTORS.get(song, shared[row % 2]) for row, song in enumerate(train + test)}
    (folder / "50tagList.txt").write_text("\n".join(TAGS) + "\n")
    dump(folder / "filtered_list_train.cP", train)
    dump(folder / "filtered_list_test.cP", [song.encode() for song in test])
    dump(folder / "msd_id_to_tag_vector.cP", vectors)
    return folder


@pytest.fixture
def maps(tmp_path: Path, pickles: Path) -> Path:
    """The same lists, with the maps of 7digital's previews."""
    folder = tmp_path / "lists"
    shutil.copytree(pickles, folder)
    numbers = [7000 + number for number in range(len(WITH_AUDIO))]
    dump(
        folder / PREVIEW_MAPS[0], {song.encode(): str(number) for song, number in zip(WITH_AUDIO, numbers, strict=True)}
    )
    dump(folder / PREVIEW_MAPS[1], dict(zip(map(str, numbers), PREVIEWS, strict=True)))
    return folder


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """Lists as tables, only of the songs with audio."""
    folder = tmp_path / "tables"
    folder.mkdir()
    lines = [f"{song}\t{path}\n" for song, path in zip(WITH_AUDIO, TRACK_PATHS, strict=True)]
    (folder / "index_msd.tsv").write_text("".join(lines))
    for split, stem in zip(SPLITS, ("train", "val", "test"), strict=True):
        lines = [f"{song}\t{VECTORS[song].ravel().astype(int).tolist()}\n" for song in SONGS[split]]
        (folder / f"{stem}_gt_msd.tsv").write_text("".join(lines))
    return folder


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    return make_files(tmp_path / "audio", TRACK_PATHS)


def check(manifest: Manifest, paths: list[str]) -> None:
    assert manifest.song_ids.tolist() == WITH_AUDIO
    assert manifest.paths.tolist() == paths
    assert {split: manifest.split(split).song_ids.tolist() for split in SPLITS} == SONGS
    assert [tag.name for tag in manifest.tags] == list(TAGS)
    np.testing.assert_array_equal(manifest.targets(), [VECTORS[song].ravel() for song in WITH_AUDIO])


def test_both_forms_make_the_same_manifest(
    pickles: Path, tables: Path, audio: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from_pickles = MillionSongDataset(audio, pickles).manifest()
    said = capsys.readouterr().err
    check(from_pickles, TRACK_PATHS)
    assert MillionSongDataset(audio, tables).manifest().table.equals(from_pickles.table)
    for words in (
        "as in A/A/A/TRAAA0TRAIN0000000.mp3 (data.paths=track_id), 8 of 241,889 songs",
        "msd, split standard from pickles: songs train 3, validation 2, test 3; 50 tags",
        "241,881 of 241,889 songs have no audio file and are left out",
        "WARNING: the published numbers are train 201,680, validation 11,774, test 28,435. Audio is missing",
        "artists are unknown",
    ):
        assert words in said
    said = capsys.readouterr().err
    assert "(data.paths=index), 8 of 8 songs" in said
    assert "The lists differ" in said


@pytest.mark.slow
def test_the_published_numbers_are_recognised(pickles: Path) -> None:
    lists = read_pickles(pickles)
    assert [lists.splits.count(split) for split in SPLITS] == [201680, 11774, 28435]
    assert lists.splits == sorted(lists.splits, key=SPLITS.index)


@pytest.mark.slow
def test_previews_in_the_layout_of_7digital(maps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_files(tmp_path / "previews", PREVIEWS)
    check(MillionSongDataset(root, maps).manifest(), PREVIEWS)
    assert "(data.paths=7digital)" in capsys.readouterr().err
    make_files(root, [*TRACK_PATHS])
    # the first of equals
    check(MillionSongDataset(root, maps).manifest(), TRACK_PATHS)
    check(MillionSongDataset(root, maps, paths="7digital").manifest(), PREVIEWS)


def test_lists_are_beside_the_audio_by_default(tables: Path, tmp_path: Path) -> None:
    make_files(tables, TRACK_PATHS)
    check(MillionSongDataset(tables).manifest(), TRACK_PATHS)


def test_tables_say_their_own_paths(tables: Path, tmp_path: Path) -> None:
    paths = [f"other/{song}.flac" for song in WITH_AUDIO]
    lines = [f"{song}\t{path}\n" for song, path in zip(WITH_AUDIO, paths, strict=True)]
    (tables / "index_msd.tsv").write_text("".join(lines))
    root = make_files(tmp_path / "audio", paths)
    check(MillionSongDataset(root, tables).manifest(), paths)
    check(MillionSongDataset(root, tables, paths="index").manifest(), paths)
    with pytest.raises(MusictagError, match=r"track_id: A/A/A/TRAAA0TRAIN0000000\.mp3"):
        MillionSongDataset(root, tables, paths="track_id").manifest()


def test_from_tables_to_prepared_audio(tables: Path, tmp_path: Path) -> None:
    root = make_audio(tmp_path / "audio", TRACK_PATHS)
    prepared = prepare(MillionSongDataset(root, tables, max_seconds=1.5), tmp_path / "data")
    check(prepared.manifest, TRACK_PATHS)
    assert not prepared.problems


def test_no_audio_says_that_it_is_no_longer_available(tables: Path, tmp_path: Path) -> None:
    with pytest.raises(MusictagError) as caught:
        MillionSongDataset(tmp_path, tables).manifest()
    for words in ("no song has an audio file below", "index: A/A/A/TRAAA", "are no longer available", "data=jamendo"):
        assert words in str(caught.value)


def test_no_lists_says_what_is_needed_for_each_form(tmp_path: Path) -> None:
    (tmp_path / "50tagList.txt").touch()
    (tmp_path / "index_msd.tsv").touch()
    with pytest.raises(MusictagError) as caught:
        MillionSongDataset(tmp_path).manifest()
    for words in (
        "data.lists=...",
        "either 50tagList.txt, filtered_list_train.cP, filtered_list_test.cP, msd_id_to_tag_vector.cP, "
        "MSD_id_to_7D_id.pkl, 7D_id_to_path.pkl (https://github.com/jongpillee/music_dataset_split",
        "missing filtered_list_train.cP, filtered_list_test.cP, msd_id_to_tag_vector.cP",
        "or index_msd.tsv, train_gt_msd.tsv, val_gt_msd.tsv, test_gt_msd.tsv (https://github.com/jordipons",
        "missing train_gt_msd.tsv, val_gt_msd.tsv, test_gt_msd.tsv",
    ):
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "best"}, r"data\.split=best does not exist; choose one of standard, cals"),
        ({"paths": "flat"}, r"data\.paths=flat does not exist; choose one of auto, index, track_id, 7digital"),
        ({"split": "cals"}, r"needs the folder of its arrays.*use data\.cals="),
        ({"paths": "7digital"}, r"needs MSD_id_to_7D_id\.pkl and 7D_id_to_path\.pkl in"),
        ({"artists": "nowhere.db"}, r"there is no file nowhere\.db; data\.artists must be .*track_metadata\.db"),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else "",
)
def test_settings_that_cannot_work(tables: Path, audio: Path, settings: dict, message: str) -> None:
    with pytest.raises(MusictagError, match=message):
        MillionSongDataset(audio, tables, **settings).manifest()


@pytest.mark.slow
def test_pickles_have_no_index(pickles: Path, audio: Path) -> None:
    with pytest.raises(MusictagError, match=r"only the tables \(index_msd\.tsv\) contain paths; use data\.paths=auto"):
        MillionSongDataset(audio, pickles, paths="index").manifest()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("50tagList.txt", None, "is not the published list of 50 tags"),
        ("filtered_list_train.cP", ["TRAAA0TRAIN0000000"], r"lists 1 songs instead of 213,454"),
        ("filtered_list_train.cP", {"TRAAA": 1}, "holds a dict instead of a list"),
        *(
            pytest.param("msd_id_to_tag_vector.cP", *rest, marks=pytest.mark.slow)
            for rest in (
                (["TRAAA"], "holds a list instead of a dict"),
                ({}, r"song TRAAA0TRAIN0000000 has no list of 50 values"),
                ({"TRAAA0TRAIN0000000": np.zeros(49)}, "has no list of 50 values"),
                ({"TRAAA0TRAIN0000000": ["1"] * 50}, "has no list of 50 values"),
            )
        ),
    ],
)
def test_pickles_that_are_not_the_published_ones(maps: Path, file: str, content: object, message: str) -> None:
    if content is None:
        (maps / file).write_text("\n".join(reversed(TAGS)))
    else:
        dump(maps / file, content)
    with pytest.raises(MusictagError, match=message):
        read_pickles(maps)


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("val_gt_msd.tsv", f"TRAAB\t{[0] * 49}", "song TRAAB has no list of 50 values"),
        ("val_gt_msd.tsv", "TRAAB\t__import__('os').system('touch ran')", "values of TRAAB cannot be read"),
        ("val_gt_msd.tsv", 'TRAAB\t{"rock": 1}', "values of TRAAB cannot be read"),
        ("val_gt_msd.tsv", "TRAAB\t[[1, 0], [1]]", "values of TRAAB cannot be read"),
        ("val_gt_msd.tsv", f"TRAAB\t{[0] * 50}", "lacks 1 songs, such as TRAAB"),
        ("val_gt_msd.tsv", "TRAAB", "line 3 is not two columns"),
        ("index_msd.tsv", "TRAAB\tx\ty", "line 9 is not two columns"),
    ],
)
def test_tables_that_are_not_the_published_ones(tables: Path, file: str, line: str, message: str) -> None:
    with (tables / file).open("a") as opened:
        opened.write(f"{line}\n")
    with pytest.raises(MusictagError, match=message):
        read_tables(tables)


def test_values_other_than_0_and_1_are_refused(tables: Path, audio: Path) -> None:
    (tables / "val_gt_msd.tsv").write_text(f"{SONGS['validation'][0]}\t{json.dumps([0.5] + [0] * 49)}\n")
    with pytest.raises(MusictagError, match=r"rock 0\.5 is neither 0 nor 1"):
        MillionSongDataset(audio, tables).manifest()


def write_cals(folder: Path) -> Path:
    folder.mkdir()
    for stem, split in zip(("train", "valid", "test"), SPLITS, strict=True):
        np.save(folder / f"{stem}_ids.npy", np.array(SONGS[split], dtype="<U18"))
        np.save(folder / f"{stem}_binaries.npy", np.array([VECTORS[song].ravel() for song in SONGS[split]]))
    return folder


def test_the_split_cals(tmp_path: Path, audio: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cals = write_cals(tmp_path / "cals")
    manifest = MillionSongDataset(audio, split="cals", cals=cals).manifest()
    assert {split: manifest.split(split).song_ids.tolist() for split in SPLITS} == SONGS
    assert [tag.name for tag in manifest.tags] == list(CALS_TAGS)
    assert len(set(CALS_TAGS)) == 50
    np.testing.assert_array_equal(manifest.targets(), [VECTORS[song].ravel() for song in WITH_AUDIO])
    said = capsys.readouterr().err
    assert "WARNING: the published numbers are train 163,504, validation 34,730, test 34,913" in said


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 49)), r"hold <U18 \(2,\) and float64 \(2, 49\); expected are S identifiers and S x 50 values"),
        (np.zeros((3, 50)), r"and float64 \(3, 50\)"),
        (np.zeros((2, 50), dtype=object), "cannot be read as a NumPy array of text or numbers"),
        (None, r"there is no \S*valid_binaries\.npy; set the folder of the split CALS with data\.cals="),
    ],
    ids=["tags", "songs", "objects", "missing"],
)
def test_arrays_that_are_not_the_published_ones(tmp_path: Path, array: np.ndarray | None, message: str) -> None:
    cals = write_cals(tmp_path / "cals")
    (cals / "valid_binaries.npy").unlink()
    if array is not None:
        np.save(cals / "valid_binaries.npy", array)
    with pytest.raises(MusictagError, match=message):
        MillionSongDataset(tmp_path, split="cals", cals=cals).manifest()


def test_artists_come_from_the_metadata(
    tables: Path, audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = tmp_path / "track metadata?.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE songs (track_id text PRIMARY KEY, title text, artist_id text)")
        artists = ["A1", "A2", "A1", "A3", "A1", "A2", "", "A4"]
        rows = [(song, "x", artist) for song, artist in zip(WITH_AUDIO, artists, strict=True)]
        connection.executemany("INSERT INTO songs VALUES (?, ?, ?)", rows[:-1])
    manifest = MillionSongDataset(audio, tables, artists=database).manifest()
    assert manifest.groups.tolist() == ["A1", "A2", "A1", "A3", "A1", "A2", None, None]
    assert "artists: 3, of whom 2 are in more than one split; 1 of 3 test songs" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"no database", b""], ids=["text", "empty"])
def test_another_file_is_not_metadata(tables: Path, audio: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tracks.db").write_bytes(content)
    with pytest.raises(MusictagError, match=r"tracks\.db cannot be read as track_metadata\.db"):
        MillionSongDataset(audio, tables, artists=tmp_path / "tracks.db").manifest()


def test_the_published_tag_list() -> None:
    assert tuple(public_file("msd/50tagList.txt").read_text().split("\n")[:50]) == TAGS


def test_the_published_validation_songs(tables: Path, tmp_path: Path) -> None:
    published = public_file("msd/val_gt_msd.tsv")
    shutil.copy(published, tables)
    lines = published.read_text().splitlines()
    songs = [line.partition("\t")[0] for line in lines]
    layout = {song: f"{song[2]}/{song[3]}/{song[4]}/{song}.mp3" for song in songs}
    with (tables / "index_msd.tsv").open("a") as file:
        file.writelines(f"{song}\t{path}\n" for song, path in layout.items())
    root = make_files(tmp_path / "audio", layout.values())
    manifest = MillionSongDataset(root, tables).manifest()
    assert len(manifest) == len(songs) == 11774
    counted = np.array([re.findall(r"[01](?=[,\]])", line) for line in lines]).astype(int).sum(axis=0)
    assert manifest.targets().sum(axis=0).tolist() == counted.tolist()
    assert (counted[0], counted[-1]) == (2308, 30)
