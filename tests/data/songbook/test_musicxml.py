"""The reader of MusicXML, on small pieces whose notes are known."""

from __future__ import annotations

import io
import random
import zipfile

import pytest

from musictag.data.songbook.notation.musicxml import read_musicxml
from musictag.data.songbook.notation.score import Score
from tests.data.songbook.test_notation import notes, pitches


def xml_note(pitch: str, duration: float, extra: str = "", after: str = "") -> str:
    what = "<rest/>"
    if pitch != "r":
        alter = f"<alter>{pitch.count('#') - pitch.count('b')}</alter>"
        what = f"<pitch><step>{pitch[0]}</step>{alter}<octave>{pitch[-1]}</octave></pitch>"
    return f"<note>{extra}{what}<duration>{duration}</duration>{after}</note>"


def xml_score(*parts: list[str], head: str = "") -> bytes:
    """Each part is a list of measures' contents; the first measure gets two divisions per quarter note and 4/4."""
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
    head = "<work><work-title>Suite</work-title></work><movement-title> Air\n lent</movement-title>"
    beat = "<direction><direction-type><metronome><beat-unit>quarter</beat-unit><beat-unit-dot/>"
    beat += "<per-minute>60</per-minute></metronome></direction-type></direction>"
    score = read_xml([beat + xml_note("C4", 8)], head=head)
    assert (score.title, score.meter, score.tempo) == ("Suite: Air lent", (4, 4), 90.0)
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


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_flipped_bytes_in_an_archive_are_a_damaged_archive(compression):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as archive:
        archive.writestr("all.xml", xml_score([xml_note("C4", 8)] * 40))
        archive.writestr(
            "META-INF/container.xml", '<container><rootfiles><rootfile full-path="all.xml"/></rootfiles></container>'
        )
    whole, rng = packed.getvalue(), random.Random(0)
    refused = 0
    for _ in range(500):
        damaged = bytearray(whole)
        for place in rng.choices(range(2, len(whole)), k=2):
            damaged[place] = rng.randrange(256)
        try:
            read_musicxml(bytes(damaged), "mozart/some.mxl")  # harmless in fields that are not read
        except ValueError:
            refused += 1
    assert refused > 250


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
