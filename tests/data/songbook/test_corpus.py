"""The corpus as it comes with the installed music21: built once, read back from the cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib import machinery
from pathlib import Path

import numpy as np
import pytest

from musictag.common.errors import MusictagError
from musictag.common.processes import follow_parent
from musictag.data.songbook import corpus as module
from musictag.data.songbook.corpus import Corpus, load_corpus

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def corpus(songbook_folder: Path) -> Corpus:
    return load_corpus(songbook_folder)


def index_of(corpus: Corpus, piece_id: str) -> int:
    (index,) = [i for i in range(len(corpus)) if corpus[i].piece_id == piece_id]
    return index


def cache_file(folder: Path) -> Path:
    (file,) = folder.glob("*.cache")
    return file


def test_collections_and_what_was_left_out(corpus):
    assert 14_500 <= len(corpus) <= 15_500
    counts = Counter(corpus.collection)
    expected = {"essen": 8490, "oneill": 2009, "palestrina": 1318, "aird": 1177, "ryan": 1059, "bach": 410}
    for collection, number in expected.items():
        assert abs(counts[collection] - number) <= 15, collection
    assert {"trecento", "monteverdi", "josquin", "mozart", "haydn", "beethoven", "joplin", "handel"} <= set(counts)
    assert "demos" not in counts
    assert len(corpus.problems) <= 40
    assert all(reason for _, reason in corpus.problems)


def test_every_piece_is_usable(corpus):
    ids = set()
    for index in range(len(corpus)):
        score = corpus[index]
        ids.add(score.piece_id)
        notes = np.concatenate(score.parts)
        assert len(notes) >= 12
        assert score.quarters >= 8
        assert notes[:, 2].min() >= 24
        assert notes[:, 2].max() <= 108
        assert (notes[:, 2] == notes[:, 2].round()).all()
        assert (notes[:, 1] > 0).all()
        assert score.collection == corpus.collection[index]
        if score.meter:
            assert 0 <= score.pickup_quarters < 4 * score.meter[0] / score.meter[1]
    assert len(ids) == len(corpus)


@pytest.mark.parametrize(
    ("piece_id", "part", "first_notes"),
    [
        # Gm: b flat from the signature, e natural from the sign
        ("oneills1850/0001-0050.abc#1", 0, [(0, 0.75, 67), (0.75, 0.25, 69), (1, 0.25, 70), (1.25, 0.25, 72)]),
        ("palestrina/Kyrie_00.krn", 0, [(4, 4, 67), (8, 4, 69), (12, 4, 67), (16, 4, 72), (20, 2, 71)]),
        ("bach/bwv66.6.mxl", 0, [(0, 0.5, 73), (0.5, 0.5, 71), (1, 1, 69), (2, 1, 71), (3, 1, 73)]),
        ("bach/bwv66.6.mxl", 3, [(0, 0.5, 57), (0.5, 0.5, 56), (1, 1, 54), (2, 1, 56)]),
        # triplet upbeat of sixteenths
        ("ryansMammoth/AcaciaReel.abc#1", 0, [(0, 0.1667, 62), (0.1667, 0.1667, 64), (0.3333, 0.1667, 66)]),
        # the b flat of the bar's first note holds for the second
        ("essenFolksong/altdeu10.abc#1", 0, [(0, 2, 67), (2, 2, 70), (4, 2, 70), (6, 2, 72)]),
    ],
)
def test_known_beginnings(corpus, piece_id, part, first_notes):
    notes = corpus[index_of(corpus, piece_id)].parts[part][: len(first_notes)]
    np.testing.assert_allclose(notes, first_notes, atol=1e-4)


def test_what_the_files_say(corpus):
    piece = corpus[index_of(corpus, "essenFolksong/han1.abc#1")]
    assert (piece.title, piece.origin, piece.meter) == ("Renmin gongshe shizai hao", "China, Shaanxi, Zizhou", (2, 4))
    piece = corpus[index_of(corpus, "ryansMammoth/AcaciaReel.abc#1")]
    assert (piece.title, piece.rhythm, piece.tempo, piece.pickup_quarters) == ("Acacia -- Reel", "reel", None, 0.5)
    piece = corpus[index_of(corpus, "airdsAirs/book1.abc#0001")]
    assert (piece.title, piece.meter, piece.tempo) == ("The Ranting Highlandman.", (2, 2), 224.0)
    piece = corpus[index_of(corpus, "palestrina/Kyrie_00.krn")]
    assert (piece.work, len(piece.parts), piece.meter) == ("Missa Ad fugam", 4, (4, 2))


def test_no_tune_is_in_two_splits(corpus):
    splits: dict[str, set[str]] = {}
    for group, split in zip(corpus.group, corpus.split, strict=True):
        splits.setdefault(group, set()).add(split)
    assert all(len(found) == 1 for found in splits.values())
    assert max(Counter(corpus.group).values()) <= 200
    # the same melody in any key, wherever it begins
    incipits: dict[bytes, set[str]] = {}
    for index in range(len(corpus)):
        intervals = np.diff(corpus[index].parts[0][:25, 2]).astype(np.int8)
        if len(intervals) == 24 and len(set(intervals.tolist())) >= 5 and len(corpus[index].parts) == 1:
            incipits.setdefault(intervals.tobytes(), set()).add(corpus.split[index])
    assert len(incipits) > 10_000
    assert all(len(found) == 1 for found in incipits.values())
    works: dict[str, set[str]] = {}
    for index in np.flatnonzero(corpus.collection == "palestrina"):
        works.setdefault(corpus[int(index)].work or "", set()).add(corpus.split[index])
    assert len(works) == 101
    assert all(len(found) == 1 for found in works.values())


def test_splits_are_large_enough_and_alike(corpus):
    sizes = Counter(corpus.split)
    assert set(sizes) == set(SPLITS)
    assert sizes["test"] >= 2000
    assert sizes["validation"] >= 1000
    assert sizes["train"] >= 11_000
    for collection in ("essen", "oneill", "palestrina", "aird", "ryan", "bach"):
        whole = (corpus.collection == collection).mean()
        for split in SPLITS:
            assert abs((corpus.collection[corpus.split == split] == collection).mean() - whole) < 0.02
            prefix = corpus.pieces(split)[:500]
            assert abs((corpus.collection[prefix] == collection).mean() - whole) < 0.06


def test_the_order_of_pieces_is_a_fixed_shuffle(corpus):
    orders = [corpus.pieces(split) for split in SPLITS]
    assert [order.dtype for order in orders] == [np.int64] * 3
    assert sorted(np.concatenate(orders).tolist()) == list(range(len(corpus)))
    order = orders[0]
    assert abs(np.corrcoef(np.arange(len(order)), order)[0, 1]) < 0.05  # no trace of the order of the files


def test_loading_reads_no_score_again_and_never_imports_music21(songbook_folder, monkeypatch):
    monkeypatch.setattr(module, "_read_files", None)
    assert len(load_corpus(songbook_folder)) > 10_000
    program = (
        "import sys; from pathlib import Path; from musictag.data.songbook.corpus import load_corpus, _corpus_folder;"
        f"load_corpus(Path({str(songbook_folder)!r})); _corpus_folder(); sys.exit('music21' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("position", [0, 31, 32, 40, 100_000, -1, -30])
def test_damage_anywhere_is_noticed(songbook_folder, tmp_path, position):
    damaged = bytearray(cache_file(songbook_folder).read_bytes())
    damaged[position] ^= 4
    file = tmp_path / "some.cache"
    file.write_bytes(damaged)
    assert module._read_cache(file) is None
    file.write_bytes(b"")
    assert module._read_cache(file) is None


@pytest.fixture
def small_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three files of the corpus, and some that cannot be read."""
    source, version = module._corpus_folder()
    target = tmp_path / "scores"
    for file in ("essenFolksong/han1.abc", "oneills1850/0001-0050.abc", "bach/bwv66.6.mxl"):
        (target / file).parent.mkdir(parents=True)
        shutil.copy(source / file, target / file)
    (target / "bach/broken.mxl").write_bytes(b"PK broken")
    (target / "bach/broken.xml").write_bytes(b"<score-partwise>")
    (target / "bach/broken.krn").write_text("**kern\n4c\t4d\n", encoding="utf-8")
    (target / "bach/words.krn").write_text("**text\nla\n*-\n", encoding="utf-8")
    notes = "CDEF GABc|" * 4
    tunes = f"X:1\nT:Größe\nK:C\n{notes}\n\nX:2\nK:C\nCDEF\n\nX:3\nK:C\n[CE{notes}\n\nX:4\nK:C\nC,,,,{notes}\n"
    (target / "bach/latin.abc").write_text(tunes, encoding="latin-1")
    monkeypatch.setattr(module, "_corpus_folder", lambda: (target, version))
    return target


def test_a_bad_file_costs_that_file_only(small_corpus, tmp_path):
    corpus = load_corpus(tmp_path / "cache")
    counts = Counter(corpus.collection)
    assert counts["bach"] == 2
    assert counts["essen"] > 500
    assert corpus[index_of(corpus, "bach/latin.abc#1")].title == "Größe"
    reasons = dict(corpus.problems)
    assert {key: reason for key, reason in reasons.items() if "latin" in key} == {
        "bach/latin.abc#2": "fewer than 12 notes",
        "bach/latin.abc#3": "unclosed [",
        "bach/latin.abc#4": "pitches outside 24 to 108",
    }
    assert reasons["bach/words.krn"] == "no notes"
    assert {"bach/broken.mxl", "bach/broken.xml", "bach/broken.krn"} <= set(reasons)


def test_builds_at_the_same_time_read_the_files_once(small_corpus, tmp_path, monkeypatch):
    builds = []
    read_files = module._read_files

    def counted(folder: Path, workers: int):
        builds.append(folder)
        return read_files(folder, workers)

    monkeypatch.setattr(module, "_read_files", counted)
    loaded: list[Corpus] = []
    threads = [threading.Thread(target=lambda: loaded.append(load_corpus(tmp_path / "cache"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(builds) == 1
    assert [len(corpus) for corpus in loaded] == [len(loaded[0])] * 3
    assert not list((tmp_path / "cache").glob("*.part"))


def test_music21_missing_too_old_or_without_its_corpus(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(module.util, "find_spec", lambda name: None)
        with pytest.raises(MusictagError, match=r"not installed\. Run: pip install \"music21"):
            load_corpus(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(module.metadata, "version", lambda name: "9.1.0")
        with pytest.raises(MusictagError, match=r"9\.1\.0 is too old.*Run: pip install"):
            load_corpus(tmp_path)
    bare = machinery.ModuleSpec("music21", None, is_package=True)
    bare.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(module.util, "find_spec", lambda name: bare)
    with pytest.raises(MusictagError, match="without its corpus"):
        load_corpus(tmp_path)
    assert not list(tmp_path.iterdir())


def test_worker_processes_end_with_their_parent(small_corpus, tmp_path, monkeypatch):
    started_with = []

    class Threads(ThreadPoolExecutor):
        def __init__(self, workers, mp_context=None, initializer=None):
            started_with.append(initializer)
            super().__init__(workers)

    monkeypatch.setattr(module, "ProcessPoolExecutor", Threads)
    load_corpus(tmp_path / "cache", workers=2)
    assert started_with == [follow_parent]


def test_two_workers_rebuild_a_damaged_cache_to_the_same_bytes(small_corpus, tmp_path):
    load_corpus(tmp_path / "one")
    whole = cache_file(tmp_path / "one").read_bytes()
    other = tmp_path / "two" / cache_file(tmp_path / "one").name
    other.parent.mkdir()
    other.write_bytes(whole[:-1000])
    _, version = module._corpus_folder()
    # another process, with another order of sets
    program = (
        "from pathlib import Path; from musictag.data.songbook import corpus;"
        f"corpus._corpus_folder = lambda: (Path({str(small_corpus)!r}), {version!r});"
        f"corpus.load_corpus(Path({str(other.parent)!r}), workers=2)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ | {"PYTHONHASHSEED": "7"})
    assert other.read_bytes() == whole
