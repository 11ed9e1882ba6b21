"""Plain samples (WAV, AIFF and the like), read with libsndfile if the file is intact."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import soundfile

from musictag.common.errors import SongError
from musictag.data.audio.decoding.chunks import UNDECLARED_BYTES
from musictag.data.audio.decoding.gathering import Block
from musictag.data.audio.decoding.lost_audio import MAX_HOURS, TOLERATED_SECONDS, Undecodable
from musictag.data.audio.decoding.window import Window

#: Samples of all channels read at a time (4 MiB).
_BLOCK_VALUES = 2**20
#: Sample formats that are read here; FFmpeg reads the rest.
_SUBTYPES = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW")
# libsndfile shortens a cut file to what is there, and only its log says so: "data : 320000 (should be 159978)"
_CUT_SHORT = re.compile(r"^\s*(?:data|SSND|Data Size|Riff size|riff)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)


def plain_blocks(file: BinaryIO | Window) -> Iterator[Block]:
    """Yield the samples of a whole file, or of a window on a part of it, which is slower.

    Raises Undecodable for what libsndfile does not read as plain samples, and SongError if the file ends before its
    declared length.
    """
    if isinstance(file, Window):
        with _opened(file) as sound:
            for block in _all_blocks(sound):
                file.found_audio()
                yield block
        return
    descriptor = os.dup(file.fileno())  # not the name, from which libsndfile would guess
    place = os.lseek(descriptor, 0, os.SEEK_CUR)  # of both: ``file`` relies on it for what it has buffered
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        with _opened(descriptor) as sound:
            yield from _all_blocks(sound)
    finally:
        os.lseek(descriptor, place, os.SEEK_SET)
        os.close(descriptor)


def _opened(source: int | Window) -> soundfile.SoundFile:
    try:
        sound = soundfile.SoundFile(source, closefd=False)
    except (soundfile.SoundFileError, TypeError) as error:
        raise Undecodable(_reason(error)) from error
    if not sound.subtype.startswith(_SUBTYPES):
        sound.close()
        raise Undecodable(f"it contains {sound.subtype_info}")
    return sound


def _all_blocks(sound: soundfile.SoundFile) -> Iterator[Block]:
    frames = 0
    try:
        for block in _blocks(sound):
            yield block, sound.samplerate
            frames += len(block)
    except soundfile.SoundFileError as error:
        raise SongError(f"damaged: {_reason(error)}") from error
    missing = (_declared_frames(sound) - frames) / max(1, sound.samplerate)
    if TOLERATED_SECONDS < missing <= MAX_HOURS * 3600:
        raise SongError(f"cut short: {missing:.1f} s are missing")


def _blocks(sound: soundfile.SoundFile) -> Iterator[np.ndarray]:
    """Yield all of a file as float32 (N, channels); each block is overwritten by the next."""
    frames = max(1, min(sound.frames, _BLOCK_VALUES // sound.channels))
    buffer = np.empty((frames, sound.channels), dtype=np.float32)
    while len(block := sound.read(out=buffer)):
        yield block


def _declared_frames(sound: soundfile.SoundFile) -> int:
    """Length that the container declares; 0 if it declares none."""
    cut = _CUT_SHORT.search(sound.extra_info)
    if cut is None:
        return sound.frames
    declared_bytes, present_bytes = int(cut[1]), int(cut[2])
    if declared_bytes >= UNDECLARED_BYTES or not present_bytes:
        return 0
    return round(sound.frames * declared_bytes / present_bytes)


def _reason(error: Exception) -> str:
    text = getattr(error, "error_string", "") or str(error)
    return text.strip(" .") or "no reason given"
