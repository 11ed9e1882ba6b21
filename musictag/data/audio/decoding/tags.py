"""Tags at both ends of a file, which are neither audio nor rubbish: ID3, APE, Lyrics3."""

from __future__ import annotations

from typing import BinaryIO, NamedTuple


class Link(NamedTuple):
    """Bytes ``begin`` to ``end`` of a file, decoded as if they were a file of their own."""

    begin: int
    end: int


def without_tags(file: BinaryIO, whole: Link) -> Link:
    """The part of a file, or of a link, between its tags."""
    begin, end = whole
    while (size := leading_tag(file, begin)) and begin + size <= end:
        begin += size
    while size := _trailing_tag(file, begin, end):
        end -= size
    return Link(begin, end)


def leading_tag(file: BinaryIO, begin: int) -> int:
    """Length of the tag that begins here; 0 if there is none."""
    file.seek(begin)
    head = file.read(32)
    if head[:3] == b"ID3" and len(head) >= 10 and 2 <= head[3] <= 4 and max(head[6:10]) < 0x80:
        return 10 + _seven_bits(head[6:10]) + (10 if head[5] & 0x10 else 0)
    if head[:8] == b"APETAGEX" and len(head) == 32:
        return 32 + int.from_bytes(head[12:16], "little")
    return 0


def _trailing_tag(file: BinaryIO, begin: int, end: int) -> int:
    file.seek(max(begin, end - 355))
    tail = file.read(end - file.tell())
    size = 0
    if tail[-32:-24] == b"APETAGEX":  # first: it may be so long that "TAG" in its beginning is where ID3v1 begins
        has_header = tail[-9] & 0x80
        size = int.from_bytes(tail[-20:-16], "little") + (32 if has_header else 0)
    elif tail[-128:-125] == b"TAG":
        size = 355 if tail[:4] == b"TAG+" and len(tail) == 355 else 128
    elif tail[-9:] == b"LYRICS200" and tail[-15:-9].isdigit():
        size = int(tail[-15:-9]) + 15
    elif tail[-10:-7] == b"3DI":
        size = 20 + _seven_bits(tail[-4:])
    return size if size <= end - begin else 0


def _seven_bits(size: bytes) -> int:
    """An integer of four 7-bit bytes, which cannot look like the beginning of a frame."""
    return sum((byte & 0x7F) << shift for byte, shift in zip(size, (21, 14, 7, 0), strict=True))
