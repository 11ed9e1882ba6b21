"""Reads MusicXML (partwise), plain or as an ``.mxl`` archive.

A part of the Score is one staff of one instrument, with all of its voices, at sounding pitch. A piece is read once
through, in the order of the file; first endings are left out if a later one follows. So are grace and cue notes.
"""

from __future__ import annotations

import gc
import io
import lzma
import math
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from xml.etree import ElementTree

from musictag.data.songbook.notation.score import Score, collection_of, note_array, pickup_length

_STEP = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_BEAT = {
    "long": 16.0, "breve": 8.0, "whole": 4.0, "half": 2.0,
    "quarter": 1.0, "eighth": 0.5, "16th": 0.25, "32nd": 0.125,
}  # fmt: skip


@dataclass
class _Measure:
    length: float = 0.0  # quarter notes
    #: staff, onset in the measure, duration, pitch, whether a tie starts here
    notes: list[tuple[str, float, float, int, bool]] = field(default_factory=list)


def _number(text: str | None) -> float:
    """The value of ``text``; raises ValueError if it is missing or not a finite number."""
    number = float(text or "")
    if not math.isfinite(number):
        raise ValueError(f"not a number: {text}")
    return number


class _Instrument:
    """Reads the measures of one part; divisions, transposition and meter carry over. Times in quarter notes."""

    def __init__(self) -> None:
        self.divisions = 1.0
        self.transpose = 0
        self.bar = math.inf  # by the meter
        self.meters: list[tuple[int, int] | None] = []
        self.tempos: set[float] = set()

    def measure(self, element: ElementTree.Element) -> _Measure:
        measure = _Measure()
        now = onset = longest = 0.0
        for child in element:
            if child.tag == "note":
                inside = {element.tag: element for element in child}
                if "grace" in inside:
                    continue
                if "duration" not in inside:
                    raise ValueError("a note without duration")
                duration = _number(inside["duration"].text) / self.divisions
                if "chord" not in inside:
                    onset, now = now, now + duration
                if "pitch" in inside and "cue" not in inside:
                    tied = "tie" in inside and any(tie.get("type") == "start" for tie in child.findall("tie"))
                    staff = inside["staff"].text or "1" if "staff" in inside else "1"
                    pitch = self._pitch(inside["pitch"])
                    measure.notes.append((staff, onset, duration, pitch, tied))
            elif child.tag == "backup":
                now = max(0.0, now - _number(child.findtext("duration")) / self.divisions)
            elif child.tag == "forward":
                now += _number(child.findtext("duration")) / self.divisions
            elif child.tag == "attributes":
                self._attributes(child)
            elif child.tag in ("direction", "sound"):
                self._tempo(child)
            longest = max(longest, now)
        sounding = max((onset + duration for _, onset, duration, *_ in measure.notes), default=0.0)
        # some programs write the whole rests of two voices one after the other: rests alone do not make a bar longer
        measure.length = max(sounding, min(longest, self.bar))
        return measure

    def _pitch(self, element: ElementTree.Element) -> int:
        step, octave = element.findtext("step", ""), _number(element.findtext("octave"))
        if step not in _STEP:
            raise ValueError(f"unknown step {step!r}")
        return round(12 * (octave + 1) + _STEP[step] + _number(element.findtext("alter") or "0") + self.transpose)

    def _attributes(self, element: ElementTree.Element) -> None:
        if (divisions := element.findtext("divisions")) is not None:
            self.divisions = _number(divisions)
            if self.divisions <= 0:
                raise ValueError("divisions must be positive")
        if (transpose := element.find("transpose")) is not None:
            octaves = _number(transpose.findtext("octave-change") or "0")
            self.transpose = round(_number(transpose.findtext("chromatic")) + 12 * octaves)
        for time in element.findall("time"):
            beats, unit = time.findtext("beats", ""), time.findtext("beat-type", "")
            plain = len(time.findall("beats")) == 1 and beats.isdigit() and unit.isdigit() and int(beats) and int(unit)
            meter = (int(beats), int(unit)) if plain else None
            self.bar = 4.0 * meter[0] / meter[1] if meter else math.inf
            if meter not in self.meters:
                self.meters.append(meter)

    def _tempo(self, element: ElementTree.Element) -> None:
        sounds = [element] if element.tag == "sound" else element.findall("sound")
        tempos = {_number(sound.get("tempo")) for sound in sounds if sound.get("tempo")}
        if not tempos:
            for metronome in element.iter("metronome"):
                beat, text = metronome.findtext("beat-unit", ""), metronome.findtext("per-minute", "").strip()
                if beat in _BEAT and len(metronome.findall("beat-unit")) == 1 and re.fullmatch(r"\d+(\.\d+)?", text):
                    dots = len(metronome.findall("beat-unit-dot"))
                    tempos.add(float(text) * _BEAT[beat] * (2 - 0.5**dots))
        self.tempos |= {tempo for tempo in tempos if tempo > 0}


def _replaced_endings(measures: list[list[ElementTree.Element]]) -> set[int]:
    """Measures of an ending that a later ending replaces. ``measures``: their elements by part, then by measure."""
    spans: list[tuple[int, int, bool]] = []  # first measure, last measure, whether it is a first ending
    for part in measures:
        start = None
        for index, measure in enumerate(part):
            for ending in measure.iter("ending"):
                if ending.get("type") == "start":
                    start = (index, "1" in (ending.get("number") or ""))
                elif start is not None:
                    spans.append((start[0], index, start[1]))
                    start = None
        if spans:
            break  # all parts have the same endings, or only one has them
    replaced = [(a, b) for (a, b, _), (c, _, first) in pairwise(spans) if c == b + 1 and not first]
    return {index for start, last in replaced for index in range(start, last + 1)}


#: Exceptions on reading a damaged archive: from zipfile itself; for an unknown compression; for a member that is, or
#: seems to be, encrypted; from each decompressor; and from the parser of the content.
DAMAGED = (
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    zlib.error,
    lzma.LZMAError,
    OSError,  # bz2's
    EOFError,
    ElementTree.ParseError,
)


def _unpack(data: bytes) -> bytes:
    """The score inside an ``.mxl`` archive, or ``data`` itself."""
    if not data.startswith(b"PK"):
        return data
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            container = ElementTree.fromstring(archive.read("META-INF/container.xml"))
            rootfile = next(element for element in container.iter() if element.tag.rpartition("}")[2] == "rootfile")
            return archive.read(rootfile.get("full-path", ""))
    except DAMAGED as error:
        raise ValueError(f"damaged archive: {error}") from error
    except (KeyError, StopIteration) as error:
        raise ValueError("an archive that does not say which file is the score") from error


def _parse(data: bytes) -> ElementTree.Element:
    """The document's root. Raises ValueError if it declares entities; external ones are never fetched."""
    data = _unpack(data)
    if b"<!ENTITY" in data:
        raise ValueError("declares entities")
    try:
        return ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise ValueError(f"not XML: {error}") from error


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """A large tree has no cycles, and searching for them again and again takes half of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@_no_garbage_collection()
def read_musicxml(data: bytes, file: str) -> Score | None:
    """The piece of a file; None if it has no notes. Raises ValueError if it cannot be read."""
    root = _parse(data)
    if root.tag != "score-partwise":
        raise ValueError(f"{root.tag}; only score-partwise is supported")
    elements = [part.findall("measure") for part in root.findall("part")]
    left_out = _replaced_endings(elements)
    instruments = [_Instrument() for _ in elements]
    # every part is read to its end, including omitted measures: they may change divisions or meter
    read = [[player.measure(m) for m in part] for player, part in zip(instruments, elements, strict=True)]
    lengths = [
        max((part[i].length for part in read if i < len(part)), default=0.0)
        for i in range(max(map(len, read), default=0))
    ]
    starts, now = [], 0.0
    for index, length in enumerate(lengths):
        starts.append(now)
        now += 0.0 if index in left_out else length
    parts = [staff for part in read for staff in _staves(part, starts, left_out)]
    if not parts:
        return None
    meters = [meter for player in instruments for meter in player.meters]
    tempos = set().union(*(player.tempos for player in instruments))
    return Score(
        piece_id=file,
        collection=collection_of(file),
        parts=tuple(parts),
        title=_title(root, file),
        meter=meters[0] if len(set(meters)) == 1 else None,
        pickup_quarters=pickup_length(
            next((length for length in lengths if length), None), meters[0] if meters else None
        ),
        tempo=tempos.pop() if len(tempos) == 1 else None,
    )


def _staves(measures: list[_Measure], starts: list[float], left_out: set[int]) -> list:
    """The notes of one part by staff, top staff first, with tied notes merged."""
    staves: dict[str, list[list[float]]] = {}
    held: dict[tuple[str, int], list[float]] = {}
    for index, measure in enumerate(measures):
        if index in left_out:
            continue
        for staff, onset, duration, pitch, tied in measure.notes:
            note = held.pop((staff, pitch), None)  # the end of a tie is not always marked
            at = starts[index] + onset
            if note is not None and abs(note[0] + note[1] - at) < 1e-6:
                note[1] += duration
            else:
                note = [at, duration, pitch]
                staves.setdefault(staff, []).append(note)
            if tied:
                held[staff, pitch] = note
    return [note_array(staves[staff]) for staff in sorted(staves)]


def _title(root: ElementTree.Element, file: str) -> str | None:
    """Work and movement; a mere file name is not a title."""
    found = [root.findtext("work/work-title"), root.findtext("movement-title")]
    stem = re.sub(r"\.\w+$", "", file.rsplit("/", 1)[-1])
    titles = [
        " ".join(text.split()) for text in found if text and re.sub(r"\.(mxl|xml)$", "", text.strip()) not in ("", stem)
    ]
    return ": ".join(dict.fromkeys(titles)) or None
