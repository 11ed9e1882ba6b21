"""MTG-Jamendo: the official lists song by song, both audio qualities, and messages about damage."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from musictag.common.errors import MusictagError
from musictag.data.datasets.jamendo import SUBSETS, Jamendo
from musictag.data.manifest import SPLITS
from musictag.data.preparation.prepare import prepare
from musictag.experiment.builders import build_source
from musictag.experiment.run import make_run
from tests.helpers.experiments import compose_config
from tests.helpers.public_files import make_audio, make_files, public_file

HEADER = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS"
#: As many tags as the subset has, in no particular order.
MOODS = [f"mood/theme---mood{number:02d}" for number in range(56)][::-1]
PATHS = [f"{number:02d}/{number}00.mp3" for number in range(9)]


def write_lists(folder: Path, line_end: str = "\r\n") -> Path:
    """Nine songs of the subset moodtheme in three files; tags are assigned in turn, three songs per split."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, split in enumerate(SPLITS):
        lines = [HEADER]
        for number in range(3 * part, 3 * part + 3):
            tags = "\t".join(MOODS[number::9])
            lines.append(
                f"track_{number:07d}\tartist_{number // 3}\talbum_0\t{PATHS[number]}\t{200 + number}.5\t{tags}"
            )
        text = "".join(line + line_end for line in lines)
        (folder / f"autotagging_moodtheme-{split}.tsv").write_bytes(text.encode())
    return folder


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_songs_artists_and_tags(tmp_path: Path, line_end: str, capsys: pytest.CaptureFixture[str]) -> None:
    lists = write_lists(tmp_path / "lists", line_end)
    root = make_files(tmp_path / "audio", PATHS)
    manifest = Jamendo(root, lists, subset="moodtheme").manifest()
    assert manifest.song_ids.tolist() == [f"track_{number:07d}" for number in range(9)]
    assert manifest.paths.tolist() == PATHS
    assert manifest.groups.tolist() == [f"artist_{number // 3}" for number in range(9)]
    assert manifest.table["duration"].to_pylist() == [200.5 + number for number in range(9)]
    assert [len(manifest.split(split)) for split in SPLITS] == [3, 3, 3]
    names = sorted(MOODS)
    assert [tag.name for tag in manifest.tags] == names
    for number, targets in enumerate(manifest.targets()):
        assert {names[tag] for tag in np.flatnonzero(targets)} == set(MOODS[number::9])
    said = capsys.readouterr().err
    for words in (
        "(data.audio=full), 9 of 9 songs",
        "jamendo, moodtheme, split 0: songs train 3, validation 3, test 3; 56 tags",
        "WARNING: the published numbers are train 9,949, validation 3,802, test 4,231. The lists differ",
        "artists: 3, of whom 0 are in more than one split",
    ):
        assert words in said


def test_lists_are_found_in_the_folder_of_their_split(tmp_path: Path) -> None:
    for split in (0, 3):
        write_lists(tmp_path / f"split-{split}")
    last = tmp_path / "split-3" / "autotagging_moodtheme-test.tsv"
    last.write_text(last.read_text().replace("track_0000008", "track_0000009"))
    make_files(tmp_path, PATHS)
    assert Jamendo(tmp_path, subset="moodtheme").manifest().song_ids[-1] == "track_0000008"
    assert Jamendo(tmp_path, subset="moodtheme", split=3).manifest().song_ids[-1] == "track_0000009"
    with pytest.raises(MusictagError, match=r"in \S*split-1 or .*use data\.lists=mtg-jamendo-dataset/data/splits"):
        Jamendo(tmp_path, subset="moodtheme", split=1).manifest()


def test_audio_of_the_low_bit_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lists = write_lists(tmp_path / "lists")
    low = [path.replace(".mp3", ".low.mp3") for path in PATHS]
    root = make_audio(tmp_path / "audio", low[:-1])
    source = Jamendo(root, lists, subset="moodtheme", max_seconds=1.0)
    prepared = prepare(source, tmp_path / "data")
    assert prepared.manifest.paths.tolist() == low[:-1]
    assert not prepared.problems
    said = capsys.readouterr().err
    assert "(data.audio=low), 8 of 9 songs" in said
    assert "1 of 9 songs have no audio file and are left out" in said
    with pytest.raises(MusictagError, match=r"(?s)data\.audio=full\).*full: 00/000\.mp3.*download\.py"):
        Jamendo(root, lists, subset="moodtheme", audio="full").manifest()


def test_prepared_songs_stay_when_their_files_are_gone(tmp_path: Path) -> None:
    lists = write_lists(tmp_path / "lists")
    low = [path.replace(".mp3", ".low.mp3") for path in PATHS]
    settings = {"subset": "moodtheme", "max_seconds": 1.0, "data_dir": tmp_path / "data"}
    root = make_audio(tmp_path / "audio", low[:-1])
    before = prepare(Jamendo(root, lists, **settings), tmp_path / "data")
    shutil.rmtree(root)
    after = prepare(Jamendo(root, lists, **settings), tmp_path / "data", max_bad_fraction=0)
    assert after.manifest.digest() == before.manifest.digest()
    # with other settings they are not prepared
    with pytest.raises(MusictagError, match="no song has an audio file"):
        Jamendo(root, lists, **settings | {"max_seconds": 2.0}).manifest()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"subset": "moods"},
            r"data\.subset=moods does not exist; choose one of top50, genre, instrument, moodtheme, all",
        ),
        ({"split": 5}, r"data\.split=5 does not exist; choose one of 0, 1, 2, 3, 4"),
        ({"audio": "mid"}, r"data\.audio=mid does not exist; choose one of auto, full, low"),
    ],
)
def test_settings_that_do_not_exist(tmp_path: Path, settings: dict, message: str) -> None:
    with pytest.raises(MusictagError, match=message):
        Jamendo(tmp_path, **settings)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (b"ALBUM_ID\t", b"", r"the columns are not TRACK_ID, ARTIST_ID"),
        (b"\t206.5", b"\tlong", r"no song: 'track_0000006.*long"),
        (b"track_0000006\tartist_2\talbum_0\t", b"track_0000006\t", "this line is not a song"),
        (b"mood01", b"caf\xe9", "cannot be read as text"),
        (b"mood01", b"mood00", "hold 55 tags, but the subset moodtheme has 56"),
        (b"track_0000006", b"track_0000000", r"song_id 'track_0000000' is already used"),
        (b"06/600.mp3", b"../600.mp3", "leads out of"),
    ],
)
def test_lists_that_are_damaged(tmp_path: Path, before: bytes, after: bytes, message: str) -> None:
    make_files(write_lists(tmp_path), PATHS)
    for split in SPLITS:
        path = tmp_path / f"autotagging_moodtheme-{split}.tsv"
        whole = path.read_bytes()
        path.write_bytes(whole.replace(before, after) if split == "test" or before.startswith(b"mood") else whole)
    with pytest.raises(MusictagError, match=message):
        Jamendo(tmp_path, subset="moodtheme").manifest()


def test_an_empty_list_is_damaged(tmp_path: Path) -> None:
    (write_lists(tmp_path) / "autotagging_moodtheme-test.tsv").write_bytes(b"")
    with pytest.raises(MusictagError, match="the columns are not"):
        Jamendo(tmp_path, subset="moodtheme").manifest()


def test_published_numbers_of_the_whole_agree() -> None:
    assert {sum(counts) for counts in SUBSETS["all"][2]} == {55525}
    for stem, _, counts in SUBSETS.values():
        assert len({sum(split) for split in counts}) == 1, stem


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """The real lists' text by split, and a folder with an empty file for each of their 54,380 songs."""
    texts = {split: public_file(f"jamendo/autotagging_top50tags-{split}.tsv").read_text() for split in SPLITS}
    root = tmp_path_factory.mktemp("jamendo")
    paths = [path for text in texts.values() for path in re.findall(r"\t(\d\d/\d+\.mp3)\t", text)]
    yield make_files(root, paths), texts
    shutil.rmtree(root)


def test_the_published_split(published: tuple[Path, dict[str, str]], capsys: pytest.CaptureFixture[str]) -> None:
    root, texts = published
    lists = public_file("jamendo/autotagging_top50tags-train.tsv").parent
    manifest = Jamendo(root, lists).manifest()
    assert [len(manifest.split(split)) for split in SPLITS] == [32136, 10888, 11356]
    assert manifest.leaked_groups() == []
    names = [tag.name for tag in manifest.tags]
    assert (len(names), names[0], names[-1]) == (50, "genre---alternative", "mood/theme---relaxing")
    for split, text in texts.items():
        counted = Counter(re.findall(r"\t((?:genre|instrument|mood/theme)---\w+)", text))
        totals = manifest.split(split).targets().sum(axis=0)
        assert dict(zip(names, totals, strict=True)) == counted
    said = capsys.readouterr().err
    assert "songs train 32,136, validation 10,888, test 11,356, as published; 50 tags" in said
    assert "WARNING" not in said


def test_locations_are_not_part_of_a_run(tmp_path: Path) -> None:
    low = [path.replace(".mp3", ".low.mp3") for path in PATHS]
    root = make_files(tmp_path / "audio", [*PATHS, *low])
    for lists in ("one", "other/split-0"):
        write_lists(tmp_path / lists)

    def folder(*overrides: str) -> Path:
        config = compose_config("data=jamendo", "data.subset=moodtheme", f"data.root={root}", *overrides)
        return make_run(config).folder(build_source(config))

    first = folder(f"data.lists={tmp_path / 'one'}")
    assert folder(f"data.lists={tmp_path / 'other'}", "data.audio=full") == first
    assert folder(f"data.lists={tmp_path / 'one'}", "data.audio=low") != first
