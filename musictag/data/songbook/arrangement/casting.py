"""Casting: draws instruments, and moves the parts of a clip into their ranges.

Notes are float arrays of shape (notes, 3): onset and duration in quarter notes from the clip's start, MIDI pitch.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from musictag.data.songbook.arrangement.accompaniment import Bars, bass_part, chord_part, drone_part, drum_part, harmony
from musictag.data.songbook.arrangement.excerpt import covered
from musictag.data.songbook.arrangement.instruments import BASS, DRUMS, INSTRUMENTS, Instrument

MOST_PLAYERS = 4
LEAST_SOUND = 0.4  # share of the clip: a voice that plays less gets no player of its own
_DRONE_PLAYERS = {
    "accordion", "bagpipe", "bassoon", "cello", "clarinet", "distorted guitar", "french horn", "harmonica", "oboe",
    "pan flute", "saxophone", "synth lead", "trumpet",
}  # fmt: skip
#: Chordal instruments also accompany; drawn less often for melodies, so that all occur about equally often.
_CHORDAL_MELODY_WEIGHT = 0.45


@dataclass(frozen=True)
class Part:
    """``notes`` (onset, duration, pitch) for one player; ``leads`` says whether it leads or accompanies."""

    instrument: Instrument
    notes: np.ndarray
    leads: bool = True


def cast(parts: list[np.ndarray], bars: Bars, meter_known: bool, rng: np.random.Generator) -> list[Part]:
    """One to four players for the parts of a clip; each plays for at least ``LEAST_SOUND`` of it if the piece does."""
    parts = [part for part in parts if len(part)]
    if len(parts) == 1:
        return _cast_tune(parts[0], bars, meter_known, rng)
    return _cast_voices(parts, bars, meter_known, rng)


def _cast_tune(melody: np.ndarray, bars: Bars, meter_known: bool, rng: np.random.Generator) -> list[Part]:
    melody = moved(melody, rng.integers(-6, 6))
    lead = _draw([i for i in INSTRUMENTS if _fits(i, melody)] or list(INSTRUMENTS), rng)
    players = [Part(lead, into_range(melody, lead, rng))]
    if rng.random() < 0.36:
        return players
    while len(players) == 1:
        others = [i for i in INSTRUMENTS if i is not lead]
        chords = harmony(melody, bars)
        if rng.random() < 0.25:
            double = _draw([i for i in others if not i.chordal], rng)
            players.append(Part(double, into_range(melody, double, rng)))
        elif rng.random() < 0.3:
            drone = _draw([i for i in others if i.tag in _DRONE_PLAYERS], rng)
            players.append(Part(drone, drone_part(melody, bars, drone, rng), leads=False))
        if rng.random() < 0.5:
            taken = {part.instrument.tag for part in players}
            player = _draw([i for i in others if i.chordal and i.tag not in taken], rng)
            players.append(Part(player, chord_part(chords, bars, player, rng), leads=False))
        if rng.random() < 0.4:
            players.append(Part(BASS, bass_part(chords, bars, BASS, rng), leads=False))
        if meter_known and len(players) < MOST_PLAYERS and rng.random() < 0.35:
            players.append(Part(DRUMS, drum_part(bars, rng), leads=False))
    return players


def _cast_voices(parts: list[np.ndarray], bars: Bars, meter_known: bool, rng: np.random.Generator) -> list[Part]:
    """All written voices are played without added harmony; the lowest may be doubled by a bass."""
    parts = sorted(parts, key=lambda part: -float(np.median(part[:, 2])))
    shift = rng.integers(-4, 5)
    parts = [moved(part, shift) for part in parts]
    groups = _grouped(parts, int(rng.choice([1, 2, 3, 4], p=[0.35, 0.3, 0.2, 0.15])), bars.quarters)
    players: list[Part] = []
    for group in groups:
        notes = np.concatenate(group)
        taken = {part.instrument.tag for part in players}
        able = [i for i in INSTRUMENTS if i.tag not in taken and (i.chordal or len(group) == 1)]
        player = _draw([i for i in able if _fits(i, notes)] or able, rng)
        laid = notes if _fits(player, notes, exactly=True) else into_range(notes, player, rng)
        players.append(Part(player, fold(laid, player)))
    lowest_sounds = covered(parts[-1], bars.quarters) >= LEAST_SOUND * bars.quarters
    if len(players) < MOST_PLAYERS and rng.random() < 0.15 and lowest_sounds:
        players.append(Part(BASS, into_range(parts[-1], BASS, rng), leads=False))
    if meter_known and len(players) < MOST_PLAYERS and rng.random() < 0.12:
        players.append(Part(DRUMS, drum_part(bars, rng), leads=False))
    return players


def _grouped(parts: list[np.ndarray], count: int, quarters: float) -> list[list[np.ndarray]]:
    """Adjacent voices in at most ``count`` groups, fewer if a group would rest for most of the clip."""
    for groups in range(min(count, len(parts)), 1, -1):
        bounds = [round(i * len(parts) / groups) for i in range(groups + 1)]
        split = [parts[low:high] for low, high in pairwise(bounds)]
        if all(covered(np.concatenate(group), quarters) >= LEAST_SOUND * quarters for group in split):
            return split
    return [parts]


def _draw(candidates: list[Instrument], rng: np.random.Generator) -> Instrument:
    weights = np.array([_CHORDAL_MELODY_WEIGHT if i.chordal else 1.0 for i in candidates])
    if all(i.chordal for i in candidates):
        weights[:] = 1.0
    return candidates[int(np.searchsorted(np.cumsum(weights) / weights.sum(), rng.random(), side="right"))]


def _fits(instrument: Instrument, notes: np.ndarray, exactly: bool = False) -> bool:
    """Whether the notes fit the instrument's range, in their own octave or (not ``exactly``) in another one."""
    low, high = float(notes[:, 2].min()), float(notes[:, 2].max())
    if exactly:
        return low >= instrument.lowest and high <= instrument.highest
    return len(_octaves(instrument, low, high)) > 0


def _octaves(instrument: Instrument, low: float, high: float) -> np.ndarray:
    """Octave shifts, in semitones, that bring [low, high] into the instrument's range, by at most two octaves."""
    shifts = np.array([-24, -12, 0, 12, 24])
    return shifts[(low + shifts >= instrument.lowest) & (high + shifts <= instrument.highest)]


def into_range(notes: np.ndarray, instrument: Instrument, rng: np.random.Generator) -> np.ndarray:
    """The notes in a random octave that fits; if none does, in the nearest one, with stray notes folded in."""
    low, high = float(notes[:, 2].min()), float(notes[:, 2].max())
    octaves = _octaves(instrument, low, high)
    if len(octaves):
        return moved(notes, octaves[rng.integers(len(octaves))])
    centre = (instrument.lowest + instrument.highest) / 2
    return fold(moved(notes, 12 * round((centre - float(np.median(notes[:, 2]))) / 12)), instrument)


def moved(notes: np.ndarray, semitones: int) -> np.ndarray:
    """The notes, transposed."""
    return notes + np.array([0.0, 0.0, float(semitones)])


def fold(notes: np.ndarray, instrument: Instrument) -> np.ndarray:
    """Notes outside the instrument's range moved by octaves to its nearest edge; all ranges span an octave or more."""
    pitches = notes[:, 2]
    below = np.ceil(np.maximum(instrument.lowest - pitches, 0) / 12) * 12
    above = np.ceil(np.maximum(pitches - instrument.highest, 0) / 12) * 12
    return np.column_stack([notes[:, :2], pitches + below - above])
