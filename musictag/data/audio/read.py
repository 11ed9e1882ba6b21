"""Songs from a file or from memory, as mono int16 samples at one rate."""

from __future__ import annotations

import os
import warnings

import numpy as np

from musictag.common.errors import MusictagError, SongWarning
from musictag.data.audio.decode import Reading, from_array, read

#: A path, or samples with their rate in Hz.
AudioSource = str | os.PathLike | tuple[np.ndarray, int]


def read_source(source: AudioSource, sample_rate: int) -> np.ndarray:
    """Read ``source`` as mono int16 samples (N) at ``sample_rate``.

    Raises SongError for a file that cannot be read, MusictagError for unusable samples, and either for less than 0.1 s;
    issues SongWarning if part of a file could not be used.
    """
    samples, note = read_with_note(source, sample_rate)
    if note:
        warnings.warn(f"{source}: {note}", SongWarning, stacklevel=2)
    return samples


def read_with_note(source: AudioSource, sample_rate: int) -> Reading:
    """Like ``read_source``, but what could not be used of a file is the note of the result."""
    if isinstance(source, str | os.PathLike):
        return read(source, sample_rate)
    if isinstance(source, tuple) and len(source) == 2:
        return Reading(from_array(source[0], source[1], sample_rate), "")
    raise MusictagError(f"cannot tag a {type(source).__name__}: give a path, or a tuple (samples, rate in Hz)")
