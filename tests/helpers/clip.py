"""A synthetic clip that resembles music, for comparisons with numbers from other software.

Those were computed once, elsewhere, and are in tests/reference/clip.json: any change to the samples requires new ones.
"""

from __future__ import annotations

import numpy as np

RATE = 16000
#: Long notes, a beat with a bass, plucked notes, a voice, and everything together; each fills one patch of musicnn.
PART_SECONDS = 187 * 256 / RATE
SECONDS = 4 * PART_SECONDS + 1.7
SCALE = (0, 2, 3, 5, 7, 8, 10, 12, 15, 17)


def clip() -> np.ndarray:
    """int16 N at 16 kHz. Both ends are silent, because spectrograms differ in how they pad there."""
    parts = [_long_notes(), _beat(), _plucked(), _voice()]
    length = len(parts[0])
    parts.append(sum(parts)[: round(SECONDS * RATE) - 4 * length] / 2)
    audio = np.concatenate(parts)
    # at half of full scale the power of a band would overflow float16, in which musicnn computes
    audio *= 0.2 / np.abs(audio).max()
    audio[:1024] = audio[-1024:] = 0
    return np.round(32767 * audio).astype(np.int16)


def _time(seconds: float = PART_SECONDS) -> np.ndarray:
    return np.arange(round(seconds * RATE)) / RATE


def _pitch(step: int, octave: int = 0) -> float:
    """Frequency in Hz of a step of the scale above 220 Hz."""
    return 220.0 * 2.0 ** (octave + SCALE[step] / 12)


def _harmonics(time: np.ndarray, hertz: float, strengths: list[float]) -> np.ndarray:
    return sum(a * np.sin(2 * np.pi * n * hertz * time) for n, a in enumerate(strengths, 1) if n * hertz < 7500)


def _long_notes() -> np.ndarray:
    time = _time()
    chord = sum(_harmonics(time, _pitch(step) * (1 + detune), [1, 0.5, 0.3, 0.2])
                for step in (0, 2, 4) for detune in (-0.003, 0.003))  # fmt: skip
    return 0.2 * chord * np.minimum(time / 0.8, 1)


def _beat() -> np.ndarray:
    noise = np.random.RandomState(1)  # the only generator whose stream is guaranteed never to change
    audio = np.zeros(len(_time()))
    for eighth in range(12):
        time = _time(0.245)
        sounds = 0.15 * noise.uniform(-1, 1, len(time)) * np.exp(-60 * time)  # hi-hat
        if eighth % 2 == 0:
            sounds += np.sin(2 * np.pi * (50 * time - 4 * np.exp(-30 * time))) * np.exp(-9 * time)
        if eighth % 4 == 2:
            sounds += 0.5 * noise.uniform(-1, 1, len(time)) * np.exp(-20 * time)
        sounds += 0.3 * _harmonics(time, _pitch((0, 0, 3, 4)[eighth // 3], -2), [1 / n for n in range(1, 20)])
        start = round(eighth * 0.249 * RATE)
        audio[start : start + len(time)] += sounds
    return audio


def _plucked() -> np.ndarray:
    audio = np.zeros(len(_time()))
    for number, step in enumerate((0, 2, 4, 7, 6, 4, 2, 0, 3, 5, 8, 9, 8, 5, 3, 1)):
        start = round(number * 0.187 * RATE)
        time = _time()[: len(audio) - start]
        for n in range(1, 12):
            strength = 0.7 * np.exp(-(1.5 + 0.8 * n) * time) / n
            audio[start:] += strength * np.sin(2 * np.pi * n * _pitch(step, 0) * time) * (n * _pitch(step) < 7500)
    return audio


def _voice() -> np.ndarray:
    time = _time()
    vibrato = 0.9 * np.sin(2 * np.pi * 5.5 * time) / 5.5
    audio = np.zeros(len(time))
    for n in range(1, 22):
        hertz = 330.0 * n
        formants = sum(
            np.exp(-(((hertz - centre) / width) ** 2)) for centre, width in ((800, 150), (1150, 150), (2900, 300))
        )
        audio += (0.05 + formants) / n**0.5 * np.sin(2 * np.pi * n * (330.0 * time + 6 * vibrato))
    return 0.6 * audio * np.minimum(time / 0.1, 1)
