"""The links of a file: files that were joined into one, each with its own header.

A header describes only its own link, so links are decoded one by one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import BinaryIO

from musictag.data.audio.decoding import formats
from musictag.data.audio.decoding.formats import Format
from musictag.data.audio.decoding.lost_audio import Loss
from musictag.data.audio.decoding.tags import Link, leading_tag, without_tags

_CHUNK_BYTES = 2**20
#: The first frame of an MP3 that declares its length: header, optional checksum, empty side information, name.
_LENGTH_FRAME = re.compile(
    rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb].{2}(?:.{2})?(?:\0{32}|\0{17}|\0{9})(?:Xing|Info)"
    rb"|\xff[\xe2\xe3\xf2\xf3\xfa\xfb].{2}\0{32}VBRI",
    re.DOTALL,
)
#: Most bytes from the beginning of such a frame to the end of the name.
_LENGTH_FRAME_BYTES = 42
#: What follows a real ID3 tag in the middle of a file: a frame, or padding.
_AFTER_TAG = re.compile(rb"\xff[\xe2-\xe7\xf2-\xf7\xfa-\xff]|\0\0|ID3|TAG|APETAGEX")


#: The first bytes of the objects in an ASF file: header, data, and four kinds of index.
_ASF_OBJECTS = tuple(
    bytes.fromhex(name) for name in ("3026b275", "3626b275", "90080033", "d329e2d6", "f803b1fe", "d03fb73c")
)


def find_links(file: BinaryIO, form: Format, whole: Link, loss: Loss) -> tuple[list[Link], bool]:
    """The links of a file of this format in order, and whether it is cut: ends before a part that it declares.

    Bytes that belong to none of the links are recorded in ``loss``.
    """
    if form.name in _PIECES:
        return _joined(file, whole, _PIECES[form.name], loss)
    if form is formats.OGG:
        return _ogg(file, whole, loss)
    if form in (formats.MP3, formats.FLAC):
        joints = _mp3_joints if form is formats.MP3 else _flac_joints
        begins = [whole.begin, *sorted(set(joints(file, whole)) - {whole.begin}), whole.end]
        parts = (without_tags(file, Link(*ends)) for ends in pairwise(begins))
        return [link for link in parts if link.end > link.begin], False
    return [whole], False


def _mp3_joints(file: BinaryIO, whole: Link) -> Iterator[int]:
    """Where another MP3 begins inside one: at a tag, or at a frame that declares a length."""
    for place, word in find(file, whole, b"ID3", b"Xing", b"Info", b"VBRI"):
        if word == b"ID3":
            size = leading_tag(file, place)
            file.seek(place + size)
            if size and (place + size == whole.end or _AFTER_TAG.match(file.read(8))):
                yield place
            continue
        end = place + len(word)
        first = max(whole.begin, end - _LENGTH_FRAME_BYTES)
        file.seek(first)
        before = file.read(end - first)
        for offset in range(len(before)):
            if _LENGTH_FRAME.fullmatch(before, offset):
                yield first + offset


def _flac_joints(file: BinaryIO, whole: Link) -> Iterator[int]:
    # the last metadata block before the audio has the highest bit set
    for place, _ in find(file, whole, b"fLaC\0\0\0\x22", b"fLaC\x80\0\0\x22"):
        yield place


def find(file: BinaryIO, where: Link, *words: bytes) -> Iterator[tuple[int, bytes]]:
    """Every position of one of the ``words``, and which word: word by word in each block of the file."""
    begin, overlap = where.begin, max(map(len, words)) - 1
    while begin < where.end:
        file.seek(begin)
        chunk = file.read(min(_CHUNK_BYTES, where.end - begin))
        for word in words:
            place = chunk.find(word)
            while place >= 0:
                yield begin + place, word
                place = chunk.find(word, place + 1)
        if begin + len(chunk) >= where.end or len(chunk) <= overlap:
            return
        begin += len(chunk) - overlap


#: (first bytes, possibly incomplete) -> the size of a part of a file (None: unknown) and whether a file begins with it;
#: or None if no part begins here.
_Piece = Callable[[bytes], "tuple[int | None, bool] | None"]


def _mp4_box(head: bytes) -> tuple[int | None, bool] | None:
    size, kind = int.from_bytes(head[:4], "big"), head[4:8]
    if len(kind) < 4 or not all(0x20 <= byte < 0x7F or byte == 0xA9 for byte in kind):
        return None
    if size == 1:
        size = int.from_bytes(head[8:16], "big")
    return None if 0 < size < 8 else (size or None, kind == b"ftyp")


def _matroska_element(head: bytes) -> tuple[int | None, bool] | None:
    first = head.startswith(b"\x1a\x45\xdf\xa3")
    if first or head.startswith(b"\x18\x53\x80\x67"):  # a header or a segment
        place = 4
    elif head[:1] == b"\xec":  # padding
        place = 1
    else:
        return None
    length = 9 - head[place].bit_length() if len(head) > place and head[place] else 0
    if not length or len(head) < place + length:
        return None
    size = int.from_bytes(head[place : place + length], "big") - (1 << 7 * length)
    unknown = size == (1 << 7 * length) - 1
    return (None if unknown else place + length + size), first


def _asf_object(head: bytes) -> tuple[int | None, bool] | None:
    size = int.from_bytes(head[16:24], "little")
    return (size, head.startswith(_ASF_OBJECTS[0])) if head[:4] in _ASF_OBJECTS and size >= 24 else None


_PIECES: dict[str, _Piece] = {
    formats.MP4.name: _mp4_box,
    formats.MATROSKA.name: _matroska_element,
    formats.ASF.name: _asf_object,
}


def _joined(file: BinaryIO, whole: Link, piece: _Piece, loss: Loss) -> tuple[list[Link], bool]:
    """Find links in files made of parts that each declare their size."""
    links, begin, place = [], whole.begin, whole.begin
    cut = False
    while place < whole.end:
        file.seek(place)
        found = piece(file.read(min(24, whole.end - place)))
        if found is None:
            break
        size, first = found
        if first and place > begin:
            links.append(Link(begin, place))
            begin = place
        cut = size is not None and place + size > whole.end
        place = whole.end if size is None else min(place + size, whole.end)
    loss.bytes += whole.end - place
    return [*links, Link(begin, place)], cut


def _ogg(file: BinaryIO, whole: Link, loss: Loss) -> tuple[list[Link], bool]:
    """Find links in Ogg pages: those that begin a stream also begin a link, unless they are adjacent."""
    links, begin, place = [], whole.begin, whole.begin
    beginning, ended, cut = True, False, False
    while place < whole.end:
        file.seek(place)
        head = file.read(27)
        if head[:4] != b"OggS" or len(head) < 27:
            found, _ = next(find(file, Link(place + 1, whole.end), b"OggS"), (whole.end, b""))
            loss.bytes += found - place
            place = found
            continue
        flags, sizes = head[5], file.read(head[26])
        if flags & 2 and not beginning:
            links.append(Link(begin, place))
            begin = place
        beginning, ended = bool(flags & 2), bool(flags & 4)
        place += 27 + head[26] + sum(sizes)
        cut = place > whole.end
    if not (ended or cut):
        loss.remarks.append("nothing marks the end of the song: the file may be cut short")
    return [*links, Link(begin, whole.end)], cut
