"""The chunks of a WAV or AIFF: whether the header declares how long the audio is, and what follows the audio."""

from __future__ import annotations

from typing import BinaryIO, NamedTuple

from musictag.data.audio.decoding.formats import AIFF, Format
from musictag.data.audio.decoding.tags import Link

#: Writers that cannot seek back leave one of these sizes, or 0, in a header, which then declares nothing.
UNDECLARED_BYTES = 0x7F000000
_DATA = (b"data", b"SSND")
#: The first bytes of another file.
_FILES = (b"RIFF", b"RIFX", b"FORM", b"RF64")


class Chunks(NamedTuple):
    """``end``: the end of the chunks that can be followed, which in an intact file are all; ``missing_bytes``: declared
    bytes of audio that are missing; ``patches``, by their offset from the beginning: what the header should contain,
    if it does not declare the length of the audio."""

    end: int
    missing_bytes: int = 0
    patches: dict[int, bytes] | None = None


def look_through(file: BinaryIO, form: Format, link: Link) -> Chunks:
    """Follow the chunks from the beginning of a RIFF or FORM file to its end, or to the last one that makes sense."""
    file.seek(link.begin)
    order = "big" if form is AIFF or file.read(4) == b"RIFX" else "little"
    place, empty, common = link.begin + 12, None, None
    while place < link.end:
        file.seek(place)
        name, size = file.read(4), int.from_bytes(file.read(4), order)
        if not _is_name(name) or name in _FILES or place + 8 > link.end:
            break
        end = place + 8 + size
        if name == b"COMM":
            common = place
        if name in _DATA:
            if size >= UNDECLARED_BYTES:
                return Chunks(link.end, patches=_patches(file, link, order, place, common))
            if size == 0:
                empty = place
            if end > link.end:
                return Chunks(link.end, missing_bytes=end - link.end)
        elif end > link.end:
            break
        place = end
        if size % 2:  # followed by a padding byte, which some writers omit
            file.seek(place)
            place += not _is_name(file.read(4))
    # a stream has length 0 in the header, and no chunks after the audio
    if empty is not None and place < link.end:
        return Chunks(link.end, patches=_patches(file, link, order, empty, common))
    return Chunks(min(place, link.end))


def _patches(file: BinaryIO, link: Link, order: str, data: int, common: int | None) -> dict[int, bytes]:
    """The length fields of a file whose audio runs from the chunk at ``data`` to its end."""
    size = min(link.end - data - 8, 2**32 - 2)
    patches = {data + 4 - link.begin: size.to_bytes(4, order)}
    if common is not None:  # AIFF also declares the number of frames
        file.seek(common + 8)
        channels, _, bits = (int.from_bytes(file.read(length), "big") for length in (2, 4, 2))
        frames = (size - 8) // max(1, channels * -(-bits // 8))
        patches[common + 10 - link.begin] = max(0, frames).to_bytes(4, "big")
    return patches


def _is_name(name: bytes) -> bool:
    return len(name) == 4 and all(0x20 <= byte < 0x7F for byte in name)
