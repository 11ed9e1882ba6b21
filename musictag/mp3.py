"""The one thing about MP3 that decoders do not tell: whether they know a file's length, or guessed it.

An MP3 is a chain of frames; a Xing or Info header in the first one says how many there are. Without it, decoders take
the first frame's bit rate for all, and leave out the end of a file whose bit rate varies.
"""

from __future__ import annotations

import mmap
from pathlib import Path

_KBIT_MPEG1 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBIT_MPEG2 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
#: by the header's version bits: MPEG 2.5, (reserved), MPEG 2, MPEG 1
_RATES = ((11025, 12000, 8000), (), (22050, 24000, 16000), (44100, 48000, 32000))


def has_length_header(path: Path) -> bool:
    """Whether the file declares its length."""
    with open(path, "rb") as file:
        head = file.read(10)
        file.seek(_tag_bytes(head))
        frame = file.read(256)
    return b"Xing" in frame or b"Info" in frame


def chained_samples(path: Path) -> int:
    """Samples in the unbroken chain of layer III frames that the file begins with: a lower bound of its length."""
    # mapped, not read: a file may be longer than the memory
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        position, samples = _tag_bytes(data[:10]), 0
        while position + 4 <= len(data):
            frame = _frame(data[position : position + 4])
            if frame is None:
                break
            frame_bytes, frame_samples = frame
            position += frame_bytes
            samples += frame_samples
    return samples


def _tag_bytes(head: bytes) -> int:
    """Length of an ID3v2 tag, whose size is written in four bytes of seven bits; 0 where there is none."""
    if head[:3] != b"ID3":
        return 0
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))


def _frame(header: bytes) -> tuple[int, int] | None:
    """Bytes and samples of the frame with this header, None if it is not one of layer III."""
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    bit_rate, rate, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if header[0] != 0xFF or header[1] < 0xE0 or version == 1 or layer != 1 or not 0 < bit_rate < 15 or rate == 3:
        return None
    samples, kbit = (1152, _KBIT_MPEG1) if version == 3 else (576, _KBIT_MPEG2)
    return samples // 8 * kbit[bit_rate - 1] * 1000 // _RATES[version][rate] + padding, samples
