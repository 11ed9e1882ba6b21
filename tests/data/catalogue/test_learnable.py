"""Tags that the songs at hand cannot teach: left out with a message before decoding, refused if requested by name, and
kept if the songs are a subset of the data set."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pytorch_lightning.utilities import rank_zero_only

import musictag
from musictag.common.errors import MusictagError
from musictag.data.catalogue.learnable import TagChoice, lacking_tags
from musictag.data.datasets.magnatagatune import TAGS
from musictag.data.manifest import SPLITS, Manifest, Tag
from musictag.experiment import run as experiment
from musictag.experiment.builders import build_source
from musictag.experiment.run import make_run
from tests.data.datasets.test_jamendo import HEADER, MOODS
from tests.data.datasets.test_magnatagatune import write_tables
from tests.helpers.experiments import TINY, compose_config, folders
from tests.helpers.marks import first_fast
from tests.helpers.public_files import make_audio, make_files


def songs(train: dict[str, list[float | None]], kinds: dict[str, str] | None = None) -> Manifest:
    """Training songs with these tag values, and one song each for validation and test that has all tags."""
    number = len(next(iter(train.values())))
    columns = {"song_id": [f"s{i}" for i in range(number + 2)], "split": ["train"] * number + ["validation", "test"]}
    columns |= {"path": columns["song_id"], "group": [None] * (number + 2), "duration": [None] * (number + 2)}
    columns |= {tag: pa.array([*values, 1, 1], pa.float32()) for tag, values in train.items()}
    return Manifest(pa.table(columns), [Tag(tag, (kinds or {}).get(tag, "classification")) for tag in train], "mine")


VALUES = {"both": [0, 1, 1, 0, None], "never": [0, 0, 0, 0, 0], "always": [1, 1, None, 1, 1], "once": [0, 0, 1, 0, 0],
          "unknown": [None] * 5, "measured": [0.5, None, None, None, None], "unmeasured": [None] * 5}  # fmt: skip
KINDS = {"measured": "regression", "unmeasured": "regression"}


def names(manifest: Manifest) -> list[str]:
    return [tag.name for tag in manifest.tags]


# the rule


def test_tags_without_an_example_of_either_value_are_left_out_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    manifest = songs(VALUES, KINDS)
    kept = TagChoice().learnable(manifest)
    assert names(kept) == ["both", "once", "measured"]
    assert kept.table.column_names[5:] == names(kept)
    np.testing.assert_array_equal(kept.values("once"), manifest.values("once"))
    assert kept.digest() != manifest.digest()
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(
        "4 of 7 tags are left out because they cannot be learned from the 5 training songs of mine: never, unknown (no "
        "positive song); always (no negative song); unmeasured (no known value). data.min_songs_per_tag=0 keeps all 7 "
        "regardless"
    )
    assert TagChoice().learnable(kept) is kept
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("least", "expected"),
    [(0, [*VALUES]), (1, ["both", "once", "measured"]), (2, ["both"]), (3, [])],
)
def test_the_key_decides_which_rare_tags_are_left_out(least: int, expected: list[str]) -> None:
    manifest = songs(VALUES, KINDS)
    if expected:
        assert names(TagChoice(min_songs=least).learnable(manifest)) == expected
    else:
        with pytest.raises(MusictagError, match=r"no tag is left: all 7 have fewer than 3.*both \(2 positive songs\)"):
            TagChoice(min_songs=least).learnable(manifest)


def test_a_tag_that_nearly_all_songs_have_is_as_rare() -> None:
    manifest = songs({"common": [1, 1, 1, 0, 1], "both": [0, 1, 0, 1, 1]})
    assert lacking_tags(manifest.split("train"), 2) == {"common": "1 negative song"}


def test_requested_tags_are_refused_instead_of_left_out() -> None:
    manifest = songs(VALUES, KINDS)
    asked = TagChoice(["once", "never", "both"])
    assert names(asked.wanted(manifest)) == ["once", "never", "both"]
    with pytest.raises(MusictagError, match=r"data\.tags asks for tags.*never \(no positive song\)\. Remove them"):
        asked.learnable(asked.wanted(manifest))
    regardless = TagChoice(["once", "never"], min_songs=0)
    assert names(regardless.learnable(regardless.wanted(manifest))) == ["once", "never"]
    assert names(TagChoice("once").wanted(manifest)) == ["once"]
    assert names(TagChoice(1990).wanted(songs({"1990": [0, 1], "x": [0, 1]}))) == ["1990"]
    assert TagChoice(list(VALUES)).wanted(manifest) is manifest


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (["both", "nevr"], r"mine has no tag nevr; did you mean never\? Its tags: both, never, always"),
        (["measure"], r"no tag measure; did you mean measured or unmeasured\?"),
        (["x"], r"no tag x\. Its tags"),
        (["both", "both"], "names a tag twice: both"),
        ({"both": "regression"}, "both is a classification tag in mine, and cannot be 'regression'"),
    ],
)
def test_tags_that_cannot_be_chosen(tags: object, message: str) -> None:
    with pytest.raises(MusictagError, match=message):
        TagChoice(tags).wanted(songs(VALUES, KINDS))
    with pytest.raises(MusictagError, match=r"data\.min_songs_per_tag=-1"):
        TagChoice(min_songs=-1)


def test_only_the_first_process_prints(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert names(TagChoice().learnable(songs(VALUES, KINDS))) == ["both", "once", "measured"]
    assert capsys.readouterr().err == ""


# a part of each data set


def part_of_jamendo(folder: Path, per_split: int = 6, low: bool = False) -> tuple[Path, Path]:
    """Lists of all 56 tags; audio for the first songs of each split only, which lack the last tags."""
    lists, paths, number = folder / "lists", [], 0
    lists.mkdir(parents=True)
    for split in SPLITS:
        lines = [HEADER]
        for i in range(2 * per_split):
            number += 1
            path = f"{number % 100:02d}/{number}.mp3"
            own = [tag for k, tag in enumerate(MOODS) if (k + i) % 3 == 0 and (i >= per_split or k < 50)]
            lines.append(f"track_{number:07d}\tartist_{number}\talbum_0\t{path}\t2.0\t" + "\t".join(own))
            if i < per_split:
                paths.append(path.replace(".mp3", ".low.mp3") if low else path)
        (lists / f"autotagging_moodtheme-{split}.tsv").write_text("\n".join(lines) + "\n")
    return make_audio(folder / "audio", paths), lists


def part_of_magnatagatune(folder: Path, tags: int = 40) -> Path:
    """Twelve clips, of folders of all splits; none of them has the last tags, and one that is absent has them all."""
    places = ["0", "1", "5", "b", "9", "a", "c", "c", "c", "d", "e", "f"]
    paths = {str(n): f"{place}/{n}-clip.mp3" for n, place in enumerate(places, start=1)} | {"99": "0/99-clip.mp3"}
    own = {clip: {tag for k, tag in enumerate(TAGS[:tags]) if (k + n) % 3 == 0} for n, clip in enumerate(paths)}
    root = write_tables(folder, paths, own | {"99": set(TAGS)})
    return make_audio(root, [path for clip, path in paths.items() if clip != "99"])


def part_of_msd(folder: Path, tags: int = 30) -> Path:
    """Tables of the published form with audio for three of five songs of each split."""
    folder.mkdir(parents=True)
    index, paths, number = [], [], 0
    for stem in ("train", "val", "test"):
        lines = []
        for i in range(10):
            number += 1
            song = f"TRA{chr(65 + number % 3)}C{number:013d}"
            index.append(f"{song}\t{song[2]}/{song}.mp3\n")
            paths += [f"{song[2]}/{song}.mp3"] if i < 6 else []
            vector = [int(i >= 6 or (k < tags and (k + i) % 3 == 0)) for k in range(50)]
            lines.append(f"{song}\t{vector}\n")
        (folder / f"{stem}_gt_msd.tsv").write_text("".join(lines))
    (folder / "index_msd.tsv").write_text("".join(index))
    return make_audio(folder, paths)


def words(kind: str, folder: Path) -> tuple[list[str], int, int]:
    """Overrides for a subset of a data set, its tags, and those that can be learned."""
    if kind == "jamendo":
        root, lists = part_of_jamendo(folder, low=True)
        return ["data=jamendo", "data.subset=moodtheme", f"data.root={root}", f"data.lists={lists}"], 56, 50
    if kind == "magnatagatune":
        return ["data=magnatagatune", f"data.root={part_of_magnatagatune(folder)}"], 50, 40
    return ["data=msd", f"data.root={part_of_msd(folder)}"], 50, 30


@pytest.mark.parametrize("kind", first_fast(["jamendo", "magnatagatune", "msd"]))
def test_a_part_of_a_published_data_set_trains(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own, total, learnable = words(kind, tmp_path / "music")
    overrides = [*TINY, *folders(tmp_path), *own, "trainer.max_epochs=1"]
    metrics = experiment.run(compose_config(*overrides))
    said = capsys.readouterr().err.splitlines()
    left_out, decoding = (
        next(at for at, line in enumerate(said) if text in line)
        for text in (f"{total - learnable} of {total} tags are left out", "songs to prepare")
    )
    assert left_out < decoding
    assert sum("are left out because" in line for line in said) == 1
    assert len(metrics["test"]["tags"]) == learnable
    assert metrics["tags_unlearnt"] == []
    tagger = musictag.load(experiment.results_folder(compose_config(*overrides)) / "tagger.safetensors")
    assert [tag["name"] for tag in tagger.tags] == [tag["name"] for tag in metrics["test"]["tags"]]


@pytest.mark.parametrize("kind", ["jamendo", "magnatagatune", "msd"])
def test_the_keys_choose_among_published_tags(kind: str, tmp_path: Path) -> None:
    own, total, learnable = words(kind, tmp_path / "music")
    config = compose_config(*own, *folders(tmp_path))

    def tags(**keys: object) -> list[str]:
        return names(build_source(config | {"data": config["data"] | keys}).learnable_manifest())

    everything, some = tags(min_songs_per_tag=0), tags()
    assert (len(everything), len(some), len(tags(min_songs_per_tag=2))) == (total, learnable, learnable)
    assert tags(tags=some[1::-1]) == some[1::-1]
    (rare, *_) = [name for name in everything if name not in some]
    with pytest.raises(MusictagError, match=rf"data\.tags asks for tags.*{rare}"):
        tags(tags=[some[0], rare])
    assert tags(tags=[some[0], rare], min_songs_per_tag=0) == [some[0], rare]
    with pytest.raises(MusictagError, match="no tag is left"):
        tags(min_songs_per_tag=100)


def test_a_split_without_audio_is_reported_with_usable_advice(tmp_path: Path) -> None:
    root = part_of_magnatagatune(tmp_path / "music")
    for folder in "def":
        shutil.rmtree(root / folder)
    config = compose_config(*TINY, *folders(tmp_path), "data=magnatagatune", f"data.root={root}")
    with pytest.raises(MusictagError, match=r"no song in the manifest.*in test|in test.*test: 0") as caught:
        experiment.run(config)
    assert "get the audio of more songs" in str(caught.value)
    assert "column split, and use data=catalogue" in str(caught.value)
    assert not list(tmp_path.glob("data/*"))


def test_the_tags_belong_to_the_identity_of_a_run(tmp_path: Path) -> None:
    own, _, _ = words("jamendo", tmp_path / "music")

    def folder(*overrides: str) -> Path:
        config = compose_config(*own, *folders(tmp_path), *overrides)
        return make_run(config).folder(build_source(config))

    plain = folder()
    some = ("data.min_songs_per_tag=0", "data.min_songs_per_tag=2", "data.tags=[mood/theme---mood30]")
    assert len({plain, *map(folder, some)}) == 4
    # checked first, so that nothing is decoded for tags that cannot be learned
    with pytest.raises(MusictagError, match=r"data\.tags asks for tags"):
        folder(f"data.tags=[{MOODS[55]}]")
    # with more of its songs the data set has more tags
    numbers = (number for part in range(3) for number in range(12 * part + 7, 12 * part + 13))
    make_files(tmp_path / "music/audio", [f"{number:02d}/{number}.low.mp3" for number in numbers])
    assert folder() != plain
