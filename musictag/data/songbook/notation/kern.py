"""Reads music in Humdrum's ``**kern``: columns (spines) of notes, one row per moment. Other spines are ignored.

A piece is read once through, in the order of the file. Each ``**kern`` spine is a part, with the subspines that split
from it; the top part comes first (in Humdrum the lowest is leftmost). Grace notes are left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache

from musictag.data.songbook.notation.score import Score, collection_of, note_array, pickup_length

_TICKS = 64 * 9 * 5 * 7  # per quarter note: exact for 256ths, triplets of triplets, quintuplets and septuplets
_NOTE = re.compile(
    r"(?P<length>\d+(?:%\d+)?)(?P<dots>\.*)|(?P<name>[A-Ga-g]+|r)(?P<alter>#+|-+)?|(?P<tie>[\[\]_])|(?P<grace>[qQ])"
)
_NATURAL = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}


@cache
def _read_note(token: str) -> tuple[int, int | None, str] | None:
    """(ticks, MIDI pitch or None for a rest, tie: "", "[", "_" or "]"); None for a grace note. Raises ValueError."""
    found: dict[str, str] = {}
    for match in _NOTE.finditer(token):
        for name, text in match.groupdict().items():
            if text is not None:
                found.setdefault(name, text)
    if "grace" in found:
        return None
    if "length" not in found or "name" not in found:
        raise ValueError(f"not a note: {token!r}")
    number, _, parts = found["length"].partition("%")
    # 0 is a breve (8 quarter notes), 00 twice that; 3%2 is two thirds of a whole note
    whole = 4 * _TICKS * int(parts or 1)
    ticks = whole * 2 ** len(number) if not int(number) else whole // int(number)
    exact = not int(number) or whole % int(number) == 0
    dots = len(found.get("dots", ""))
    if not exact or ticks % 2**dots:
        raise ValueError(f"unusual length: {token!r}")
    ticks = 2 * ticks - ticks // 2**dots
    name = found["name"]
    if name == "r":
        return ticks, None, ""
    octave = 4 + len(name) if name[0].islower() else 4 - len(name) + 1
    alter = found.get("alter", "")
    return ticks, 12 * octave + _NATURAL[name[0].lower()] + alter.count("#") - alter.count("-"), found.get("tie", "")


@dataclass
class _Part:
    notes: list[list[int]] = field(default_factory=list)  # onset and duration in ticks, pitch
    ties: dict[int, int] = field(default_factory=dict)  # pitch -> index of the held note

    def sound(self, onset: int, token: str) -> int:
        """Add a token's note or chord; returns when its first note ends, which is ``onset`` for grace notes."""
        end = onset
        for text in token.split():
            note = _read_note(text)
            if note is None:
                continue
            ticks, pitch, tie = note
            end = onset + ticks if end == onset else end
            if pitch is None:
                continue
            held = self.ties.pop(pitch, None) if tie in ("_", "]") else None
            if held is not None and sum(self.notes[held][:2]) == onset:
                self.notes[held][1] += ticks
            else:
                held = len(self.notes)
                self.notes.append([onset, ticks, pitch])
            if tie in ("[", "_"):
                self.ties[pitch] = held
        return end


def _respine(tokens: list[str], spines: list[int | None], ends: list[int]) -> tuple[list[int | None], list[int]]:
    """The columns after a row of spine commands: each one's part (None: not kern), and when its last note ends."""
    new_spines: list[int | None] = []
    new_ends: list[int] = []
    index = 0
    while index < len(tokens):
        spine, end = spines[index], ends[index]
        if tokens[index] == "*^":
            new_spines += [spine, spine]
            new_ends += [end, end]
        elif tokens[index] == "*v":
            last = index
            while last + 1 < len(tokens) and tokens[last + 1] == "*v" and spines[last + 1] == spine:
                last += 1
            new_spines.append(spine)
            new_ends.append(max(ends[index : last + 1]))
            index = last
        elif tokens[index] in ("*x", "*+"):
            raise ValueError(f"spine command {tokens[index]}")
        elif tokens[index] != "*-":
            new_spines.append(spine)
            new_ends.append(end)
        index += 1
    return new_spines, new_ends


class _Spines:
    """Reads rows in order; ``now`` is the onset of the next row of notes, in ticks."""

    def __init__(self, tokens: list[str]):
        kern = [index for index, token in enumerate(tokens) if token == "**kern"]
        self.spines: list[int | None] = [kern.index(index) if index in kern else None for index in range(len(tokens))]
        self.ends = [0] * len(tokens)
        self.parts = [_Part() for _ in kern]
        self.now = 0
        self.first_bar: int | None = None
        self.meters: list[tuple[int, int] | None] = []
        self.tempos: set[float] = set()

    def row(self, tokens: list[str]) -> None:
        if len(tokens) != len(self.spines):
            raise ValueError(f"{len(tokens)} columns where {len(self.spines)} are open")
        if tokens[0].startswith("*"):
            for token, spine in zip(tokens, self.spines, strict=True):
                if spine is not None:
                    self._interpretation(token)
            self.spines, self.ends = _respine(tokens, self.spines, self.ends)
        elif tokens[0].startswith("="):
            if self.first_bar is None and self.now > 0:
                self.first_bar = self.now
        else:
            self._notes(tokens)

    def _interpretation(self, token: str) -> None:
        if match := re.fullmatch(r"\*M([1-9]\d*)/([1-9]\d*)", token):
            meter = (int(match[1]), int(match[2]))
            if meter not in self.meters:
                self.meters.append(meter)
        elif re.match(r"\*M\d", token) or token == "*MX":
            self.meters.append(None)
        elif match := re.fullmatch(r"\*MM(\d+(?:\.\d+)?)", token):
            self.tempos.add(float(match[1]))

    def _notes(self, tokens: list[str]) -> None:
        now = self.now
        for index, (token, spine) in enumerate(zip(tokens, self.spines, strict=True)):
            if spine is not None and token != ".":
                self.ends[index] = max(self.ends[index], self.parts[spine].sound(now, token))
        later = [end for end, spine in zip(self.ends, self.spines, strict=True) if spine is not None and end > now]
        self.now = min(later, default=now)


def read_kern(text: str, file: str) -> Score | None:
    """The piece of a file; None if it has no ``**kern``. Raises ValueError if it cannot be read."""
    spines: _Spines | None = None
    records: dict[str, str] = {}
    for line in text.splitlines():
        if match := re.match(r"!!!([A-Za-z]+)[^:]*:\s*(.*)", line):
            records.setdefault(match[1], match[2].strip())
        elif not line.strip() or line.startswith("!"):
            continue
        elif spines is None:
            if not line.startswith("**"):
                raise ValueError("does not begin with an exclusive interpretation")
            if "**kern" not in line.split("\t"):
                return None
            spines = _Spines(line.rstrip("\r").split("\t"))
        elif spines.spines:
            spines.row(line.split("\t"))
        elif line.startswith("**"):
            raise ValueError("more than one piece")
    if spines is None:
        return None
    parts = [
        note_array([[on / _TICKS, length / _TICKS, pitch] for on, length, pitch in part.notes]) for part in spines.parts
    ]
    meters = spines.meters or [None]
    title, work = records.get("OTL") or None, records.get("OPR") or None
    return Score(
        piece_id=file,
        collection=collection_of(file),
        parts=tuple(part for part in reversed(parts) if len(part)),
        title=f"{work}: {title}" if work and title else title or work,
        origin=records.get("OCY") or None,
        work=work,
        meter=meters[0] if len(meters) == 1 else None,
        pickup_quarters=pickup_length(None if spines.first_bar is None else spines.first_bar / _TICKS, meters[0]),
        tempo=spines.tempos.pop() if len(spines.tempos) == 1 else None,
    )
