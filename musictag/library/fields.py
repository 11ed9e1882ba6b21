"""Genre, mood, grouping and comment inside audio files, in the fields that players read (docs/tagging.md)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import mutagen
from mutagen._vorbis import VCommentDict
from mutagen.aiff import AIFF
from mutagen.apev2 import APENoHeaderError, APEv2
from mutagen.dsf import DSF
from mutagen.id3 import COMM, GRP1, ID3, TCON, TMOO, TXXX, Encoding, Frame
from mutagen.mp3 import MP3
from mutagen.mp4 import AtomDataType, MP4FreeForm, MP4Tags
from mutagen.trueaudio import TrueAudio
from mutagen.wave import WAVE

from musictag.common.errors import SongError

FIELDS = ("genre", "mood", "grouping", "comment")
_WITH_ID3 = (MP3, TrueAudio, WAVE, AIFF, DSF)
#: In Vorbis comments and APE, whose names have no case; the first is written, the others are read, too.
_NAMES = {"genre": ["Genre"], "mood": ["Mood"], "grouping": ["Grouping"], "comment": ["Comment", "Description"]}
_MP4 = {"genre": "\xa9gen", "mood": "----:com.apple.iTunes:MOOD", "grouping": "\xa9grp", "comment": "\xa9cmt"}


def read_field(path: str, field: str) -> list[str]:
    """The texts of one of ``FIELDS`` in a file; raises SongError for a kind of file into which none are written."""
    with _reported("read"):
        texts = [text.strip() for tags in _all_tags(path) for text in tags.read(field)]
    return list(dict.fromkeys(text for text in texts if text))


def write_field(path: str, field: str, texts: Sequence[str]) -> None:
    """Make ``texts`` the texts of the field, and leave everything else as it is; without texts the field is removed.

    Raises SongError if this cannot be done.
    """
    with _reported("written"):
        for tags in _all_tags(path):
            tags.write(field, list(texts))
            tags.save(path)


@contextmanager
def _reported(what: str) -> Iterator[None]:
    """Inside, any error is a SongError: untrusted files can make a parser raise nearly anything."""
    try:
        yield
    except SongError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:100] or type(error).__name__
        raise SongError(f"its tags cannot be {what}: {said}") from error


def _all_tags(path: str) -> list[_Named]:
    """All that players may read: an MP3 can have APE tags beside ID3."""
    audio = mutagen.File(path)
    if isinstance(audio, _WITH_ID3):
        found: list[_Named] = [_Id3(type(audio), path)]
        with suppress(APENoHeaderError):
            if isinstance(audio, MP3):
                found.append(_Named(ape := APEv2(path), ape))
        return found
    if audio is not None and audio.tags is None:
        audio.add_tags()
    tags = None if audio is None else audio.tags
    if isinstance(tags, VCommentDict | APEv2):
        return [_Named(audio, tags)]
    if isinstance(tags, MP4Tags):
        return [_Mp4(audio, tags)]
    raise SongError("tags are written into MP3, FLAC, Ogg, Opus, M4A, WAV, AIFF and APE files, not into this kind")


class _Named:
    """Vorbis comments, or APEv2; ``file`` saves them."""

    def __init__(self, file: Any, tags: Any) -> None:
        self._file, self._tags = file, tags

    def read(self, field: str) -> list[str]:
        return [str(text) for name in _NAMES[field] if name in self._tags for text in self._tags[name]]

    def write(self, field: str, texts: list[str]) -> None:
        for name in _NAMES[field]:
            if name in self._tags:
                del self._tags[name]
        if texts:
            name, *_ = _NAMES[field]
            self._tags[name if isinstance(self._tags, APEv2) else name.upper()] = texts

    def save(self, path: str) -> None:
        self._file.save(path)


class _Mp4(_Named):
    def read(self, field: str) -> list[str]:
        values = self._tags.get(_MP4[field], [])
        return [value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in values]

    def write(self, field: str, texts: list[str]) -> None:
        name = _MP4[field]
        if not texts:
            self._tags.pop(name, None)
        elif name.startswith("----"):
            self._tags[name] = [MP4FreeForm(text.encode(), dataformat=AtomDataType.UTF8) for text in texts]
        else:
            self._tags[name] = texts


class _Id3(_Named):
    """ID3 of the version that the file has, by default 2.4; all frames but those of the field stay as they are."""

    def __init__(self, kind: type[mutagen.FileType], path: str) -> None:
        file = kind(path)
        self._is_v23 = isinstance(file.tags, ID3) and file.tags.version[:2] == (2, 3)
        if self._is_v23:  # as it is, instead of translated into what 2.4 has
            file = kind(path, translate=False)
        if file.tags is None:
            file.add_tags()
        super().__init__(file, file.tags)

    def read(self, field: str) -> list[str]:
        found = (frame.genres if isinstance(frame, TCON) else frame.text for frame in self._frames(field))
        return [str(text) for texts in found for text in texts]

    def write(self, field: str, texts: list[str]) -> None:
        old = self._frames(field)
        for frame in old:
            self._tags.delall(frame.HashKey)
        if not texts:
            return
        # 2.3 has no UTF-8, and a slash between texts; nor has it TMOO
        how = {"encoding": Encoding.UTF16, "text": ["/".join(texts)]}
        how = how if self._is_v23 else {"encoding": Encoding.UTF8, "text": texts}
        if field == "mood":
            self._tags.add(TXXX(desc="MOOD", **how) if self._is_v23 else TMOO(**how))
        elif field == "comment":
            self._tags.add(COMM(lang=old[0].lang if old else "eng", desc="", **how))
        else:
            self._tags.add(TCON(**how) if field == "genre" else GRP1(**how))

    def save(self, path: str) -> None:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, 2) - 128))
            old = file.read()
        self._file.save(path, v2_version=3 if self._is_v23 else 4, v23_sep=None)
        # ID3v1, which has little room, is not to be made anew from the rest
        if old[:3] == b"TAG" and isinstance(self._file, MP3 | TrueAudio):
            with open(path, "r+b") as file:
                file.seek(-128, 2)
                file.write(old)

    def _frames(self, field: str) -> list[Frame]:
        if field == "comment":
            return [frame for frame in self._tags.getall("COMM") if not frame.desc]
        named = self._tags.getall({"genre": "TCON", "mood": "TMOO", "grouping": "GRP1"}[field])
        return named + [frame for frame in self._tags.getall("TXXX") if frame.desc.upper() == field.upper()]
