"""Accompaniment for a tune in one voice: chords, a drone, a bass line, a drum pattern.

Notes are float arrays of shape (notes, 3): onset and duration in quarter notes from the clip's start, MIDI pitch. The
clip starts on a bar line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from musictag.data.songbook.arrangement.instruments import Instrument

#: Pitch classes of the 24 major and minor triads, root first; row r is r major, row 12 + r is r minor.
_TRIADS = np.array([[root, (root + third) % 12, (root + 7) % 12] for third in (4, 3) for root in range(12)])
_TONES = np.zeros((24, 12))
np.put_along_axis(_TONES, _TRIADS, [[1.2, 0.9, 1.0]], axis=1)  # a sounding root is the strongest evidence for a chord

_KICK, _SNARE, _CLOSED_HAT = 36, 38, 42


@dataclass(frozen=True)
class Bars:
    """The grid of a clip: bars of ``beats`` beats; windows of four quarter notes if the meter is unknown."""

    beats: int
    beat_quarters: float
    compound: bool
    quarters: float  # length of the clip

    @property
    def bar_quarters(self) -> float:
        return self.beats * self.beat_quarters

    @property
    def starts(self) -> np.ndarray:
        return np.arange(0.0, self.quarters - 1e-6, self.bar_quarters)


def bars_of(meter: tuple[int, int] | None, quarters: float) -> Bars:
    """In compound meters a beat is three eighth notes; in others the lower number gives the beat."""
    upper, lower = meter or (4, 4)
    if upper in (6, 9, 12):
        return Bars(upper // 3, 12.0 / lower, True, quarters)
    return Bars(upper, 4.0 / lower, False, quarters)


def harmony(melody: np.ndarray, bars: Bars) -> np.ndarray:
    """The triad (row of ``_TRIADS``) that shares most sounding time with each bar; silent bars keep the last one."""
    starts = bars.starts
    bar = np.clip(np.searchsorted(starts, melody[:, 0] + 1e-6, side="right") - 1, 0, len(starts) - 1)
    weights = np.zeros((len(starts), 12))
    # short notes are often passing notes, and a bar's first note carries the harmony
    emphasis = np.minimum(melody[:, 1], bars.bar_quarters) * (1.0 + (melody[:, 0] - starts[bar] < 1e-3))
    np.add.at(weights, (bar, melody[:, 2].astype(int) % 12), emphasis)
    chords = (weights @ _TONES.T).argmax(axis=1)
    for index in np.flatnonzero(weights.sum(axis=1) == 0):
        chords[index] = chords[index - 1] if index else 0
    return chords


def chord_part(chords: np.ndarray, bars: Bars, instrument: Instrument, rng: np.random.Generator) -> np.ndarray:
    """Held chords for sustaining instruments; chords on or off the beats, or broken chords, for decaying ones."""
    low = max(instrument.lowest, 52)
    voicings = np.sort(low + (_TRIADS[chords] - low) % 12, axis=1)
    style = "held" if instrument.sustains else ("beats", "after beats", "broken")[rng.integers(3)]
    if style == "after beats" and bars.beats == 1:
        style = "beats"
    notes: list[tuple[float, float, float]] = []
    for start, voicing in zip(bars.starts, voicings.tolist(), strict=True):
        if style == "held":
            notes += [(start, bars.bar_quarters, pitch) for pitch in voicing]
        elif style == "broken":
            step = bars.beat_quarters / (3 if bars.compound else 2)
            order = (0, 1, 2) if bars.compound else (0, 2, 1, 2)
            count = round(bars.bar_quarters / step)
            notes += [(start + i * step, 2 * step, voicing[order[i % len(order)]]) for i in range(count)]
        else:
            first = 1 if style == "after beats" else 0
            for beat in range(first, bars.beats):
                onset = start + beat * bars.beat_quarters
                notes += [(onset, bars.beat_quarters, pitch) for pitch in voicing]
    return np.array(notes)


def drone_part(melody: np.ndarray, bars: Bars, instrument: Instrument, rng: np.random.Generator) -> np.ndarray:
    """The tonic, sometimes with its fifth, struck again in each bar. The tune's last note is taken as the tonic."""
    tonic = int(melody[-1, 2]) % 12
    low = instrument.lowest + (tonic - instrument.lowest) % 12
    pitches = [low, low + 7] if rng.random() < 0.5 else [low]
    return np.array([(start, bars.bar_quarters, pitch) for start in bars.starts for pitch in pitches])


def bass_part(chords: np.ndarray, bars: Bars, instrument: Instrument, rng: np.random.Generator) -> np.ndarray:
    """The chord's root on the downbeat; in bars of two or more beats its fifth, or the root again, halfway."""
    roots = instrument.lowest + (_TRIADS[chords, 0] - instrument.lowest) % 12
    fifths = np.where(roots + 7 <= instrument.highest, roots + 7, roots - 5)
    seconds = fifths if rng.random() < 0.6 else roots
    every_beat = bars.beats <= 4 and rng.random() < 0.35
    notes: list[tuple[float, float, float]] = []
    for start, root, second in zip(bars.starts, roots.tolist(), seconds.tolist(), strict=True):
        if bars.beats == 1:
            notes.append((start, bars.bar_quarters, root))
        elif every_beat:
            pitches = [root, second] * bars.beats
            notes += [(start + i * bars.beat_quarters, bars.beat_quarters, pitches[i]) for i in range(bars.beats)]
        else:
            half = (bars.beats + 1) // 2 * bars.beat_quarters
            notes += [(start, half, root), (start + half, bars.bar_quarters - half, second)]
    return np.array(notes)


def drum_part(bars: Bars, rng: np.random.Generator) -> np.ndarray:
    """Kick on the downbeat (and on the third beat of four), snare on the other beats, hi-hat on every subdivision."""
    divisions = 3 if bars.compound else (2 if rng.random() < 0.7 else 1)
    step = bars.beat_quarters / divisions
    pattern: list[tuple[float, float]] = []
    for beat in range(bars.beats):
        kick = beat == 0 or (bars.beats >= 4 and beat % 2 == 0)
        pattern.append((beat * bars.beat_quarters, _KICK if kick else _SNARE))
        pattern += [(beat * bars.beat_quarters + i * step, _CLOSED_HAT) for i in range(divisions)]
    return np.array([(start + onset, 0.25, pitch) for start in bars.starts for onset, pitch in pattern])
