"""The readers of written music, on small pieces whose notes are known."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from musictag.data.songbook.abc import read_abc
from musictag.data.songbook.abc_fields import read_key
from musictag.data.songbook.kern import read_kern
from musictag.data.songbook.musicxml import read_musicxml
from musictag.data.songbook.score import Score, pickup_length


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


def test_abc_leaves_out_what_is_no_note():
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
    assert (score.title, score.composer, score.rhythm, score.origin) == (
        "The Test, A",
        "Anon",
        "double jig",
        "Europa, Irland",
    )
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
    assert (score.title, score.composer, score.work) == ("Missa: Kyrie", "Somebody", "Missa")
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


# MusicXML


def xml_note(pitch: str, duration: float, extra: str = "", after: str = "") -> str:
    what = "<rest/>"
    if pitch != "r":
        alter = f"<alter>{pitch.count('#') - pitch.count('b')}</alter>"
        what = f"<pitch><step>{pitch[0]}</step>{alter}<octave>{pitch[-1]}</octave></pitch>"
    return f"<note>{extra}{what}<duration>{duration}</duration>{after}</note>"


def xml_score(*parts: list[str], head: str = "") -> bytes:
    """Each part a list of measures' contents; the first measure gets two divisions a quarter note and 4/4."""
    attributes = (
        "<attributes><divisions>2</divisions><time><beats>4</beats><beat-type>4</beat-type></time></attributes>"
    )
    body = ""
    for number, measures in enumerate(parts):
        inside = "".join(f"<measure>{attributes if not i else ''}{m}</measure>" for i, m in enumerate(measures))
        body += f'<part id="P{number}">{inside}</part>'
    return f'<?xml version="1.0"?><score-partwise>{head}{body}</score-partwise>'.encode()


def read_xml(*parts: list[str], head: str = "") -> Score:
    score = read_musicxml(xml_score(*parts, head=head), "bach/some.xml")
    assert score is not None
    return score


def test_musicxml_chords_rests_grace_and_cue_notes():
    measure = (
        xml_note("C4", 2)
        + xml_note("Eb4", 2, "<chord/>")
        + "<note><grace/><pitch><step>D</step><octave>5</octave></pitch></note>"
        + xml_note("r", 1)
        + xml_note("A4", 1, "<cue/>")
        + xml_note("F#4", 4)
    )
    assert notes(read_xml([measure])) == [(0, 1, 60), (0, 1, 63), (2, 2, 66)]


def test_musicxml_backup_forward_and_staves():
    measure = (
        xml_note("C5", 8, after="<staff>1</staff>")
        + "<backup><duration>8</duration></backup><forward><duration>4</duration></forward>"
        + xml_note("E4", 4, after="<staff>1</staff>")
        + "<backup><duration>8</duration></backup>"
        + xml_note("C3", 8, after="<staff>2</staff>")
    )
    score = read_xml([measure, xml_note("D5", 8, after="<staff>1</staff>")])
    assert notes(score, 0) == [(0, 4, 72), (2, 2, 64), (4, 4, 74)]
    assert notes(score, 1) == [(0, 4, 48)]


def test_musicxml_ties_over_the_bar_line_and_new_divisions():
    start, stop = '<tie type="start"/>', '<tie type="stop"/>'
    second = "<attributes><divisions>4</divisions></attributes>" + xml_note("C4", 4, after=stop) + xml_note("C4", 12)
    score = read_xml([xml_note("C4", 8, after=start), second])
    assert notes(score) == [(0, 5, 60), (5, 3, 60)]


def test_musicxml_transposing_instruments_sound_as_they_do():
    transpose = (
        "<attributes><transpose><chromatic>-2</chromatic><octave-change>-1</octave-change></transpose></attributes>"
    )
    score = read_xml([transpose + xml_note("C5", 8)], [xml_note("C5", 8)])
    assert (pitches(score, 0), pitches(score, 1)) == ([58], [72])


def test_musicxml_first_ending_gives_way_to_the_second():
    def ending(number: int, kind: str) -> str:
        return f'<barline><ending number="{number}" type="{kind}"/></barline>'

    measures = [
        xml_note("C4", 8),
        ending(1, "start") + xml_note("D4", 8) + ending(1, "stop"),
        ending(2, "start") + xml_note("E4", 8) + ending(2, "discontinue"),
        xml_note("F4", 8),
    ]
    score = read_xml(measures, [xml_note(name, 8) for name in ("C3", "D3", "E3", "F3")])
    assert notes(score, 0) == [(0, 4, 60), (4, 4, 64), (8, 4, 65)]
    assert notes(score, 1) == [(0, 4, 48), (4, 4, 52), (8, 4, 53)]


def test_musicxml_pickup_and_bars_that_rests_cannot_lengthen():
    # two rests of a whole bar one after the other, as some programs write two silent voices
    score = read_xml([xml_note("G4", 2), xml_note("C5", 8)], [xml_note("r", 2), xml_note("r", 8) * 2 + ""], head="")
    assert score.pickup_quarters == 1.0
    score = read_xml([xml_note("C5", 8)] * 2, [xml_note("r", 8) * 2, xml_note("C4", 8)])
    assert notes(score, 0) == [(0, 4, 72), (4, 4, 72)]
    assert notes(score, 1) == [(4, 4, 60)]


def test_musicxml_description():
    head = (
        "<work><work-title>Suite</work-title></work><movement-title> Air\n lent</movement-title><identification>"
        '<creator type="lyricist">No</creator><creator type="composer">Somebody</creator></identification>'
    )
    beat = "<direction><direction-type><metronome><beat-unit>quarter</beat-unit><beat-unit-dot/>"
    beat += "<per-minute>60</per-minute></metronome></direction-type></direction>"
    score = read_xml([beat + xml_note("C4", 8)], head=head)
    assert (score.title, score.composer, score.meter, score.tempo) == ("Suite: Air lent", "Somebody", (4, 4), 90.0)
    assert read_xml(['<sound tempo="72"/>' + xml_note("C4", 8)]).tempo == 72.0
    two = '<sound tempo="72"/>' + xml_note("C4", 4) + '<sound tempo="80"/>' + xml_note("C4", 4)
    assert read_xml([two]).tempo is None
    assert read_xml([xml_note("C4", 8)], head="<movement-title>some.xml</movement-title>").title is None


def test_musicxml_archive_takes_the_file_that_its_container_names():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("parts/one.xml", xml_score([xml_note("A4", 8)]))
        archive.writestr("all.xml", xml_score([xml_note("C4", 8)]))
        archive.writestr(
            "META-INF/container.xml", '<container><rootfiles><rootfile full-path="all.xml"/></rootfiles></container>'
        )
    score = read_musicxml(packed.getvalue(), "mozart/some.mxl")
    assert score is not None
    assert pitches(score) == [60]
    damaged = bytearray(packed.getvalue())
    damaged[:400] = b"PK" + bytes(398)
    with pytest.raises(ValueError, match="archive"):
        read_musicxml(bytes(damaged), "mozart/some.mxl")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<score-partwise><part>", "not XML"),
        (b"<score-timewise/>", "score-timewise"),
        (b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><score-partwise/>', "entities"),
        (xml_score([xml_note("C4", 8).replace("<duration>8</duration>", "")]), "without duration"),
        (xml_score([xml_note("H4", 8)]), "step"),
        (xml_score([xml_note("C4", float("nan"))]), "not a number"),
        (xml_score([xml_note("C4", 8)]).replace(b"<divisions>2", b"<divisions>0"), "divisions"),
    ],
)
def test_musicxml_refuses_what_it_cannot_read(data, reason):
    with pytest.raises(ValueError, match=reason):
        read_musicxml(data, "bach/some.xml")


def test_musicxml_without_notes_is_none():
    assert read_musicxml(xml_score([xml_note("r", 8)]), "bach/some.xml") is None


def test_pickup_length():
    assert pickup_length(None, (4, 4)) == pickup_length(3.0, None) == pickup_length(3.0, (3, 4)) == 0.0
    assert pickup_length(1 / 3 + 1 / 3 + 1 / 3 + 3.0, (2, 2)) == 0.0
    assert pickup_length(0.5, (6, 8)) == 0.5
