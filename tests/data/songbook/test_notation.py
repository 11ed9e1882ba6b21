"""The readers of written music, on small pieces whose notes are known."""

from __future__ import annotations

import numpy as np
import pytest

from musictag.data.songbook.notation.abc import read_abc
from musictag.data.songbook.notation.abc_fields import read_key
from musictag.data.songbook.notation.kern import read_kern
from musictag.data.songbook.notation.score import Score, pickup_length


def tune(body: str, header: str = "K:C") -> Score:
    """One tune in 4/4 and eighth notes unless the header says otherwise."""
    problems: list[tuple[str, str]] = []
    (score,) = read_abc(f"X:1\nM:4/4\nL:1/8\n{header}\n{body}\n", "airdsAirs/some.abc", problems)
    assert problems == []
    return score


def notes(score: Score, part: int = 0) -> list[tuple[float, float, int]]:
    array = score.parts[part]
    assert array.dtype == np.float32
    assert (np.diff(array[:, 0]) >= 0).all()
    return [(round(float(on), 4), round(float(length), 4), int(pitch)) for on, length, pitch in array]


def pitches(score: Score, part: int = 0) -> list[int]:
    return score.parts[part][:, 2].astype(int).tolist()


# ABC


def test_abc_octaves_lengths_and_rests():
    assert notes(tune("C,C c2c'/ z3/2 c// ^f3/4")) == [
        (0, 0.5, 48),
        (0.5, 0.5, 60),
        (1, 1, 72),
        (2, 0.25, 84),
        (3, 0.125, 72),
        (3.125, 0.375, 78),
    ]


def test_abc_accidentals_last_in_their_octave_until_the_bar_line():
    assert pitches(tune("^FF f =FF _B|FB bB", "K:G")) == [66, 66, 78, 65, 65, 70, 66, 71, 83, 71]


def test_abc_accidental_without_bars_is_for_its_note_alone():
    assert pitches(tune("^cc ^d-d c|]", "%%MIDI nobarlines\nK:C")) == [73, 72, 75, 72]


def test_abc_accidental_holds_over_a_tie_and_no_longer():
    score = tune("^F8-|F4 F4")
    assert notes(score) == [(0, 6, 66), (6, 2, 65)]


def test_abc_tie_joins_equal_pitches_only():
    assert notes(tune("c2-c2 c2-d2-|d4 z4")) == [(0, 2, 72), (2, 1, 72), (3, 3, 74)]


@pytest.mark.parametrize(
    ("meter", "body", "lengths"),
    [
        ("4/4", "(3cde f2", [1 / 3, 1 / 3, 1 / 3, 1]),
        ("4/4", "(3c2d2e2 f2", [2 / 3, 2 / 3, 2 / 3, 1]),
        ("6/8", "(2cd e3", [0.75, 0.75, 1.5]),
        ("4/4", "(5cdefg", [0.2] * 5),
        ("6/8", "(5cdefg", [0.3] * 5),
        ("4/4", "(3:2:4cdef g", [1 / 3, 1 / 3, 1 / 3, 1 / 3, 0.5]),
        ("4/4", "(3::2cd e", [1 / 3, 1 / 3, 0.5]),
        ("4/4", "((3cde) f", [1 / 3, 1 / 3, 1 / 3, 0.5]),
    ],
)
def test_abc_tuplets(meter, body, lengths):
    (score,) = read_abc(f"X:1\nM:{meter}\nL:1/8\nK:C\n{body}\n", "airdsAirs/some.abc")
    np.testing.assert_allclose(score.parts[0][:, 1], lengths, rtol=1e-6)
    np.testing.assert_allclose(score.parts[0][:, 0], np.cumsum([0, *lengths[:-1]]), rtol=1e-6)


def test_abc_broken_rhythm():
    expected = [(0, 0.75, 60), (0.75, 0.25, 62), (1, 0.25, 64), (1.25, 0.75, 65), (2, 0.875, 67), (2.875, 0.125, 69)]
    assert notes(tune("C>D E<F (G>>A)")) == expected
    assert notes(tune('C > "Am"D')) == expected[:2]


def test_abc_chords_ties_in_them_and_a_chord_as_one_event():
    score = tune("[CEG]2 [C-E]2 [CF]2")
    assert notes(score) == [(0, 1, 60), (0, 1, 64), (0, 1, 67), (1, 2, 60), (1, 1, 64), (2, 1, 65)]
    assert notes(tune("+CE+A")) == [(0, 0.5, 60), (0, 0.5, 64), (0.5, 0.5, 69)]


def test_abc_leaves_out_everything_but_notes():
    score = tune('"Am7"!trill!{gab}~C .D HE "_fade"(FG) uA`B % ceg\nw: a bc de\nN: fade')
    assert pitches(score) == [60, 62, 64, 65, 67, 69, 71]


def test_abc_keeps_the_last_ending_only():
    score = tune("|:C4 D4|1 E8:|2 F8||G8|]")
    assert notes(score) == [(0, 2, 60), (2, 2, 62), (4, 4, 65), (8, 4, 67)]
    assert notes(tune("|:C4 D4|[1 E8:|[2 F8||G8|]")) == notes(score)


def test_abc_once_through_without_second_ending():
    assert pitches(tune("|:CDEF GABc::c4 d4|[1 e8:|")) == [60, 62, 64, 65, 67, 69, 71, 72, 72, 74, 76]


def test_abc_pickup():
    assert tune("G2|C8|D8|").pickup_quarters == 1.0
    assert tune("C8|D8|").pickup_quarters == 0.0
    assert tune("|:G|C8|").pickup_quarters == 0.5
    # Essen leaves out bar lines at the ends of lines
    assert tune("G2C8\nD8|E8|").pickup_quarters == 1.0


def test_abc_fields_become_the_scores_description():
    (score,) = read_abc(
        "X: 7\nT: The Test, A\nT: also\nC: Anon\nR: Double Jig\nO: Europa, Irland\n"
        'M:6/8\nQ:3/8=120 "fast"\nK:D\nABc|\n',
        "essenFolksong/irl.abc",
    )
    assert (score.piece_id, score.collection) == ("essenFolksong/irl.abc#7", "essen")
    assert (score.title, score.rhythm, score.origin) == ("The Test, A", "double jig", "Europa, Irland")
    assert (score.meter, score.tempo) == ((6, 8), 180.0)
    assert notes(score) == [(0, 0.5, 69), (0.5, 0.5, 71), (1, 0.5, 73)]  # L: follows from a meter of 3/4 and more


def test_abc_unknown_stays_unknown():
    (score,) = read_abc("X:1\nQ:120\nK:C\nCDEF\n", "oneills1850/some.abc")
    assert (score.title, score.rhythm, score.origin, score.meter, score.tempo) == (None,) * 5


def test_abc_inline_changes():
    score = tune("[L:1/4]F[K:G]F|[M:3/4][Q:1/4=80]F3|\nK:F\nB3")
    assert notes(score) == [(0, 1, 65), (1, 1, 66), (2, 3, 66), (5, 3, 70)]
    assert (score.meter, score.tempo) == (None, 80.0)


def test_abc_voices_run_side_by_side():
    score = tune("[V:1]c4 d4|\n[V:2]^C4 x4|\n[V:1]e8|\n[V:2]C8|", "V:1\nV:2\nK:C")
    assert notes(score, 0) == [(0, 2, 72), (2, 2, 74), (4, 4, 76)]
    assert notes(score, 1) == [(0, 2, 61), (4, 4, 60)]


def test_abc_clefs_that_sound_lower():
    assert [pitches(tune("c", f"K:C {clef}")) for clef in ("", "bass", "-8va", "treble8")] == [[72], [48], [60], [60]]


@pytest.mark.parametrize(
    ("text", "altered"),
    [
        ("C", {}),
        ("A", {"F": 1, "C": 1, "G": 1}),
        ("Bb", {"B": -1, "E": -1}),
        ("F#m", {"F": 1, "C": 1, "G": 1}),
        ("A Dorian", {"F": 1}),
        ("ADor", {"F": 1}),
        ("Dmix=c", {"F": 1, "C": 0}),
        ("E phr bass", {}),
        ("F lyd", {}),
        ("G Minor", {"B": -1, "E": -1}),
        ("GM", {"F": 1}),
        ("Es", {"B": -1, "E": -1, "A": -1}),
        ("Hp", {"F": 1, "C": 1}),
        ("none", {}),
    ],
)
def test_abc_keys(text, altered):
    assert read_key(text) == altered


def test_abc_a_bad_tune_costs_that_tune_only():
    problems: list[tuple[str, str]] = []
    text = (
        "% a file\nX:1\nK:C\nCDE\n\nX:2\nT:no key\nCDE\n\nX:3\nK:C\nC[EG|A\n\nX:4\nK:Q\nC\n\nX:5\nK:C\nC/0\n\n"
        'X:6\nK:C\n"AmC\n\nX:7\nL:long\nK:C\nC\n\nX:1\nK:C\nE\n'
    )
    scores = list(read_abc(text.replace("\n", "\r\n"), "miscFolk/some.abc", problems))
    assert [score.piece_id for score in scores] == ["miscFolk/some.abc#1", "miscFolk/some.abc#1.2"]
    assert [piece_id.rpartition("#")[2] for piece_id, _ in problems] == ["2", "3", "4", "5", "6", "7"]
    assert [reason for _, reason in problems] == [
        "no K: field",
        "unclosed [",
        "unknown key 'Q'",
        "unknown length '/0'",
        'unclosed "',
        "unknown unit length 'long'",
    ]


# kern


def kern(*rows: str, records: str = "") -> Score:
    text = records + "\n".join(row.replace(" ", "\t").replace("+", " ") for row in rows) + "\n"
    score = read_kern(text, "palestrina/some.krn")
    assert score is not None
    return score


def test_kern_parts_top_first_with_rests_dots_and_ties():
    score = kern(
        "**kern **text **kern",
        "*M4/2 * *M4/2",
        "*MM96 * *MM96",
        "=1 =1 =1",
        "1CC la 2.cc#",
        ". . 4dd",
        "[2E- . 0r",
        "=2 =2 =2",
        "2E-_ . .",
        "2E-] . .",
        "*- *- *-",
        records="!!!COM: Somebody\n!!!OPR: Missa\n!!!OTL: Kyrie\n",
    )
    assert notes(score, 0) == [(0, 3, 73), (3, 1, 74)]
    assert notes(score, 1) == [(0, 4, 36), (4, 6, 51)]
    assert (score.title, score.work) == ("Missa: Kyrie", "Missa")
    assert (score.meter, score.tempo, score.pickup_quarters) == ((4, 2), 96.0, 6.0)
    assert score.collection == "palestrina"


def test_kern_tuplets_chords_and_grace_notes():
    score = kern("**kern", "12c", "12d", "12e", "ggq", "4c+4e+4g", "3%2f", "*-")
    third = 1 / 3
    expected = [[0, third, 60], [third, third, 62], [2 * third, third, 64]]
    expected += [[1, 1, 60], [1, 1, 64], [1, 1, 67], [2, 8 / 3, 65]]
    np.testing.assert_allclose(score.parts[0], expected, rtol=1e-6)


def test_kern_splits_and_joins():
    score = kern(
        "**kern **kern",
        "4C 4c",
        "* *^",
        "2D 4d 2b",
        ". 4e .",
        "* *v *v",
        "4E 4f",
        "*- *-",
    )
    assert notes(score, 0) == [(0, 1, 60), (1, 1, 62), (1, 2, 71), (2, 1, 64), (3, 1, 65)]
    assert notes(score, 1) == [(0, 1, 48), (1, 2, 50), (3, 1, 52)]


def test_kern_pickup_and_changing_meter():
    score = kern("**kern", "*M3/4", "4c", "=1", "2.d", "=2", "*M4/4", "1e", "=", "*-")
    assert (score.pickup_quarters, score.meter) == (1.0, None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("4c\n", "interpretation"),
        ("**kern\t**kern\n4c\n*-\t*-\n", "1 columns where 2"),
        ("**kern\n4\n*-\n", "not a note"),
        ("**kern\n11c\n*-\n", "unusual length"),
        ("**kern\n*+\n", "spine command"),
        ("**kern\n4c\n*-\n**kern\n4c\n*-\n", "more than one piece"),
    ],
)
def test_kern_refuses_what_it_cannot_read(text, reason):
    with pytest.raises(ValueError, match=reason):
        read_kern(text, "palestrina/some.krn")


def test_kern_without_notes_is_none():
    assert read_kern("!!!COM: X\n**text\nla\n*-\n", "palestrina/some.krn") is None


def test_pickup_length():
    assert pickup_length(None, (4, 4)) == pickup_length(3.0, None) == pickup_length(3.0, (3, 4)) == 0.0
    assert pickup_length(1 / 3 + 1 / 3 + 1 / 3 + 3.0, (2, 2)) == 0.0
    assert pickup_length(0.5, (6, 8)) == 0.5
