"""Turns an arrangement into sound: synthesise the notes, balance the players, then apply the recording.

Legend: N samples.
"""

from __future__ import annotations

from pathlib import Path

import midirenderer
import numpy as np
import scipy.fft

from musictag.common.errors import MusictagError, SongError
from musictag.data.audio.decode import resample
from musictag.data.songbook.arrangement.arrange import Arrangement, Player
from musictag.data.songbook.arrangement.excerpt import covered
from musictag.data.songbook.arrangement.instruments import BY_TAG, needed_presets
from musictag.data.songbook.rendering.effects import high_pass, record
from musictag.data.songbook.rendering.midi import DRUM_CHANNEL, channel_setup, midi_file
from musictag.data.songbook.rendering.presets import SLOWDOWN
from musictag.data.songbook.rendering.soundfont import read_soundfont

SAMPLE_RATE = 16000
_RENDER_RATE = 48000 // SLOWDOWN
_WAV_HEADER_BYTES = 44
_PROBE_VELOCITY = 100
_PROBE_SEMITONES = 8  # between probed pitches; others use the nearest one
_PROBE_SECONDS, _PROBE_REST_SECONDS = 1.2, 0.4
_PROBE_STEP_SECONDS = 0.02


class Synthesiser:
    """A checked SoundFont, and the loudness of its programs (measured when first needed).

    Raises MusictagError if the SoundFont cannot be used: see ``read_soundfont``, or the synthesiser refuses it.
    """

    def __init__(self, soundfont: Path) -> None:
        self._presets = read_soundfont(soundfont)
        try:
            midirenderer.render_wave_from(self._presets.cut(needed_presets()), midi_file([], [], 0.01))
        except RuntimeError as error:
            raise MusictagError(f"{soundfont} is a SoundFont that the synthesiser cannot use ({error})") from error
        self._energy_curves: dict[tuple[str, int], np.ndarray] = {}

    def song(self, arrangement: Arrangement) -> np.ndarray:
        """The clip as recorded: int16 mono samples (N) at 16 kHz, N = seconds × 16,000. Raises SongError if silent."""
        dry = self._mix(arrangement)
        if not dry.any():
            raise SongError("silent: this SoundFont has no sound for the notes")
        return record(dry, arrangement.recording, SAMPLE_RATE)

    def dry(self, arrangement: Arrangement, only: str | None = None) -> np.ndarray:
        """The clip without effects: float (N) at 16 kHz; ``only``: one player, at its level in the mix."""
        return _high_passed(self._mix(arrangement, only))

    def _mix(self, arrangement: Arrangement, only: str | None = None) -> np.ndarray:
        volumes = self._volumes(arrangement)
        setup, notes = [], []
        for index, (player, volume) in enumerate(zip(arrangement.players, volumes, strict=True)):
            channel = DRUM_CHANNEL if player.is_drums else index
            setup += channel_setup(channel, player.program, volume, player.detune_cents)
            if only in (None, player.tag):
                notes += [(channel, start, length, int(pitch), int(velocity))
                          for start, length, pitch, velocity in player.notes.tolist()]  # fmt: skip
        presets = {(128 * player.is_drums, player.program) for player in arrangement.players}
        return self._render(presets, setup, notes, arrangement.seconds)

    def _render(self, presets: set[tuple[int, int]], setup: list[bytes], notes: list, seconds: float) -> np.ndarray:
        num_samples = round(seconds * SAMPLE_RATE)
        wav = midirenderer.render_wave_from(self._presets.cut(presets), midi_file(setup, notes, seconds, SLOWDOWN))
        stereo = np.frombuffer(wav, dtype="<i2", offset=_WAV_HEADER_BYTES).reshape(-1, 2)
        mono = (stereo[:, 0].astype(np.float32) + stereo[:, 1]) / np.float32(65536)
        audio = np.zeros(num_samples, np.float32)
        rendered = resample(mono, _RENDER_RATE, SAMPLE_RATE)[:num_samples]
        audio[: len(rendered)] = rendered  # a sample may be missing at the end
        return audio

    def _volumes(self, arrangement: Arrangement) -> np.ndarray:
        """Channel volumes in (0, 1] that bring each player to its level; the player that needs most gets 1."""
        powers_db = np.array([self._power_db(player, arrangement.seconds) for player in arrangement.players])
        gains_db = np.array([player.level_db for player in arrangement.players]) - powers_db
        # amplitude is proportional to the square of a channel's volume
        return 10 ** ((gains_db - gains_db.max()) / 40)

    def _power_db(self, player: Player, seconds: float) -> float:
        """Mean power while the player plays, at full channel volume, from the energies of its notes."""
        curves = self._curves(player.tag, player.program)
        onset, duration, pitch, velocity = player.notes.T
        lowest = BY_TAG[player.tag].lowest
        rows = np.clip(np.rint((pitch - lowest) / _probe_spacing(player.tag)).astype(int), 0, len(curves) - 1)
        steps = np.minimum(duration, seconds - onset) / _PROBE_STEP_SECONDS
        last = curves.shape[1] - 1
        whole = np.clip(np.rint(steps).astype(int), 1, last)
        # notes longer than the probe continue as at its end
        tail_power = (curves[:, last] - curves[:, last - 20]) / 20
        energy = curves[rows, whole] + np.maximum(steps - last, 0.0) * tail_power[rows]
        total = float(np.sum(energy * (velocity / _PROBE_VELOCITY) ** 4))
        # drums are perceived from beat to beat
        playing = seconds if player.is_drums else covered(player.notes, seconds)
        return 10 * np.log10(max(total, 1e-12) / playing)

    def _curves(self, tag: str, program: int) -> np.ndarray:
        """Energy of a note over its duration: probed pitches × steps of 20 ms, in the clip's band."""
        if (tag, program) not in self._energy_curves:
            instrument = BY_TAG[tag]
            channel = DRUM_CHANNEL if tag == "drums" else 0
            pitches = range(instrument.lowest, instrument.highest + 1, _probe_spacing(tag))
            every = _PROBE_SECONDS + _PROBE_REST_SECONDS
            notes = [(channel, i * every, _PROBE_SECONDS, pitch, _PROBE_VELOCITY) for i, pitch in enumerate(pitches)]
            samples = round(every * SAMPLE_RATE)
            presets = {(128 * (tag == "drums"), program)}
            audio = self._render(presets, channel_setup(channel, program), notes, every * len(notes))
            audio = _high_passed(audio).reshape(len(notes), samples)
            step = round(_PROBE_STEP_SECONDS * SAMPLE_RATE)
            steps = round(_PROBE_SECONDS / _PROBE_STEP_SECONDS)
            energy = np.square(audio[:, : steps * step].reshape(len(notes), steps, step)).sum(axis=2) / SAMPLE_RATE
            self._energy_curves[tag, program] = np.pad(np.cumsum(energy, axis=1), ((0, 0), (1, 0)))
        return self._energy_curves[tag, program]


def _probe_spacing(tag: str) -> int:
    """Every drum is an instrument of its own; otherwise loudness changes slowly with pitch."""
    return 1 if tag == "drums" else _PROBE_SEMITONES


def _high_passed(audio: np.ndarray) -> np.ndarray:
    return scipy.fft.irfft(scipy.fft.rfft(audio) * high_pass(len(audio), SAMPLE_RATE), len(audio))
