"""Which pieces count as one tune, and how tunes are assigned to the splits."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from musictag.data.songbook.notation.score import Score
from musictag.data.songbook.tunes import distinctive_title, melody_runs, split_clusters, tune_clusters

STEPS = np.array([2, 0, -5, 4, 1, -3, 7])


def melody(seed: int, notes: int = 40) -> np.ndarray:
    return 60 + np.cumsum(STEPS[np.random.Generator(np.random.PCG64(seed)).integers(0, len(STEPS), notes)]) % 24


def score(pitches: np.ndarray, number: int = 0, **about) -> Score:
    part = np.column_stack([np.arange(len(pitches)), np.ones(len(pitches)), pitches]).astype(np.float32)
    return Score(**{"piece_id": f"essenFolksong/a.abc#{number}", "collection": "essen", "parts": (part,)} | about)


@pytest.mark.parametrize(
    ("title", "left"),
    [
        ("The White Cockade", "white cockade"),
        ("White Cockade, The -- Reel", "white cockade"),
        ("O'Connell's Lamentation (1)", "oconnells lamentation"),
        ("Der schöne Jäger", "schone jager"),
        ("Quick Step. 25th Regt.", None),
        ("The 25th Regiment's Farewell", "25th regiments farewell"),
        ("Chevy Chase 2", "chevy chase"),
        ("untitled", None),
        ("Slow Air No. 12", None),
        ("Weihnachtslied", None),
        ("Kyrie", None),
        ("", None),
        (None, None),
    ],
)
def test_titles_that_name_a_tune(title, left):
    assert distinctive_title(title) == left


def test_melody_runs_do_not_depend_on_key_length_or_repeated_notes():
    pitches = melody(1)
    pitches = pitches[np.append(True, np.diff(pitches) != 0)]
    runs = melody_runs(score(pitches))
    assert len(runs) == len(pitches) - 24
    assert melody_runs(score(pitches - 5)) == runs
    slower = score(pitches)
    slower.parts[0][:, :2] *= 2
    assert melody_runs(slower) == runs
    assert runs <= melody_runs(score(np.repeat(pitches, 2)))
    assert melody_runs(score(pitches[3:])) < runs


def test_melody_runs_follow_the_highest_of_simultaneous_notes():
    pitches = melody(2)
    (part,) = score(pitches).parts
    below = part - np.float32([0, 0, 7])
    both = np.concatenate([below, part])
    both = both[np.lexsort((both[:, 2], both[:, 0]))]
    assert melody_runs(replace(score(pitches), parts=(both,))) == melody_runs(score(pitches))


def test_scales_and_trills_identify_no_melody():
    assert melody_runs(score(60 + np.arange(40))) == set()
    assert melody_runs(score(60 + np.arange(40) % 2)) == set()


def test_a_short_melody_is_one_run():
    assert len(melody_runs(score(melody(3)[:15]))) in (1, 2)
    assert melody_runs(score(melody(3)[:15])) & melody_runs(score(melody(3)[:15] + 3))


def test_clusters_by_title_melody_and_work():
    a, b, c, d, e, f = (melody(seed) for seed in range(10, 16))
    scores = [
        score(a, 0, title="The Rakes of Mallow"),
        score(b, 1, title="Rakes of Mallow"),
        score(np.append([50, 61], b[4:] + 2), 2, title="Another"),  # the melody of 1 with another upbeat
        score(c, 3, title="Reel"),
        score(d, 4, title="Reel"),
        score(e, 5, piece_id="palestrina/Kyrie.krn", collection="palestrina", work="Missa X"),
        score(f, 6, piece_id="palestrina/Gloria.krn", collection="palestrina", work="Missa X"),
        score(melody(20), 7, piece_id="bach/bwv244.3.mxl", collection="bach"),
        score(melody(21), 8, piece_id="bach/bwv244.15.mxl", collection="bach"),
        score(melody(22), 9, piece_id="bach/bwv24.6.mxl", collection="bach"),
        score(melody(23), 10, piece_id="haydn/opus1no1/movement1.mxl", collection="haydn"),
        score(melody(24), 11, piece_id="haydn/opus1no1/movement2.mxl", collection="haydn"),
    ]
    groups = tune_clusters(scores)
    numbers = [sorted(set(groups)).index(group) for group in groups]
    same = {(i, j) for i in range(len(groups)) for j in range(i) if numbers[i] == numbers[j]}
    assert same == {(1, 0), (2, 0), (2, 1), (6, 5), (8, 7), (11, 10)}
    assert groups[2] == "essenFolksong/a.abc#0"


def test_splits_keep_clusters_whole_and_shares_in_every_collection():
    scores = [
        score(melody(seed), seed, collection="essen" if seed % 3 else "ryan", piece_id=f"x/{seed}")
        for seed in range(900)
    ]
    groups = [f"group {seed // 6}" for seed in range(900)]
    splits = split_clusters(scores, groups)
    assert len(set(zip(groups, splits, strict=True))) == 150
    sizes = Counter(splits)
    assert sizes["train"] == pytest.approx(697, abs=12)
    assert sizes["validation"] == pytest.approx(70, abs=12)
    assert sizes["test"] == pytest.approx(132, abs=12)
    backwards = split_clusters(scores[::-1], groups[::-1])
    assert backwards[::-1] == splits


def test_many_small_collections_are_dealt_out_together():
    scores = [score(melody(seed), seed, collection=f"composer {seed}", piece_id=f"c{seed}/x") for seed in range(40)]
    splits = Counter(split_clusters(scores, [s.piece_id for s in scores]))
    assert splits["train"] == pytest.approx(31, abs=1)
    assert splits["test"] == pytest.approx(6, abs=1)
