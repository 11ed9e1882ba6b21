"""What headers tell and FFmpeg does not hand on: how long an MP3 claims to be, how large a FLAC's frames may be."""

from __future__ import annotations

from typing import NamedTuple

#: How far from the beginning of the frame a header may stand.
_SEARCHED_BYTES = 200


class Length(NamedTuple):
    """``frames`` and ``bytes`` that an MP3 declares, None where it does not; a declared 0 declares nothing."""

    frames: int | None
    bytes: int | None


def read_length(beginning: bytes) -> Length | None:
    """The declared length of the MP3 that begins so; None where its first frame is none that declares one."""
    frame = beginning[:_SEARCHED_BYTES]
    for name in (b"Xing", b"Info"):
        if (place := frame.find(name)) >= 0:
            flags = int.from_bytes(beginning[place + 4 : place + 8], "big")
            frames = _number(beginning, place + 8) if flags & 1 else None
            return Length(frames, _number(beginning, place + 8 + 4 * (flags & 1)) if flags & 2 else None)
    if (place := frame.find(b"VBRI")) >= 0:
        return Length(_number(beginning, place + 14), _number(beginning, place + 10))
    return None


def samples_per_frame(rate: int) -> int:
    """Of layer III: rates from 32 kHz are those of MPEG 1, whose frames are twice as long."""
    return 1152 if rate >= 32_000 else 576


def largest_flac_frame(beginning: bytes) -> int:
    """The most bytes that a frame of the FLAC that begins so can have: as it declares, or as plain samples take."""
    samples = int.from_bytes(beginning[10:12], "big")
    declared = int.from_bytes(beginning[15:18], "big")
    channels, bits = (beginning[20] >> 1 & 7) + 1, (int.from_bytes(beginning[20:22], "big") >> 4 & 31) + 1
    return declared or samples * channels * (bits + 1) // 8 + 64


def _number(data: bytes, place: int) -> int | None:
    return int.from_bytes(data[place : place + 4], "big") or None
