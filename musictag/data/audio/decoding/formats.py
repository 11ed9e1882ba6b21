"""Recognises the format of a file by its bytes, never by its name, and says what a file is that is not audio."""

from __future__ import annotations

import re
from typing import BinaryIO, NamedTuple

from musictag.common.errors import SongError
from musictag.data.audio.decoding.lost_audio import Undecodable

#: How far to search for audio behind leading rubbish.
_SEARCHED_BYTES = 2**16


class Format(NamedTuple):
    """``demuxer`` is FFmpeg's name; ``framed`` formats are nothing but a sequence of frames, which may have rubbish
    between them; ``plain`` formats hold samples that libsndfile reads."""

    name: str
    demuxer: str
    framed: bool = False
    plain: bool = False


MP3 = Format("MP3", "mp3", framed=True)
AAC = Format("AAC", "aac", framed=True)
FLAC = Format("FLAC", "flac", framed=True)
OGG = Format("Ogg", "ogg")
MP4 = Format("MP4", "mov")
MATROSKA = Format("Matroska", "matroska")
ASF = Format("WMA", "asf")
WAV = Format("WAV", "wav", plain=True)
AIFF = Format("AIFF", "aiff", plain=True)

#: The signature of each format: a pattern of its first bytes.
_MAGIC: tuple[tuple[bytes, Format], ...] = (
    (rb"(?:RIFF|RIFX|RF64|BW64)....WAVE", WAV),
    (rb"FORM....AIF[FC]", AIFF),
    (rb"fLaC", FLAC),
    (rb"OggS\0", OGG),
    (rb"....(?:ftyp|moov|mdat|wide|free|skip|pnot|styp)", MP4),
    (rb"\x1a\x45\xdf\xa3", MATROSKA),
    (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", ASF),
    (rb"wvpk", Format("WavPack", "wv", framed=True)),
    (rb"MAC ", Format("Monkey's Audio", "ape")),
    (rb"TTA1", Format("True Audio", "tta")),
    (rb"tBaK", Format("TAK", "tak")),
    (rb"MP\+", Format("Musepack", "mpc")),
    (rb"MPCK", Format("Musepack", "mpc8")),
    (rb"DSD ", Format("DSF", "dsf")),
    (rb"#!AMR", Format("AMR", "amr")),
    (rb"caff", Format("CAF", "caf", plain=True)),
    (rb"\.snd", Format("AU", "au", plain=True)),
    (rb"riff\x2e\x91\xcf\x11", Format("Wave64", "w64", plain=True)),
    (rb"\x0b\x77", Format("AC-3", "ac3", framed=True)),
    (rb"\x7f\xfe\x80\x01", Format("DTS", "dts", framed=True)),
    (rb"\xff[\xf0\xf1\xf8\xf9]|ADIF", AAC),
    (rb"\xff[\xe2-\xe7\xf2-\xf7\xfa-\xff]", MP3),
)
#: By FFmpeg's names: formats that may be found when the first bytes tell nothing.
PROBED = {form.demuxer: form for form in (MP3, AAC, FLAC, OGG)}
#: Distinctive enough to be searched for behind rubbish.
_FOUND_LATER = (WAV, AIFF, FLAC, OGG, MATROSKA, ASF)
#: Files that are mistaken for audio, and what they are.
_NO_AUDIO: tuple[tuple[bytes, str], ...] = (
    (rb"(?i)\s*(?:<!doctype\s+html|<html|<head|<body|<\?xml[^>]*>\s*<(?:!doctype\s+)?html)", "a web page"),
    (rb"\s*<", "a page of markup (XML)"),
    (rb"%PDF", "a PDF document"),
    (rb"PK\x03\x04", "a ZIP archive: unpack it first"),
    (rb"Rar!|7z\xbc\xaf|\x1f\x8b|BZh|\xfd7zXZ", "a compressed archive: unpack it first"),
    (rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF....WEBP|BM....\0\0\0\0", "a picture"),
    (rb"MThd", "MIDI, which holds notes, not sound: render it with a synthesiser first"),
    (rb"(?i)\s*(?:#EXTM3U|\[playlist\])", "a playlist, which only names other files"),
    (rb"version https://git-lfs", "a Git LFS pointer: `git lfs pull` gets the file itself"),
)
#: Recognised, but not supported.
_NOT_READ: tuple[tuple[bytes, str], ...] = (
    (rb"RIFF....AVI ", "AVI"),
    (rb"FLV\x01", "Flash video"),
    (rb"\.RMF|\.ra\xfd", "RealAudio"),
    (rb"\x00\x00\x01[\xba\xb3]", "MPEG video"),
    (rb"ajkg", "Shorten"),
    (rb"OFR ", "OptimFROG"),
    (rb"FRM8", "DSDIFF"),
    (rb"IMPM|Extended Module:|.{44}SCRM", "a tracker module"),
)


def recognise(file: BinaryIO, begin: int, end: int) -> tuple[Format | None, int]:
    """The format of the bytes from ``begin`` to ``end``, and where it begins; None for an unknown beginning, though
    there may be frames somewhere.

    Raises SongError for a file that is not audio, and Undecodable for audio that is not supported.
    """
    file.seek(begin)
    head = file.read(min(_SEARCHED_BYTES, end - begin))
    start = len(head) - len(head.lstrip(b"\0"))
    # an MP4 begins with the length of its first box: four bytes, some of them zero
    for offset in dict.fromkeys((0, start)):
        if found := _match(_NO_AUDIO, head, offset):
            raise SongError(f"cannot be read as audio: it is {found}")
        if found := _match(_NOT_READ, head, offset):
            raise Undecodable(f"{found}, which is not supported; {how_to_convert()}")
        if found := _match(_MAGIC, head, offset):
            return found, begin + offset
    if head and _is_text(head[:1024]):
        raise SongError("cannot be read as audio: it is text")
    later = [
        (match.start(), form)
        for pattern, form in _MAGIC
        if form in _FOUND_LATER and (match := re.search(pattern, head, re.DOTALL))
    ]
    if later:
        offset, form = min(later)
        return form, begin + offset
    return None, begin


def how_to_convert() -> str:
    """How the user gets a file that is supported."""
    return "convert it, for example with: ffmpeg -i FILE song.flac"


def _match(patterns: tuple, head: bytes, offset: int) -> object | None:
    return next((what for pattern, what in patterns if re.compile(pattern, re.DOTALL).match(head, offset)), None)


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # the last character may be cut
            return False
        text = head[: error.start].decode("utf-8")
    return all(character.isprintable() or character.isspace() for character in text)
