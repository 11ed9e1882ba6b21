"""Header fields that FFmpeg does not pass on: the declared length of an MP3, the largest frame of a FLAC."""

from __future__ import annotations

#: Largest distance of the header from the beginning of the frame.
_SEARCHED_BYTES = 200


def read_length(beginning: bytes) -> tuple[int | None, int | None] | None:
    """Frames and bytes that the MP3 with this ``beginning`` declares, each None if unknown, which a declared 0 means,
    too; None if its first frame declares no length."""
    frame = beginning[:_SEARCHED_BYTES]
    for name in (b"Xing", b"Info"):
        if (place := frame.find(name)) >= 0:
            flags = int.from_bytes(beginning[place + 4 : place + 8], "big")
            frames = _number(beginning, place + 8) if flags & 1 else None
            return frames, _number(beginning, place + 8 + 4 * (flags & 1)) if flags & 2 else None
    if (place := frame.find(b"VBRI")) >= 0:
        return _number(beginning, place + 14), _number(beginning, place + 10)
    return None


def samples_per_frame(rate: int) -> int:
    """Samples per frame of layer III: rates from 32 kHz up are MPEG 1, whose frames are twice as long."""
    return 1152 if rate >= 32_000 else 576


def largest_flac_frame(beginning: bytes) -> int:
    """The most bytes that a frame of the FLAC with this ``beginning`` can have: as declared, or as raw samples."""
    samples = int.from_bytes(beginning[10:12], "big")
    declared = int.from_bytes(beginning[15:18], "big")
    channels, bits = (beginning[20] >> 1 & 7) + 1, (int.from_bytes(beginning[20:22], "big") >> 4 & 31) + 1
    return declared or samples * channels * (bits + 1) // 8 + 64


def _number(data: bytes, place: int) -> int | None:
    return int.from_bytes(data[place : place + 4], "big") or None
