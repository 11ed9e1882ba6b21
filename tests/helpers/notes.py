"""Something like music, quickly: random notes with overtones that decay, over a little noise."""

from __future__ import annotations

import numpy as np


def notes(seed: int, seconds: float = 4.0, rate: int = 16000) -> np.ndarray:
    """int16 samples at ``rate``."""
    rng = np.random.default_rng(seed)
    song = 10 ** rng.uniform(-4, -2) * rng.standard_normal(int(seconds * rate))
    decay, overtones = rng.uniform(0.5, 3), rng.integers(2, 9)
    for begin in np.cumsum(rng.uniform(0.1, 0.4, 40)):
        first = int(begin * rate)
        time = np.arange(max(0, min(len(song) - first, rate))) / rate
        pitch = 110 * 2 ** (rng.integers(0, 30) / 12)
        tones = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, overtones))
        song[first : first + len(time)] += 0.1 * np.exp(-decay * time) * tones
    return (song / np.abs(song).max() * 32767 * rng.uniform(0.1, 0.9)).astype(np.int16)
