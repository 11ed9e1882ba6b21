"""Splits made for a catalogue without one: stratified, with undivided groups, saved, and kept."""

from __future__ import annotations

import json
import time
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pyarrow as pa
import pytest

from musictag.common.errors import MusictagError
from musictag.data.catalogue.splits import SavedSplit
from musictag.data.manifest import SPLITS, Manifest, Tag


def skewed(songs: int = 2000, groups: int = 250, seed: int = 0, unknown: float = 0.0, named: bool = True) -> Manifest:
    """Songs in groups of uneven size, each with its own taste: 19 tags from frequent to rare, and a regression tag.

    A few songs have no group; unless groups are ``named``, none has.
    """
    rng = np.random.default_rng(seed)
    weights = rng.lognormal(0, 1, groups)
    group = rng.choice(groups, songs, p=weights / weights.sum())
    columns: dict[str, list | np.ndarray] = {
        "song_id": [f"song {i}" for i in range(songs)],
        "path": [f"{i}.wav" for i in range(songs)],
        "split": ["train"] * songs,
        "group": [f"artist {number}" if named and number else None for number in group],
        "duration": [None] * songs,
    }
    for number, prevalence in enumerate(np.geomspace(0.6, 0.01, 19)):
        taste = rng.beta(1.5 * prevalence, 1.5 * (1 - prevalence), groups)
        values = (rng.random(songs) < taste[group]).astype(float)
        values[rng.random(songs) < unknown] = np.nan
        columns[f"tag {number:02d}"] = values
    columns["measure"] = np.clip(rng.uniform(0.2, 0.8, groups)[group] + rng.normal(0, 0.05, songs), 0, 1)
    tags = [Tag(name, "regression" if name == "measure" else "classification") for name in list(columns)[5:]]
    return Manifest(pa.table(columns), tags, "skewed")


def rows(manifest: Manifest, chosen: np.ndarray) -> Manifest:
    return manifest.select(np.asarray(chosen))


def made(manifest: Manifest, folder: Path, **settings: object) -> np.ndarray:
    return SavedSplit(folder / "songs.csv", **settings).of(manifest)[0]


def deviations(manifest: Manifest, splits: np.ndarray) -> np.ndarray:
    """How far each tag's mean in each split is from its mean in all songs, relative to that: 3×K."""
    targets = manifest.targets()
    whole = np.nanmean(targets, axis=0)
    return np.stack([np.abs(np.nanmean(targets[splits == split], axis=0) - whole) / whole for split in SPLITS])


def random_grouped(manifest: Manifest, seed: int) -> np.ndarray:
    """Whole groups in random order, filling one split after the other."""
    names = [group or song for group, song in zip(manifest.groups, manifest.song_ids, strict=True)]
    _, numbers = np.unique(names, return_inverse=True)
    order = np.random.default_rng(seed).permutation(numbers.max() + 1)
    before = np.cumsum(np.bincount(numbers)[order]) / len(names)
    split_of_group = np.empty(len(order), dtype=object)
    split_of_group[order] = np.array(SPLITS, dtype=object)[np.digitize(before, [0.8, 0.9], right=True).clip(0, 2)]
    return split_of_group[numbers]


@pytest.mark.parametrize("unknown", [0.0, 0.4])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_tag_is_as_frequent_in_each_split_and_no_group_is_divided(
    tmp_path: Path, seed: int, unknown: float
) -> None:
    manifest = skewed(seed=seed, unknown=unknown)
    splits = made(manifest, tmp_path)
    known = np.array([group is not None for group in manifest.groups])
    for group in set(manifest.groups[known]):
        assert len(set(splits[manifest.groups == group])) == 1
    shares = [np.mean(splits == split) for split in SPLITS]
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.01)
    ours = deviations(manifest, splits)
    by_chance = np.mean([deviations(manifest, random_grouped(manifest, s)) for s in range(20)], axis=0)
    assert (ours.mean(axis=0) < by_chance.mean(axis=0)).all()
    assert ours.mean() < 0.4 * by_chance.mean()


def test_songs_without_a_group_are_spread_one_by_one(tmp_path: Path) -> None:
    manifest = skewed(named=False)
    assert manifest.column("group").null_count == len(manifest)
    splits = made(manifest, tmp_path, fractions=(0.6, 0.2, 0.2))
    np.testing.assert_allclose([np.mean(splits == split) for split in SPLITS], [0.6, 0.2, 0.2], atol=0.005)
    assert deviations(manifest, splits).mean() < 0.04


def test_the_split_depends_on_the_seed_and_not_on_the_rows(tmp_path: Path) -> None:
    manifest = skewed(songs=600)
    order = np.random.default_rng(1).permutation(600)
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
    splits = made(manifest, tmp_path / "a")
    np.testing.assert_array_equal(made(rows(manifest, order), tmp_path / "b"), splits[order])
    assert (tmp_path / "a/songs.split-0.csv").read_bytes() == (tmp_path / "b/songs.split-0.csv").read_bytes()
    turned = Manifest(manifest.table, manifest.tags[::-1], "turned")
    np.testing.assert_array_equal(made(turned, tmp_path / "c"), splits)
    assert (made(manifest, tmp_path, seed=1) != splits).mean() > 0.05


def test_the_split_is_saved_and_songs_keep_theirs(tmp_path: Path) -> None:
    manifest = skewed(songs=1000)
    some = np.arange(0, 1000, 2)
    first, how = SavedSplit(tmp_path / "songs.csv").of(rows(manifest, some))
    path = tmp_path / "songs.split-0.csv"
    assert how == f"split made (0.8, 0.1, 0.1; seed 0) and saved in {path}"
    written = path.read_text()
    comment, header, *lines = written.splitlines()
    assert json.loads(comment.partition(": ")[2]) == {"fractions": [0.8, 0.1, 0.1], "seed": 0}
    assert header == "song_id,split"
    expected = [f"{song},{split}" for song, split in zip(manifest.song_ids[some], first, strict=True)]
    assert lines == sorted(expected)

    again, how = SavedSplit(tmp_path / "songs.csv").of(rows(manifest, some))
    assert how == f"split saved in {path}"
    np.testing.assert_array_equal(again, first)
    everything, how = SavedSplit(tmp_path / "songs.csv").of(manifest)
    assert how == f"split saved in {path}, now with 500 new songs"
    np.testing.assert_array_equal(everything[some], first)
    for group in {group for group in manifest.groups if group}:
        assert len(set(everything[manifest.groups == group])) == 1
    assert path.read_text().startswith(written)
    np.testing.assert_allclose([np.mean(everything == split) for split in SPLITS], [0.8, 0.1, 0.1], atol=0.04)
    # songs that are removed keep their split for when they return
    np.testing.assert_array_equal(made(rows(manifest, [5, 3]), tmp_path), everything[[5, 3]])
    assert len(path.read_text().splitlines()) == 1002


def test_two_processes_agree(tmp_path: Path) -> None:
    """While one reads files to find copies, the other waits, and adds its own songs to what the first one saves."""
    manifest = skewed(songs=300)
    fewer, begun, go_on, found = rows(manifest, np.arange(200)), Event(), Event(), {}

    def slowly(among: np.ndarray) -> tuple:
        begun.set()
        go_on.wait(10)
        return ()

    def first() -> None:
        found["first"] = SavedSplit(tmp_path / "songs.csv").of(fewer, slowly)[0]

    def second() -> None:
        found["second"] = made(manifest, tmp_path)

    threads = [Thread(target=first), Thread(target=second)]
    threads[0].start()
    assert begun.wait(10)
    threads[1].start()
    time.sleep(0.2)
    go_on.set()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(found["second"][:200], found["first"])
    np.testing.assert_array_equal(made(manifest, tmp_path), found["second"])


def test_identifiers_of_any_kind_survive_the_file(tmp_path: Path) -> None:
    names = ["a,b", 'say "hi"', "two\nlines", "#no comment", " spaced ", "Ünï", "7", "007"]
    table = skewed(songs=8).table.set_column(0, "song_id", pa.array(names))
    manifest = Manifest(table, skewed(songs=8).tags, "names")
    splits = made(manifest, tmp_path)
    _, how = SavedSplit(tmp_path / "songs.csv").of(manifest)
    assert "new songs" not in how
    np.testing.assert_array_equal(made(manifest, tmp_path), splits)


@pytest.mark.parametrize("songs", [3, 4, 10])
def test_a_handful_of_songs_fills_all_splits(tmp_path: Path, songs: int) -> None:
    splits = made(skewed(songs=songs, named=False), tmp_path)
    assert set(splits) == set(SPLITS)
    assert (splits == "train").sum() >= songs - 4


def test_a_rare_tag_goes_to_training_first(tmp_path: Path) -> None:
    columns = {
        name: skewed(songs=40, named=False).table[name] for name in ("song_id", "path", "split", "group", "duration")
    }
    rare = np.zeros(40)
    rare[[4, 30]] = 1
    manifest = Manifest(pa.table(columns | {"rare": rare}), [Tag("rare")], "rare")
    assert made(manifest, tmp_path)[[4, 30]].tolist() == ["train", "train"]


def test_too_few_groups_cannot_be_split(tmp_path: Path) -> None:
    manifest = skewed(songs=40, groups=3, seed=2)
    one = rows(manifest, np.flatnonzero(manifest.groups == "artist 1"))
    with pytest.raises(MusictagError, match=r"songs of 1 groups cannot be split .* at least 3 groups"):
        made(one, tmp_path)
    with pytest.raises(MusictagError, match="2 songs cannot be split"):
        made(skewed(songs=2, named=False), tmp_path)
    assert not list(tmp_path.glob("*.csv"))


def test_other_fractions_or_another_seed_than_the_file_say_what_to_do(tmp_path: Path) -> None:
    manifest = skewed(songs=100)
    made(manifest, tmp_path)
    path = tmp_path / "songs.split-0.csv"
    with pytest.raises(MusictagError) as caught:
        made(manifest, tmp_path, fractions=(0.7, 0.1, 0.2))
    for words in ("[0.8, 0.1, 0.1] and seed 0, not fractions [0.7, 0.1, 0.2]", "data.split_fractions=[0.8,0.1,0.1]",
                  f"delete {path}", "data.split_path="):  # fmt: skip
        assert words in str(caught.value)
    # without fractions, those of the file are used
    assert (SavedSplit(tmp_path / "songs.csv").of(manifest)[0] == made(manifest, tmp_path)).all()
    made(manifest, tmp_path, fractions=(0.6, 0.2, 0.2), path=tmp_path / "mine.csv")
    splits, how = SavedSplit(tmp_path / "songs.csv", path=tmp_path / "mine.csv").of(manifest)
    assert (how, np.count_nonzero(splits == "train")) == (f"split saved in {tmp_path / 'mine.csv'}", 60)
    with pytest.raises(MusictagError, match=r"data\.split_seed=0"):
        made(manifest, tmp_path, seed=3, path=path)
    assert (made(manifest, tmp_path, path=tmp_path / "deep" / "other.csv", seed=3) != "").all()
    assert (tmp_path / "deep" / "other.csv").is_file()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read|not a split made"),
        (b"song_id,split\nsong 1,train\n", "not a split made by musictag"),
        (b"# split made by musictag: {broken\nsong_id,split\n", "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"song 1,training\n", "unknown splits training"),
        (b"song 1,train\nsong 1,test\n", "1 songs more than once"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "songs.split-0.csv"
    head = b'# split made by musictag: {"fractions": [0.8, 0.1, 0.1], "seed": 0}\nsong_id,split\n'
    path.write_bytes(head + content if content.startswith(b"song 1") else content)
    with pytest.raises(MusictagError, match=message) as caught:
        made(skewed(songs=50), tmp_path)
    assert f"delete {path}" in str(caught.value)


def test_an_unwritable_path_names_the_key(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MusictagError, match=r"cannot be saved in .*data\.split_path=my-split\.csv"):
        made(skewed(songs=50), tmp_path, path=tmp_path / "file" / "split.csv")


@pytest.mark.parametrize("fractions", [(0.8, 0.2), (0.8, 0.2, 0.0), (0.8, 0.1, 0.2), (1.1, -0.2, 0.1)])
def test_impossible_fractions_are_refused(fractions: tuple[float, ...]) -> None:
    with pytest.raises(MusictagError, match=r"fraction for each of train, validation, test.*\[0\.8,0\.1,0\.1\]"):
        SavedSplit(Path("songs.csv"), fractions)
    for seed in (-1, 1.5, "1", True):
        with pytest.raises(MusictagError, match=f"split_seed={seed}: give 0 or a positive integer"):
            SavedSplit(Path("songs.csv"), seed=seed)


@pytest.mark.slow
def test_a_million_songs_are_split_within_a_minute(tmp_path: Path) -> None:
    manifest = skewed(songs=1_200_000, groups=100_000)
    began = time.monotonic()
    splits = made(manifest, tmp_path)
    assert time.monotonic() - began < 60
    assert deviations(manifest, splits).max() < 0.01
