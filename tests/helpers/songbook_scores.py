"""Hand-made scores for the tests of songbook."""

from __future__ import annotations

import numpy as np

from musictag.data.songbook.notation.score import Score

SECONDS = 4.0


def generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def tune(bars=16, meter=(4, 4), pitch=67, **about) -> Score:
    """Two notes per beat, up and down a scale."""
    beat = 4.0 / meter[1]
    onsets = np.arange(0, bars * meter[0] * beat, beat / 2)
    steps = np.array([0, 2, 4, 5, 7, 5, 4, 2])
    notes = np.column_stack([onsets, np.full(len(onsets), beat / 2), pitch + steps[np.arange(len(onsets)) % 8]])
    return Score(**{"piece_id": "t#1", "collection": "essen", "parts": (notes.astype("f4"),), "meter": meter} | about)


def voices(pitches=(72, 67, 60, 48), collection="palestrina") -> Score:
    """Chords in half notes, 30 bars."""
    onsets = np.arange(0, 120, 2.0)
    parts = tuple(np.column_stack([onsets, np.full(60, 2.0), np.full(60, p)]).astype("f4") for p in pitches)
    return Score("v#1", collection, parts, meter=(4, 4))
