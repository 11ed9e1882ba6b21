"""Reads tunes in ABC notation (version 1.6 to 2.1, as far as printed tune collections use it).

A tune is read *once through*: repeat signs are ignored, and of first and second endings only the last is kept, so that
bars follow each other as in the last playing. Grace notes, chord symbols, text and ornaments are left out. An
accidental holds for its own octave until the next bar line, and over a tie (for its note alone in unbarred music).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache

from musictag.data.songbook.notation.abc_fields import ALTER, read_key, read_meter, read_tempo, read_unit
from musictag.data.songbook.notation.score import Score, collection_of, note_array, pickup_length

_NOTE = r"(?:\^\^?|__?|=)?[A-Ga-g][,']*\d*/*\d*"
_TOKEN = re.compile(
    r"""
      (?P<text>"[^"\n]*"|\{[^}]*\}|![^!\s|\[\]:]+!)           # chord symbol or words, grace notes, ornament
    | (?P<note>(\^\^?|__?|=)?([A-Ga-g][,']*)(\d*/*\d*))
    | (?P<bar>(?::*\[?\|+\]?:*|::+)(\d[\d,.\-]*)?)            # with the number of an ending: |1 :|2
    | (?P<field>\[([A-Za-z]):([^\]\n]*)\])
    | (?P<ending>\[\s*(\d[\d,.\-]*))
    | (?P<chord>\[([^\]|\[]*)\](\d*/*\d*)|\+((?:NOTE)+)\+)    # +CEG+ is the syntax of version 1.2
    | (?P<rest>[zx](\d*/*\d*))
    | (?P<bars_rest>[ZX](\d*))
    | (?P<tuplet>\((\d)(?::(\d?))?(?::(\d?))?)
    | (?P<broken>>+|<+)
    | (?P<tie>-)
    | (?P<spacer>y\d*/*\d*)
    | (?P<stray>["\[{}])
    """.replace("NOTE", _NOTE),
    re.VERBOSE,
)
_CHORD_NOTE = re.compile(r"""("[^"]*"|![^!]*!)|(\^\^?|__?|=)?([A-Ga-g][,']*)(\d*/*\d*)(-?)""")
_FIELD_LINE = re.compile(r"([A-Za-z]):(?![|:])(.*)")
_STARTS = [*sorted(_TOKEN.groupindex.values()), _TOKEN.groups + 1]
#: The number of groups inside the group of each kind of token: the arguments of its method in _Tune.
_INNER_GROUPS = {kind: _STARTS[_STARTS.index(at) + 1] - at - 1 for kind, at in _TOKEN.groupindex.items()}
_NOTE_GROUPS = tuple(_TOKEN.groupindex["note"] + i for i in (1, 2, 3))

_NATURAL = {"C": 60, "D": 62, "E": 64, "F": 65, "G": 67, "A": 69, "B": 71}
_TUPLET_TIME = {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}  # n notes in the time of; 5, 7 and 9 depend on the meter


@cache
def _pitch(letter_and_octave: str) -> int:
    """MIDI pitch of a natural note: C is 60, c is 72."""
    letter, marks = letter_and_octave[0], letter_and_octave[1:]
    return _NATURAL[letter.upper()] + 12 * (letter.islower() + marks.count("'") - marks.count(","))


@cache
def _length(text: str) -> float:
    """A note's length in units: "" is 1, "3/2" is 1.5, "/" is 0.5, "//" is 0.25."""
    numerator, slashes, denominator = re.fullmatch(r"(\d*)(/*)(\d*)", text).groups()
    multiple = int(numerator or 1)
    divisor = int(denominator) if denominator and slashes else 2 ** len(slashes)
    if multiple == 0 or divisor == 0:
        raise ValueError(f"unknown length {text!r}")
    return multiple / divisor


@dataclass
class _Voice:
    """The state of one voice of a tune. Times and lengths in quarter notes."""

    key: dict[str, int]
    unit: float
    meter: tuple[int, int] | None
    barred: bool  # whether accidentals hold to the end of a bar, or there are no bars
    time: float = 0.0
    notes: list[list[float]] = field(default_factory=list)  # onset, duration, pitch
    accidentals: dict[str, int] = field(default_factory=dict)
    event: list[tuple[str, int]] = field(default_factory=list)  # the last note or chord: name, index into notes
    event_length: float = 0.0
    ties: dict[str, int] = field(default_factory=dict)
    broken: float = 1.0
    tuplet: float = 1.0
    tuplet_left: int = 0
    ending: tuple[int, float] | None = None  # notes and time where the current ending began
    first_bar: float | None = None

    def sound(self, length: float, pitches: list[tuple[str | None, str, float]]) -> None:
        """Add a note, a chord or (without ``pitches``) a rest of ``length`` units.

        ``pitches`` gives each note's accidental, its name with octave marks, and its share of the length.
        """
        quarters = length * self.unit * self.broken
        self.broken = 1.0
        if self.tuplet_left:
            quarters *= self.tuplet
            self.tuplet_left -= 1
        ties, self.ties, self.event = self.ties, {}, []
        for accidental, name, share in pitches:
            tied = ties.get(name)
            if accidental is None:
                alter = self.accidentals.get(name, self.key.get(name[0].upper(), 0))
            else:
                alter = ALTER[accidental]
                if self.barred:
                    self.accidentals[name] = alter
            pitch = _pitch(name) + alter
            if tied is not None and accidental is None:  # an accidental holds over a tie, also across the bar line
                pitch = self.notes[tied][2]
            if tied is not None and pitch == self.notes[tied][2]:
                self.notes[tied][1] += quarters * share
                self.event.append((name, tied))
            else:
                self.event.append((name, len(self.notes)))
                self.notes.append([self.time, quarters * share, pitch])
        self.event_length = quarters
        self.time += quarters

    def lengthen(self, factor: float) -> None:
        """Scale the last event's length by ``factor``: the first half of a broken rhythm."""
        change = self.event_length * (factor - 1)
        for _, index in self.event:
            self.notes[index][1] += change
        self.time += change

    def bar_line(self) -> None:
        self.accidentals = {}
        self.tuplet_left = 0
        if self.first_bar is None and self.time > 0:
            self.first_bar = self.time

    def start_ending(self, first: bool) -> None:
        """A later ending replaces the previous one."""
        if self.ending is not None and not first:
            count, self.time = self.ending
            del self.notes[count:]
            self.event, self.ties = [], {}
        self.ending = (len(self.notes), self.time)

    def start_tuplet(self, count: int, time: int | None, notes: int | None) -> None:
        if count < 2:
            raise ValueError("a tuplet of fewer than two notes")
        if time is None:
            compound = self.meter is not None and self.meter[0] % 3 == 0 and self.meter[0] > 3
            time = _TUPLET_TIME.get(count, 3 if compound else 2)
        self.tuplet, self.tuplet_left = time / count, notes or count


class _Tune:
    """Plays the tokens of a tune's body, with one method per kind of token."""

    def __init__(self, voice: _Voice):
        self.first = self.voice = voice
        self.voices: dict[str, _Voice] = {}  # by name; a tune without voices has none
        self.meters = {voice.meter}
        self.tempos: set[float] = set()

    def play(self, body: str) -> None:
        for token in _TOKEN.finditer(body):
            kind = token.lastgroup
            if kind == "note":  # most tokens are notes
                accidental, name, length = token.group(*_NOTE_GROUPS)
                self.voice.sound(_length(length), [(accidental, name, 1.0)])
            elif kind not in ("text", "spacer"):
                at = _TOKEN.groupindex[kind]
                getattr(self, kind)(token[0], *token.groups()[at : at + _INNER_GROUPS[kind]])

    def bar(self, sign: str, ending: str | None) -> None:
        self.voice.bar_line()
        if "|:" in sign:
            self.voice.ending = None
        if ending:
            self.ending("", ending)

    def ending(self, _: str, numbers: str) -> None:
        self.voice.start_ending(first="1" in numbers)

    def field(self, _: str, letter: str, value: str) -> None:
        value = value.strip()
        if letter == "V":
            name = value.split()[0] if value else ""
            if name not in self.voices:
                first = self.first
                untouched = not self.voices and not first.time
                self.voices[name] = first if untouched else _Voice(first.key, first.unit, first.meter, first.barred)
            self.voice = self.voices[name]
        elif letter == "K":
            self.voice.key = read_key(value)
        elif letter == "L":
            self.voice.unit = read_unit(value)
        elif letter == "M":
            self.voice.meter = read_meter(value)
            self.meters.add(self.voice.meter)
        elif letter == "Q" and (tempo := read_tempo(value)):
            self.tempos.add(tempo)

    def chord(self, _: str, inside: str | None, length: str | None, old_style: str | None) -> None:
        """Notes inside may have their own lengths and ties; the chord as a whole is as long as its first note."""
        notes = [groups for groups in _CHORD_NOTE.findall(inside or old_style or "") if groups[2]]
        if not notes:
            return
        first = _length(notes[0][3])
        whole = first * _length(length or "")
        self.voice.sound(whole, [(note[1] or None, note[2], _length(note[3]) / first) for note in notes])
        tied = {note[2] for note in notes if note[4]}
        self.voice.ties = {name: index for name, index in self.voice.event if name in tied}

    def rest(self, _: str, length: str) -> None:
        self.voice.sound(_length(length), [])

    def bars_rest(self, _: str, bars: str) -> None:
        meter = self.voice.meter or (4, 4)
        self.voice.sound(int(bars or 1) * 4.0 * meter[0] / meter[1] / self.voice.unit, [])

    def tuplet(self, _: str, count: str, time: str | None, notes: str | None) -> None:
        self.voice.start_tuplet(int(count), int(time) if time else None, int(notes) if notes else None)

    def broken(self, sign: str) -> None:
        short = 0.5 ** len(sign)
        first, second = (2 - short, short) if sign[0] == ">" else (short, 2 - short)
        self.voice.lengthen(first)
        self.voice.broken = second

    def tie(self, _: str) -> None:
        self.voice.ties = dict(self.voice.event)

    def stray(self, sign: str) -> None:
        raise ValueError(f"unclosed {sign}")


def _clef_transposition(key_field: str) -> int:
    """Semitones from written to sounding pitch, by the clef in a K: field (the convention of abc2ps)."""
    if re.search(r"-8va\b|treble-?8\b", key_field):
        return -12
    return -24 if re.search(r"\bbass\b", key_field) else 0


def read_tune(text: str, file: str) -> Score:
    """One tune, from its X: field to its end. Raises ValueError if it cannot be read."""
    header: dict[str, str] = {}
    lines = iter(text.splitlines())
    for line in lines:
        if match := re.match(r"([A-Za-z]):(.*)", line.partition("%")[0]):
            header.setdefault(match[1], match[2].strip())
            if match[1] == "K":
                break
    if "K" not in header:
        raise ValueError("no K: field")
    meter = read_meter(header.get("M", "none"))
    short_meter = meter is not None and meter[0] / meter[1] < 0.75
    unit = read_unit(header["L"]) if "L" in header else (0.25 if short_meter else 0.5)
    body = "\n".join(_body_lines(lines))
    barred = "%%MIDI nobarlines" not in text  # early music: occasional lines between sections are not bar lines
    tune = _Tune(_Voice(key=read_key(header["K"]), unit=unit, meter=meter, barred=barred))
    tune.play(body)
    tempo = read_tempo(header.get("Q", ""))
    tempos = tune.tempos | ({tempo} if tempo else set())
    voices = list(tune.voices.values()) or [tune.first]
    parts = tuple(note_array(voice.notes, _clef_transposition(header["K"])) for voice in voices if voice.notes)
    return Score(
        piece_id=f"{file}#{header.get('X', '')}",
        collection=collection_of(file),
        parts=parts,
        title=header.get("T") or None,
        rhythm=header.get("R", "").lower() or None,
        origin=header.get("O") or None,
        meter=meter if len(tune.meters) == 1 else None,
        pickup_quarters=pickup_length(voices[0].first_bar, meter),
        tempo=tempos.pop() if len(tempos) == 1 else None,
    )


def _body_lines(lines: Iterator[str]) -> Iterator[str]:
    """The lines with music, up to the blank line that ends a tune; fields on their own lines become inline fields."""
    for line in lines:
        if not line.strip():
            return
        line = line.partition("%")[0].replace("\\", "")
        match = _FIELD_LINE.match(line)
        if not match:
            yield line
        elif match[1] in "KLMQV":
            yield f"[{match[1]}:{match[2].replace(']', '')}]"


def read_abc(text: str, file: str, problems: list[tuple[str, str]] | None = None) -> Iterator[Score]:
    """The tunes of a file, in order. ``piece_id`` is ``file#X``, X the tune's number (``#X.2`` if it occurs again).

    A tune that cannot be read is left out, and ``problems`` (if given) gets its piece_id and the reason.
    """
    seen: dict[str, int] = {}
    for tune in re.split(r"(?m)^(?=X:)", text.replace("\r\n", "\n").replace("\r", "\n"))[1:]:
        number = tune[2:].split("\n", 1)[0].partition("%")[0].strip()
        seen[number] = seen.get(number, 0) + 1
        piece_id = f"{file}#{number}" + (f".{seen[number]}" if seen[number] > 1 else "")
        try:
            score = read_tune(tune, file)
        except ValueError as error:
            if problems is not None:
                problems.append((piece_id, str(error)))
            continue
        yield replace(score, piece_id=piece_id)
