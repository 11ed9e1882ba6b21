"""The minimum work per audio file: decode it, average its channels, resample it. Nothing is written.

It is the straightforward implementation, and imports only what it needs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import soxr


def decode(path: Path) -> int:
    """Number of samples at 16 kHz; the samples are discarded."""
    audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = audio.mean(axis=1)
    if rate != 16000:
        mono = soxr.resample(mono, rate, 16000)
    return len(np.clip(np.rint(mono * 32768), -32768, 32767).astype(np.int16))
