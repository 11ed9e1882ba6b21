"""Songs from a file or from memory, as mono int16 samples at one rate."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from typing import BinaryIO

import numpy as np

from musictag.common.errors import MusictagError
from musictag.data.audio.decode import from_array, read_blocks

#: A path, samples with their rate in Hz, or a file that is open for reading bytes.
AudioSource = str | os.PathLike | tuple[np.ndarray, int] | BinaryIO


def source_blocks(
    source: AudioSource, sample_rate: int, take: Callable[[np.ndarray], object], restart: Callable[[], object]
) -> str:
    """Read ``source`` as mono int16 samples at ``sample_rate``, block by block (see ``read_blocks``); returns what
    could not be used of a file.

    Raises SongError for a file that cannot be read, MusictagError for unusable samples, and either for less than 0.1 s.
    """
    if isinstance(source, str | os.PathLike):
        return read_blocks(source, sample_rate, take, restart)
    if isinstance(source, tuple) and len(source) == 2:
        take(from_array(source[0], source[1], sample_rate))
        return ""
    if hasattr(source, "read"):
        # decoders need a file on disk, to go back and forth in, and to try one after the other
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "song")
            with open(path, "wb") as copy:
                try:
                    shutil.copyfileobj(source, copy)
                except TypeError as error:
                    raise MusictagError("a file to be tagged must be open for bytes: open(path, 'rb')") from error
            return read_blocks(path, sample_rate, take, restart)
    raise MusictagError(
        f"cannot tag a {type(source).__name__}: give a path, a tuple (samples, rate in Hz), or a file that is open for "
        "reading bytes"
    )
