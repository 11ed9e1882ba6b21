"""Chooses the excerpt of a piece that a clip plays, and its tempo.

Notes are float arrays of shape (notes, 3): onset and duration in quarter notes, MIDI pitch.
"""

from __future__ import annotations

import math

import numpy as np

from musictag.data.songbook.arrangement.accompaniment import bars_of
from musictag.data.songbook.notation.score import Score

_TRIES = 6
_ENOUGH_SOUND = 0.7  # share of the clip; an excerpt with more rests is avoided if possible
#: Beats per minute by the printed rhythm, for bars of two beats; bars of four quarters have twice as many.
_DANCE_BEATS = {"reel": (88, 112), "hornpipe": (70, 92), "strathspey": (60, 76), "clog": (70, 88)}
_JIG_BEATS = (98, 126)
#: Beats per minute by the beat's note value: breve and longer, half, quarter, eighth note.
_BEATS_BY_UNIT = {1: (60, 96), 2: (58, 100), 4: (76, 132), 8: (120, 190)}
_COMPOUND_BEATS = (56, 100)
_NOTES_A_SECOND = (1.2, 9.0)  # bounds for the mean of the busiest part


def choose_tempo(score: Score, rng: np.random.Generator) -> float:
    """Quarter notes per minute: as in the file, or to suit dance and meter, but neither too slow nor too fast."""
    beat_quarters = bars_of(score.meter, 1.0).beat_quarters
    if score.tempo is not None:
        quarters_a_minute = score.tempo * rng.uniform(0.9, 1.1)
    else:
        quarters_a_minute = beat_quarters * rng.uniform(*_beats_a_minute(score))
    busiest = max(len(part) for part in score.parts)
    slowest, fastest = (limit * 60 * score.quarters / busiest for limit in _NOTES_A_SECOND)
    return float(min(max(quarters_a_minute, slowest), fastest))


def _beats_a_minute(score: Score) -> tuple[float, float]:
    upper, lower = score.meter or (4, 4)
    rhythm = score.rhythm or ""
    if upper in (6, 9, 12):
        return _JIG_BEATS if "jig" in rhythm else _COMPOUND_BEATS
    if rhythm in _DANCE_BEATS:
        slow, fast = _DANCE_BEATS[rhythm]
        return (2 * slow, 2 * fast) if (upper, lower) == (4, 4) else (slow, fast)
    return _BEATS_BY_UNIT[min(lower, 8)]


def excerpt(score: Score, quarters: float, rng: np.random.Generator) -> list[np.ndarray]:
    """The parts over ``quarters`` quarter notes from a random bar line (from a random note if the meter is unknown).

    Onsets count from there; durations are not cut at the end. Notes that began earlier are left out. A piece shorter
    than the clip is repeated from its beginning, in step with its bars; a part may be empty.
    """
    if score.meter is None:
        bar, first = None, 0.0
        period = max(score.quarters, 1.0)
        onsets = np.unique(np.concatenate([part[:, 0] for part in score.parts]))
    else:
        bar, first = score.meter[0] * 4.0 / score.meter[1], score.pickup_quarters
        # a piece that ends before its last bar is full usually leaves room for its own pickup
        period = max(math.ceil(score.quarters / bar - 1e-3), 1) * bar
        onsets = np.arange(first, max(score.quarters, first + 1e-3), bar)
    if quarters < period:
        onsets = onsets[onsets <= max(period - quarters, onsets[0]) + 1e-6]
    best, best_sound = [], -1.0
    first_sound = min(float(part[0, 0]) for part in score.parts if len(part))
    fallback = onsets[max(int(np.searchsorted(onsets, first_sound + 1e-3)) - 1, 0)]
    for start in (*onsets[rng.integers(len(onsets), size=_TRIES)], fallback):
        parts = [_stretch(part, start, quarters, period) for part in score.parts]
        sound = covered(np.concatenate(parts), quarters) / quarters
        if sound > best_sound:
            best, best_sound = parts, sound
        if sound >= _ENOUGH_SOUND:
            break
    return best


def _stretch(part: np.ndarray, start: float, quarters: float, period: float) -> np.ndarray:
    """Notes of the endlessly repeated ``part`` with onsets in [start, start + quarters)."""
    rounds = np.arange(math.ceil((start + quarters) / period))
    repeated = np.tile(part.astype(np.float64), (len(rounds), 1))
    repeated[:, 0] += np.repeat(rounds * period, len(part)) - start
    return repeated[(repeated[:, 0] > -1e-4) & (repeated[:, 0] < quarters - 1e-3)]


def covered(notes: np.ndarray, until: float) -> float:
    """How much of [0, until) is covered by at least one of the notes (onset, duration, ...)."""
    if not len(notes):
        return 0.0
    order = np.argsort(notes[:, 0], kind="stable")
    onsets = notes[order, 0]
    ends = np.minimum(onsets + notes[order, 1], until)
    reached = np.maximum.accumulate(np.concatenate([[0.0], ends[:-1]]))
    return float(np.maximum(ends - np.maximum(onsets, reached), 0.0).sum())
