"""Tags of a clip match an independent count of its notes, and its recording."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from musictag.data.songbook.arrangement.arrange import arrange
from musictag.data.songbook.arrangement.tags import score_tags
from musictag.data.songbook.rendering.effects import Recording, record
from tests.helpers.songbook_scores import generator, tune, voices

SECONDS = 10.0


def median_pitch(by_pitch: list[tuple[float, float]], share: float) -> float:
    """The pitch, from 36 to 96, below which is this share of the sounding time, for (pitch, seconds)."""
    ordered = sorted(by_pitch)
    passed = np.cumsum([length for _, length in ordered])
    pitch = next(pitch for (pitch, _), until in zip(ordered, passed, strict=True) if until >= share * passed[-1])
    return min(max((pitch - 36) / 60, 0.0), 1.0)


def test_measures_are_those_of_the_notes_that_are_played() -> None:
    arrangements = [arrange(score, SECONDS, generator(seed)) for score in (tune(), voices()) for seed in range(60)]
    drums, weighted = 0, 0
    for arrangement in arrangements:
        melodic = [player for player in arrangement.players if player.tag != "drums"]
        notes = [tuple(note) for player in melodic for note in player.notes.tolist()]
        onsets = sorted(onset for onset, *_ in notes)
        apart = sum(later - onset > 0.03 for onset, later in pairwise([-1.0, *onsets]))
        assert arrangement.tags["note rate"] == pytest.approx(min(apart / SECONDS / 12, 1.0))
        sounding = [(pitch, min(length, SECONDS - onset)) for onset, length, pitch, _ in notes]
        # if two notes meet in the middle, either is correct
        found = arrangement.tags["median pitch"]
        assert found in {median_pitch(sounding, 0.5 - 1e-9), median_pitch(sounding, 0.5 + 1e-9)}
        drums += len(melodic) < len(arrangement.players)
        weighted += abs(found - median_pitch([(pitch, 1.0) for pitch, _ in sounding], 0.5)) > 0.01
    assert drums > 5
    assert weighted > 5  # long notes count for more


@pytest.mark.parametrize(
    ("meter", "triple", "compound"),
    [((3, 4), 1, 0), ((9, 8), 1, 1), ((3, 8), 1, None), ((6, 8), 0, 1), ((4, 4), 0, 0), (None, None, None)],
)
def test_meters(meter: tuple[int, int] | None, triple: float | None, compound: float | None) -> None:
    tags = score_tags(replace(tune(), meter=meter))
    assert (tags["triple"], tags["compound"]) == (triple, compound)


@pytest.mark.parametrize("level_db", [-12.0, -3.0])
def test_a_room_is_as_loud_as_it_says(level_db: float) -> None:
    """Relative to the direct sound, which here is a single click."""
    click = np.zeros(48_000)
    click[1000] = 1.0
    recording = Recording(
        reverberation_seconds=1.5, reverberation_db=level_db, cutoff_hz=None, signal_to_noise_db=60.0, noise_tilt=0.0,
        peak_db=-1.0, seed=4,
    )  # fmt: skip
    heard = record(click, recording, 16_000).astype(float)
    assert np.abs(heard).argmax() == 1000
    assert 10 * np.log10(np.sum(heard[1001:] ** 2) / heard[1000] ** 2) == pytest.approx(level_db, abs=0.2)
