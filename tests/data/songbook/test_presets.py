"""The presets cut for the slower clock sound like the whole SoundFont at its own."""

from __future__ import annotations

from itertools import pairwise

import midirenderer
import numpy as np
import pytest
import scipy.signal

from musictag.data.audio.decode import resample
from musictag.data.songbook.arrangement.instruments import BASS, DRUMS, INSTRUMENTS
from musictag.data.songbook.rendering.midi import DRUM_CHANNEL, channel_setup, midi_file
from musictag.data.songbook.rendering.presets import SLOWDOWN
from musictag.data.songbook.rendering.soundfont import find_soundfont, read_soundfont
from tests.helpers.marks import first_fast

EDGES_HZ = (60, 500, 1000, 2000, 4000, 7000)


def rendered(soundfont: bytes, program: int, pitches: range, channel: int, speed: int) -> np.ndarray:
    """Notes of 0.6 s with 0.4 s for their release, mono at 16 kHz: notes × 16,000."""
    notes = [(channel, float(i), 0.6, pitch, 60 + 20 * (i % 3)) for i, pitch in enumerate(pitches)]
    midi = midi_file(channel_setup(channel, program, detune_cents=20.0), notes, len(notes), speed)
    wav = np.frombuffer(midirenderer.render_wave_from(soundfont, midi)[44:], "<i2").reshape(-1, 2)
    audio = resample(wav.mean(axis=1, dtype=np.float32), 48_000 // speed, 16_000)
    return np.pad(audio, (0, 16_000))[: 16_000 * len(notes)].reshape(len(notes), 16_000)


def levels(audio: np.ndarray) -> np.ndarray:
    """Decibels of notes × (while held, after release) × bands, never more than 30 dB below the loudest of a note."""
    powers = []
    for part in (audio[:, :9_600], audio[:, 9_600:]):
        hz, density = scipy.signal.welch(part, 16_000, nperseg=1024)
        powers.append([density[:, (hz >= a) & (hz < b)].sum(axis=1) for a, b in pairwise(EDGES_HZ)])
    power = np.array(powers).transpose(2, 0, 1)
    return 10 * np.log10(np.maximum(power, 1e-3 * power.max(axis=(1, 2), keepdims=True)))


def strongest_hz(audio: np.ndarray) -> np.ndarray:
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(audio.shape[1]), 8 * audio.shape[1]))
    lowest = 8 * 30  # some samples have an offset
    return (lowest + spectrum[:, lowest:].argmax(axis=1)) / 8


@pytest.mark.parametrize(
    "instrument", first_fast([DRUMS, BASS, *INSTRUMENTS], 8), ids=lambda instrument: instrument.tag
)
def test_cut_presets_sound_as_in_the_whole_soundfont(instrument):
    content, presets = find_soundfont().read_bytes(), read_soundfont(find_soundfont())
    channel, bank = (DRUM_CHANNEL, 128) if instrument is DRUMS else (0, 0)
    pitches = range(instrument.lowest, instrument.highest + 1, 6)
    for program in instrument.programs:
        whole = rendered(content, program, pitches, channel, 1)
        cut = rendered(presets.cut({(bank, program)}), program, pitches, channel, SLOWDOWN)
        difference = levels(cut) - levels(whole)
        assert np.abs(difference.mean(axis=0)[0]).max() < 1.5
        assert np.abs(difference.mean(axis=0)[1]).max() < 2.5
        assert np.abs(difference[:, 0]).max() < 6
        if instrument is not DRUMS:
            cents = 1200 * np.log2(strongest_hz(cut[:, :9_600]) / strongest_hz(whole[:, :9_600]))
            assert np.abs(np.median(cents)) < 12


def test_only_what_a_song_needs_is_cut():
    presets = read_soundfont(find_soundfont())
    some, more = presets.cut({(0, 40)}), presets.cut({(0, 40), (128, 0), (0, 0)})
    assert len(some) < len(more) < 0.5 * find_soundfont().stat().st_size
    assert presets.missing({(0, 40), (0, 500), (7, 3)}) == [(0, 500), (7, 3)]
