"""Turns a score into a clip: which instruments play what, when, how loud, and in which room."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from musictag.data.songbook.arrangement.accompaniment import Bars, bars_of
from musictag.data.songbook.arrangement.casting import Part, cast
from musictag.data.songbook.arrangement.excerpt import choose_tempo, excerpt
from musictag.data.songbook.arrangement.instruments import BASS, DRUMS
from musictag.data.songbook.arrangement.tags import (
    CLASSIFICATION_TAGS,
    INSTRUMENT_TAGS,
    REGRESSION_TAGS,
    scaled,
    score_tags,
)
from musictag.data.songbook.notation.score import Score
from musictag.data.songbook.rendering.effects import Recording, draw_recording

LOWEST_LEVEL_DB = -6.0  # relative to the loudest player; leading players, bass and drums stay closer
_LEAD_SHARE = 2 / 3  # of the lowest level in decibels
_TUNING_CENTS = 25.0
_DOWNBEAT, _BEAT, _OFF_BEAT = 28.0, 6.0, -8.0  # added to the MIDI velocity
_TIMING_SECONDS, _LATEST_SECONDS = 0.007, 0.02
_GRID_SECONDS = 0.02  # resolution for counting simultaneous notes
_SAME_ONSET_SECONDS = 0.03


@dataclass(frozen=True)
class Player:
    """One instrument of a clip. ``notes`` has shape (notes, 4): onset and duration in seconds, MIDI pitch, velocity."""

    tag: str
    program: int
    notes: np.ndarray = field(repr=False)
    level_db: float  # loudness while playing, relative to the loudest player
    detune_cents: float

    @property
    def is_drums(self) -> bool:
        return self.tag == DRUMS.tag


@dataclass(frozen=True)
class Arrangement:
    """The players of a clip of ``seconds``, and its ``tags``: name -> value, None if unknown."""

    seconds: float
    players: tuple[Player, ...]
    recording: Recording
    tags: dict[str, float | None]


def arrange(
    score: Score,
    seconds: float,
    rng: np.random.Generator,
    quietest_db: float = LOWEST_LEVEL_DB,
    tuning_cents: float = _TUNING_CENTS,
) -> Arrangement:
    """Arrange a random excerpt of ``score`` of ``seconds``: a pure function of its arguments and ``rng``'s state."""
    quarters_a_minute = choose_tempo(score, rng)
    quarters = seconds * quarters_a_minute / 60
    bars = bars_of(score.meter, quarters)
    accents = score.meter is not None
    parts = cast(excerpt(score, quarters, rng), bars, accents, rng)
    tuning = rng.uniform(-tuning_cents, tuning_cents)
    levels = _levels(parts, quietest_db, rng)
    players = tuple(
        Player(
            tag=part.instrument.tag,
            program=part.instrument.programs[rng.integers(len(part.instrument.programs))],
            notes=_played(part, bars, 60 / quarters_a_minute, accents, seconds, rng),
            level_db=level,
            detune_cents=0.0 if part.instrument is DRUMS else tuning + rng.uniform(-5.0, 5.0),
        )
        for part, level in zip(parts, levels, strict=True)
    )
    recording = draw_recording(rng)
    tags = score_tags(score) | _played_tags(players) | measures(players, seconds)
    tags |= recording.tags() | {"signal-to-noise ratio": scaled(recording.signal_to_noise_db, 0, 60)}
    return Arrangement(
        seconds, players, recording, {name: tags[name] for name in (*CLASSIFICATION_TAGS, *REGRESSION_TAGS)}
    )


def _levels(parts: list[Part], quietest_db: float, rng: np.random.Generator) -> np.ndarray:
    """Decibels relative to the loudest player, who has 0."""
    lowest = [quietest_db * (_LEAD_SHARE if part.leads or part.instrument in (BASS, DRUMS) else 1.0) for part in parts]
    levels = rng.uniform(lowest, 0.0)
    return levels - levels.max()


def _played(
    part: Part, bars: Bars, quarter_seconds: float, accents: bool, seconds: float, rng: np.random.Generator
) -> np.ndarray:
    """The written notes as a player performs them: (onset, duration in seconds, pitch, velocity)."""
    onset, duration, pitch = part.notes.T
    count = len(onset)
    velocity = 82.0 + rng.normal(0.0, 4.0, count)
    if accents:
        in_bar = (onset + 1e-3) % bars.bar_quarters
        in_beat = (onset + 1e-3) % bars.beat_quarters
        velocity += np.where(in_bar < 0.02, _DOWNBEAT, np.where(in_beat < 0.02, _BEAT, _OFF_BEAT))
    late = np.clip(rng.normal(0.0, _TIMING_SECONDS, count), -_LATEST_SECONDS, _LATEST_SECONDS)
    start = np.clip(onset * quarter_seconds + late, 0.0, seconds - 0.01)
    articulation = rng.uniform(0.82, 0.98)
    notes = np.column_stack(
        [start, np.maximum(duration * quarter_seconds * articulation, 0.04), pitch, np.rint(velocity)]
    )
    notes[:, 3] = np.clip(notes[:, 3], 40, 127)
    return notes[np.lexsort((notes[:, 2], notes[:, 0]))]


def _played_tags(players: tuple[Player, ...]) -> dict[str, float | None]:
    playing = {player.tag for player in players}
    return {tag: float(tag in playing) for tag in INSTRUMENT_TAGS} | {"solo": float(len(players) == 1)}


def measures(players: tuple[Player, ...], seconds: float) -> dict[str, float | None]:
    """Tags computed from the notes, without drums: polyphony and the regression targets."""
    notes = np.concatenate([player.notes for player in players if not player.is_drums])
    starts = np.sort(notes[:, 0])
    onsets = 1 + int(np.count_nonzero(np.diff(starts) > _SAME_ONSET_SECONDS))
    sounding_seconds = np.minimum(notes[:, 1], seconds - notes[:, 0])
    order = np.argsort(notes[:, 2], kind="stable")
    below = np.cumsum(sounding_seconds[order])
    median_pitch = float(notes[order, 2][np.searchsorted(below, below[-1] / 2)])
    at_once, classes_at_once = _sounding_together(notes, seconds)
    sounding = at_once[at_once > 0]
    together = float(np.mean(classes_at_once[at_once > 0] > 1))
    return {
        "polyphonic": 1.0 if together >= 0.5 else 0.0 if together <= 0.1 else None,
        "note rate": scaled(onsets / seconds, 0, 12),
        "median pitch": scaled(median_pitch, 36, 96),
        "simultaneous parts": scaled(float(sounding.mean()), 0, 6),
    }


def _sounding_together(notes: np.ndarray, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """The number of notes, and of different pitch classes, that sound in each step of ``_GRID_SECONDS``."""
    steps = int(np.ceil(seconds / _GRID_SECONDS))
    changes = np.zeros((12, steps + 1), dtype=np.int32)
    first = (notes[:, 0] / _GRID_SECONDS).astype(int)
    last = np.minimum(np.maximum(((notes[:, 0] + notes[:, 1]) / _GRID_SECONDS).astype(int), first + 1), steps)
    pitch_class = notes[:, 2].astype(int) % 12
    np.add.at(changes, (pitch_class, first), 1)
    np.add.at(changes, (pitch_class, last), -1)
    sounding = np.cumsum(changes[:, :steps], axis=1)
    return sounding.sum(axis=0), np.count_nonzero(sounding, axis=0)
