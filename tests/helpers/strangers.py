"""Sounds that no tagger of music should be sure about, synthesised: silence, noise, tones, and something like speech.

`python -m tests.helpers.strangers MODEL` says which of them get confident tags.
"""

from __future__ import annotations

import sys

import numpy as np
from scipy.signal import lfilter

RATE, SECONDS = 16000, 10
_SAMPLES = RATE * SECONDS
_TIME = np.arange(_SAMPLES) / RATE
#: First three formants of vowels in Hz (Peterson & Barney 1952), and their bandwidths.
_VOWELS = (
    (730, 1090, 2440),
    (270, 2290, 3010),
    (300, 870, 2240),
    (530, 1840, 2480),
    (570, 840, 2410),
    (440, 1020, 2240),
)
_BANDWIDTHS = (60, 90, 150)


def strangers(copies: int = 10) -> dict[str, list[np.ndarray]]:
    """int16 samples at 16 kHz by kind: ``copies`` of each, all different."""
    random = [np.random.default_rng(seed) for seed in range(copies)]
    return {
        "silence": [rng.integers(-level, level + 1, _SAMPLES).astype(np.int16) for level, rng in enumerate(random)],
        **{
            name: [_int16(_noise(rng, tilt)) for rng in random]
            for name, tilt in (("white noise", 0), ("pink noise", 1), ("brown noise", 2))
        },
        "sine": [_int16(0.3 * np.sin(2 * np.pi * rng.uniform(60, 4000) * _TIME)) for rng in random],
        "hum": [_int16(_hum(rng.uniform(45, 65))) for rng in random],
        "sweep": [_int16(0.3 * np.sin(2 * np.pi * (50 + rng.uniform(50, 300) * _TIME) * _TIME)) for rng in random],
        "clicks": [_int16(0.9 * (np.arange(_SAMPLES) % int(rng.uniform(2000, 16000)) == 0)) for rng in random],
        "speech": [_int16(_speech(rng)) for rng in random],
    }


def _int16(samples: np.ndarray) -> np.ndarray:
    return (samples.clip(-1, 1) * 32767).astype(np.int16)


def _noise(rng: np.random.Generator, tilt: float) -> np.ndarray:
    spectrum = np.fft.rfft(rng.standard_normal(_SAMPLES))
    noise = np.fft.irfft(spectrum * np.maximum(np.arange(len(spectrum)), 1) ** (-tilt / 2), _SAMPLES)
    return noise * (rng.uniform(0.01, 0.3) / noise.std())


def _hum(frequency: float) -> np.ndarray:
    return sum(0.1 / k * np.sin(2 * np.pi * frequency * k * _TIME) for k in range(1, 12))


def _speech(rng: np.random.Generator) -> np.ndarray:
    """Syllables: pulses of a voice whose pitch moves, through the formants of a vowel; hissing consonants; pauses."""
    voice, parts = rng.uniform(90, 230), []
    while sum(map(len, parts)) < _SAMPLES:
        length = int(rng.uniform(0.12, 0.28) * RATE)
        pitch = voice * rng.normal(1, 0.15) * (1 + 0.15 * np.sin(2 * np.pi * rng.uniform(1, 4) * _TIME[:length]))
        pulses = np.diff(np.floor(np.cumsum(pitch) / RATE), prepend=0) + 0.02 * rng.standard_normal(length)
        sound = lfilter([1], [1, -0.95], pulses)
        for formant, bandwidth in zip(_VOWELS[rng.integers(len(_VOWELS))], _BANDWIDTHS, strict=True):
            decay = np.exp(-np.pi * bandwidth / RATE)
            sound = lfilter([1 - decay], [1, -2 * decay * np.cos(2 * np.pi * formant / RATE), decay**2], sound)
        parts.append(0.4 * sound / np.abs(sound).max() * np.sqrt(np.hanning(length)))
        if rng.random() < 0.5:
            hiss = int(rng.uniform(0.05, 0.12) * RATE)
            parts.append(0.06 * np.diff(rng.standard_normal(hiss + 1)) * np.hanning(hiss))
        if rng.random() < 0.25:
            parts.append(0.001 * rng.standard_normal(int(rng.uniform(0.1, 0.5) * RATE)))
    return np.concatenate(parts)[:_SAMPLES]


if __name__ == "__main__":
    from soxr import resample

    import musictag
    from musictag.evaluation.calibration import given

    tagger = musictag.load(sys.argv[1])
    print("kind, sounds, above a threshold, strangeness (least to most), with confident tags")
    for kind, sounds in strangers().items():
        # not tagger.read, which refuses digital silence
        sounds = [resample(sound, RATE, tagger.sample_rate).astype(np.int16) for sound in sounds]
        scores, strangeness = ([work(sound) for sound in sounds] for work in (tagger.predict_song, tagger.strangeness))
        found = [tagger.confident(*both).tags for both in zip(scores, strangeness, strict=True)]
        reached = sum(given(tagger.calibration["tags"], values).any() for values in scores)
        print(
            f"{kind}, {len(sounds)}, {reached}, {min(strangeness):.2f}-{max(strangeness):.2f}, {sum(map(bool, found))}"
        )
