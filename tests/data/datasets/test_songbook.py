from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from musictag.common.errors import MusictagError
from musictag.data.datasets.songbook import Songbook
from musictag.data.manifest import SPLITS, Manifest
from musictag.data.songbook.arrangement.arrange import arrange
from musictag.data.songbook.arrangement.instruments import needed_presets
from musictag.data.songbook.arrangement.tags import CLASSIFICATION_TAGS, TAGS
from musictag.data.songbook.rendering.soundfont import find_soundfont
from tests.helpers.songbook_scores import SECONDS, generator, voices


@pytest.fixture(scope="module")
def data_dir(songbook_folder):
    return songbook_folder


@pytest.fixture(scope="module")
def manifest(data_dir) -> Manifest:
    return Songbook(data_dir, num_songs=300, validation_songs=60, test_songs=90, seconds=SECONDS).manifest()


def _read(reader, song_ids):
    return [reader(song_id, "") for song_id in song_ids]


def test_manifest(manifest):
    assert [len(manifest.split(split)) for split in SPLITS] == [300, 60, 90]
    assert manifest.tags == TAGS
    assert manifest.leaked_groups() == []
    assert manifest.song_ids[42] == "songbook-train-00042"
    assert len(set(manifest.paths)) == len(manifest)
    targets = manifest.targets()
    known = ~np.isnan(targets)
    assert known[:, :32].all()
    assert np.isnan(targets[:, CLASSIFICATION_TAGS.index("reel")]).mean() > 0.05
    prevalence = np.nanmean(targets[:, :30], axis=0)
    assert 0.01 < prevalence.min() <= prevalence.max() < 0.13


def test_songs_do_not_depend_on_how_many_there_are(manifest, data_dir):
    fewer = Songbook(data_dir, num_songs=5, validation_songs=20, test_songs=90, seconds=SECONDS).manifest()
    assert fewer.split("test").table.equals(manifest.split("test").table)
    assert fewer.split("validation").table.equals(manifest.split("validation").table.slice(0, 20))
    assert fewer.split("train").table.equals(manifest.split("train").table.slice(0, 5))


def test_the_keys_choose_tags(manifest, data_dir, capsys):
    sizes = {"num_songs": 20, "validation_songs": 2, "test_songs": 2, "seconds": SECONDS}
    some = Songbook(data_dir, **sizes, tags=["noisy", "reel"]).manifest()
    assert [tag.name for tag in some.tags] == ["noisy", "reel"]
    np.testing.assert_array_equal(some.split("train").values("noisy"), manifest.split("train").values("noisy")[:20])
    few = Songbook(data_dir, **sizes)
    missing = [name for name in CLASSIFICATION_TAGS if not (few.manifest().split("train").values(name) == 1).any()]
    assert 0 < len(missing) < len(CLASSIFICATION_TAGS)
    assert not {tag.name for tag in few.learnable_manifest().tags} & set(missing)
    assert "tags are left out because they cannot be learned from the 20 training songs" in capsys.readouterr().err
    assert Songbook(data_dir, **sizes, min_songs_per_tag=0).learnable_manifest().tags == TAGS


def test_more_songs_than_pieces_are_new_arrangements_within_the_split(data_dir, monkeypatch):
    from musictag.data.songbook.corpus import Corpus

    pieces = Corpus.pieces
    monkeypatch.setattr(Corpus, "pieces", lambda self, split: pieces(self, split)[:4])
    manifest = Songbook(data_dir, num_songs=10, validation_songs=1, test_songs=1, seconds=SECONDS).manifest()
    assert [manifest.paths[4], manifest.paths[8]] == [f"{manifest.paths[0]} (arrangement {n})" for n in (2, 3)]
    assert manifest.groups[0] == manifest.groups[4] == manifest.groups[8]
    assert not np.array_equal(manifest.targets()[0], manifest.targets()[4], equal_nan=True)
    assert manifest.leaked_groups() == []


def test_another_seed_arranges_the_same_pieces_differently(data_dir):
    settings = {"num_songs": 6, "validation_songs": 2, "test_songs": 2, "seconds": SECONDS}
    one, other = (Songbook(data_dir, seed=seed, **settings).manifest() for seed in (0, 1))
    assert one.paths.tolist() == other.paths.tolist()
    differs = (one.targets() != other.targets()) & ~np.isnan(one.targets()) & ~np.isnan(other.targets())
    assert differs.any(axis=1).all()


def test_same_bytes_in_any_order_and_on_any_number_of_processes(manifest, data_dir):
    reader = Songbook(data_dir, seconds=SECONDS).reader()
    ids = ["songbook-train-00000", "songbook-train-00001", "songbook-test-00007", "songbook-validation-00003"]
    here = _read(reader, ids)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        halves = list(pool.map(_read, [pickle.loads(pickle.dumps(reader))] * 2, [ids[:1:-1], ids[1::-1]]))
    there = [*halves[1][::-1], *halves[0][::-1]]
    for one, other in zip(here, there, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(here[0], here[1])


def test_fingerprint_tells_what_sounds_different(data_dir, tmp_path):
    base = Songbook(data_dir)
    assert base.fingerprint() == Songbook(tmp_path, num_songs=7, workers=1).fingerprint()
    other = tmp_path / "other.sf2"
    other.write_bytes(find_soundfont().read_bytes() + b"\0")
    for changed in ({"seed": 1}, {"seconds": 5}, {"soundfont": other}, {"soundfont": [None, other]},
                    {"variety": {"equaliser_db": 3.0}}, {"variety": {"codec_share": 0.1}}):  # fmt: skip
        assert Songbook(data_dir, **changed).fingerprint() != base.fingerprint()


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_songs": 0},
        {"num_songs": 1e3},
        {"seed": 1.5},
        {"test_songs": 0},
        {"seconds": 1},
        {"seconds": 600},
        {"seed": -1},
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path, wrong):
    with pytest.raises(MusictagError, match=next(iter(wrong))):
        Songbook(tmp_path, **wrong)


def test_needed_presets_cover_all_players():
    presets = needed_presets()
    for seed in range(30):
        for player in arrange(voices(), SECONDS, generator(seed)).players:
            assert (128 if player.is_drums else 0, player.program) in presets


def test_of_several_soundfonts_one_is_drawn_for_each_song(data_dir, tmp_path):
    other = tmp_path / "other.sf2"
    other.write_bytes(find_soundfont().read_bytes() + b"\0")
    reader = Songbook(data_dir, soundfont=[None, other]).reader()
    drawn = [reader.soundfont("train", number) for number in range(200)]
    assert 80 < drawn.count(other) < 120
    assert drawn == [Songbook(data_dir, soundfont=[None, other]).reader().soundfont("train", n) for n in range(200)]
    assert drawn[:100] != [Songbook(data_dir, seed=1, soundfont=[None, other]).reader().soundfont("train", n)
                           for n in range(100)]  # fmt: skip
    assert Songbook(data_dir, soundfont=[other]).fingerprint() == Songbook(data_dir, soundfont=other).fingerprint()
    with pytest.raises(MusictagError, match="at least one SoundFont"):
        Songbook(data_dir, soundfont=[])
    with pytest.raises(MusictagError, match="no SoundFont at"):
        Songbook(data_dir, soundfont=[None, tmp_path / "none.sf2"]).manifest()


def test_variety_is_part_of_the_song_and_stays_within_its_split(data_dir, monkeypatch):
    settings = {"num_songs": 40, "validation_songs": 2, "test_songs": 2, "seconds": SECONDS}
    plain = Songbook(data_dir, **settings).manifest()
    source = Songbook(data_dir, variety={"overlap_share": 0.5}, **settings)
    mixed = source.manifest()
    assert plain.paths.tolist() == mixed.paths.tolist()
    solo = [manifest.split("train").values("solo") for manifest in (plain, mixed)]
    assert 0.2 * solo[0].sum() < solo[1].sum() < 0.8 * solo[0].sum()
    number = int(np.flatnonzero(solo[0] != solo[1])[0])
    audio = [reader(f"songbook-train-{number:05d}", "") for reader in (source.reader(), Songbook(data_dir, seconds=SECONDS).reader())]  # fmt: skip  # noqa: E501
    assert not np.array_equal(*audio)
    # every piece that is played is one of the split's
    from musictag.data.datasets import songbook
    from musictag.data.songbook.corpus import load_corpus

    corpus, played = load_corpus(data_dir), set()
    pieces = corpus.pieces("test")
    arrange_ = songbook.arrange
    monkeypatch.setattr(songbook, "arrange", lambda score, *more: played.add(score.piece_id) or arrange_(score, *more))
    for count in range(20):
        source.reader().arrangement(corpus, pieces, "test", count)
    assert len(played) > 21
    assert played <= {corpus[int(piece)].piece_id for piece in pieces}
