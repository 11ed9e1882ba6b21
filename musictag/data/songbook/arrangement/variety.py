"""What makes songs harder to tag while their tags stay true: drifting tempo, two pieces at once, recording chains.

Everything is drawn from a generator of its own, so that without variety a song is exactly what it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from musictag.common.errors import MusictagError
from musictag.data.songbook.arrangement.arrange import Arrangement, Player, measures
from musictag.data.songbook.arrangement.tags import INSTRUMENT_TAGS
from musictag.data.songbook.rendering.chain import CODECS, EQUALISER_BANDS

#: The least and the greatest of each strength.
RANGES = {
    "quietest_db": (-18.0, -3.0),
    "tuning_cents": (0.0, 45.0),
    "tempo_drift": (0.0, 0.3),
    "overlap_share": (0.0, 1.0),
    "equaliser_db": (0.0, 12.0),
    "compression_db": (0.0, 20.0),
    "codec_share": (0.0, 1.0),
}


@dataclass(frozen=True)
class Variety:
    """Strengths of the variations; the defaults are those of plain songbook.

    ``quietest_db``: level of the quietest player, relative to the loudest; leading players, bass and drums stay within
    two thirds of it. ``tuning_cents``: largest deviation from A = 440 Hz. ``tempo_drift``: largest relative change of
    the tempo within a song. ``overlap_share``: of the songs that are mixed with a second piece. ``equaliser_db``:
    largest boost or cut of a band. ``compression_db``: largest reduction of the level of loud passages.
    ``codec_share``: of the songs that were stored as MP3 or Opus at a low bit rate.

    Raises MusictagError for a strength out of range.
    """

    quietest_db: float = -6.0
    tuning_cents: float = 25.0
    tempo_drift: float = 0.0
    overlap_share: float = 0.0
    equaliser_db: float = 0.0
    compression_db: float = 0.0
    codec_share: float = 0.0

    def __post_init__(self) -> None:
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
                raise MusictagError(f"variety.{name}={value}: give a number from {least:g} to {most:g}")

    @classmethod
    def of(cls, strengths: Mapping[str, float] | None) -> Variety:
        """Raises MusictagError for a name that there is not."""
        strengths = dict(strengths or {})
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(strengths) - set(known)):
            raise MusictagError(f"variety has no {', '.join(unknown)}; it has {', '.join(known)}")
        return cls(**strengths)


def varied(song: Arrangement, second: Arrangement | None, variety: Variety, rng: np.random.Generator) -> Arrangement:
    """``song`` with drifting tempo, together with ``second`` if there is one, through a recording chain.

    Tags that follow from the notes are measured anew; those of the repertoire stay known where both pieces agree.
    """
    if variety.tempo_drift:
        song, second = (a and _drifting(a, variety.tempo_drift, rng) for a in (song, second))
    if second is not None:
        song = _together(song, second, variety.quietest_db, rng)
    recording = replace(
        song.recording,
        equaliser_db=tuple(rng.uniform(-variety.equaliser_db, variety.equaliser_db, len(EQUALISER_BANDS)).tolist()),
        compression_db=float(rng.uniform(0.0, variety.compression_db)),
        codec=int(rng.integers(len(CODECS))) if rng.random() < variety.codec_share else None,
    )
    return replace(song, recording=recording, tags=song.tags | measures(song.players, song.seconds))


def _drifting(song: Arrangement, drift: float, rng: np.random.Generator) -> Arrangement:
    """The tempo swings around its mean by up to ``drift``, once or twice in the song."""
    strength, phase = rng.uniform(0.0, drift), rng.uniform(0.0, 2 * np.pi)
    pulse = 2 * np.pi * rng.integers(1, 3) / song.seconds

    def moved(times: np.ndarray) -> np.ndarray:
        return times + strength / pulse * (np.sin(pulse * times + phase) - np.sin(phase))

    players = []
    for player in song.players:
        onset, duration, pitch, velocity = player.notes.T
        start = np.clip(moved(onset), 0.0, song.seconds - 0.01)
        length = np.maximum(moved(onset + duration) - moved(onset), 0.04)
        players.append(replace(player, notes=np.column_stack([start, length, pitch, velocity])))
    return replace(song, players=tuple(players))


def _together(song: Arrangement, second: Arrangement, quietest_db: float, rng: np.random.Generator) -> Arrangement:
    """Both at once: the second one softer, but no player below ``quietest_db``; only one plays drums."""
    drummed = any(player.is_drums for player in song.players)
    others = [player for player in second.players if not (drummed and player.is_drums)]
    loudest = max(player.level_db for player in others)
    quietest = min(player.level_db for player in others)
    level = rng.uniform(min(quietest_db - quietest, 0.0), -loudest)
    added = [replace(player, level_db=max(player.level_db + level, quietest_db)) for player in others]
    players: tuple[Player, ...] = (*song.players, *added)
    playing = {player.tag for player in players}
    tags = {name: value if value == second.tags[name] else None for name, value in song.tags.items()}
    tags |= {tag: float(tag in playing) for tag in INSTRUMENT_TAGS} | {"solo": 0.0}
    return replace(song, players=players, tags=tags | recording_tags(song))


def recording_tags(song: Arrangement) -> dict[str, float | None]:
    """The values that the recording decides: it is that of the first piece."""
    return {name: song.tags[name] for name in (*song.recording.tags(), "signal-to-noise ratio")}
