"""Genre, mood, grouping, artist and album from tags inside audio files: ID3, Vorbis comments, MP4, APE, ASF."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import mutagen
from mutagen.apev2 import APEv2
from mutagen.id3 import ID3, TCON

from musictag.common.progress import Progress
from musictag.data.catalogue.making.labels import Labels, Song
from musictag.data.catalogue.names import name_key

FIELDS = ("genre", "mood", "grouping")
#: The names of each field in ID3 (a TXXX frame: its description) and MP4; in Vorbis, APE and ASF case is ignored.
_ID3 = {
    "genre": ("TCON", "TXXX:GENRE"), "mood": ("TMOO", "TXXX:MOOD"), "grouping": ("TIT1", "GRP1", "TXXX:GROUPING"),
    "artist": ("TPE1", "TPE2"), "album": ("TALB",),
}  # fmt: skip
_MP4 = {
    "genre": ("\xa9gen", "----:COM.APPLE.ITUNES:GENRE"), "mood": ("----:COM.APPLE.ITUNES:MOOD",),
    "grouping": ("\xa9grp", "----:COM.APPLE.ITUNES:GROUPING"), "artist": ("\xa9ART", "aART"), "album": ("\xa9alb",),
}  # fmt: skip
_OTHERS = {
    "genre": ("GENRE", "WM/GENRE"), "mood": ("MOOD", "WM/MOOD"),
    "grouping": ("GROUPING", "CONTENTGROUP", "WM/CONTENTGROUPDESCRIPTION"),
    "artist": ("ARTIST", "AUTHOR", "ALBUMARTIST", "ALBUM ARTIST", "WM/ALBUMARTIST"),
    "album": ("ALBUM", "WM/ALBUMTITLE"),
}  # fmt: skip
_DISC = re.compile(r"(cd|dis[ck])[ _-]*\d+", re.IGNORECASE)
#: A few bytes of a compressed tag can stand for gigabytes.
_MEMORY_BYTES = 2**30


@dataclass
class FileTags:
    """What a file's tags say, each as a list of texts; ``problem``: why nothing could be read."""

    texts: dict[str, list[str]] = field(default_factory=dict)
    problem: str | None = None

    def first(self, name: str) -> str:
        return next((text.strip() for text in self.texts.get(name, ()) if text.strip()), "")


def file_tags(path: str | Path) -> FileTags:
    """Read the tags inside one file. Never raises because of its content."""
    try:
        audio = mutagen.File(path)
        tags = None if audio is None else audio.tags
        if not tags and audio is not None:
            with suppress(mutagen.MutagenError):
                tags = APEv2(path)  # MP3s may have them, too
    except Exception as error:  # untrusted files can make a parser raise nearly anything
        return FileTags(problem=" ".join(str(error).split())[:100] or type(error).__name__)
    if audio is None:
        return FileTags(problem="no readable tags, or not audio")
    try:
        return FileTags({name: _texts(tags, name) for name in _ID3} if tags else {})
    except Exception as error:
        return FileTags(problem=f"damaged tags: {' '.join(str(error).split())}"[:100])


def all_file_tags(paths: Sequence[str]) -> list[FileTags]:
    """Read the tags of many files, and show progress."""
    found = []
    with _bounded_memory(), Progress("reading tags", len(paths), "files") as progress:
        for number, path in enumerate(paths, start=1):
            found.append(file_tags(path))
            if number % 100 == 0:
                progress.show(number)
    return found


def read_files(folder: Path, paths: Sequence[str], found: Sequence[FileTags], fields: Sequence[str]) -> Labels:
    """The songs at ``paths`` (absolute, below ``folder``) with what ``found`` holds for each in ``fields``.

    Artist and album come from the tags, else from the folders: artist/album/song.
    """
    labels = Labels(f"tags inside the files: {', '.join(fields)}", [])
    known = {name_key(text) for tags in found for name in fields for text in tags.texts.get(name, ())}
    unreadable, from_folders = [], 0
    for path, tags in zip(paths, found, strict=True):
        if tags.problem:
            unreadable.append(f"{path}: {tags.problem}")
            continue
        artist, album = tags.first("artist"), tags.first("album")
        if not artist:
            artist, folder_album = _artist_and_album(PurePath(path).relative_to(folder).parts[:-1])
            album = album or folder_album
            # a folder named rock of songs with the genre rock is not an artist
            artist = "" if name_key(artist) in known else artist
            from_folders += bool(artist)
        cells = [text for name in fields for text in tags.texts.get(name, ())]
        labels.songs.append(Song(path, cells, artist=artist, album=album))
    labels.drop("files whose tags cannot be read", unreadable)
    if from_folders:
        labels.notes.append(f"artist of {from_folders:,} songs: from their folders, since their tags name none")
    return labels


def _artist_and_album(folders: tuple[str, ...]) -> tuple[str, str]:
    if folders and _DISC.fullmatch(folders[-1]):
        folders = folders[:-1]
    if len(folders) < 2:
        return (folders[0] if folders else ""), ""
    return folders[-2], folders[-1]


def _texts(tags: Any, name: str) -> list[str]:
    if isinstance(tags, ID3):
        texts = list(_id3_texts(tags, name))
    else:
        wanted = _MP4[name] if type(tags).__name__ == "MP4Tags" else _OTHERS[name]
        by_name = {key.upper(): value for key, value in tags.items()}
        texts = [_text(value) for key in wanted for value in _values(by_name.get(key.upper(), ()))]
    if name == "genre":  # 17 and (17) are genre numbers of ID3v1, in any format
        texts = [genre.strip() for text in texts for genre in TCON(encoding=3, text=[text]).genres]
    return list(dict.fromkeys(text for text in texts if text.strip()))


def _id3_texts(tags: ID3, name: str) -> Iterator[str]:
    for wanted in _ID3[name]:
        kind, _, description = wanted.partition(":")
        for frame in tags.getall(kind):
            if not description or frame.desc.upper() == description:
                yield from (str(text) for text in frame.text)


def _values(value: Any) -> list[Any]:
    """The values of a tag: APE separates them by NUL in one text, other formats have a list."""
    if isinstance(value, list | tuple):
        return list(value)
    return str(value).split("\0")


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


@contextmanager
def _bounded_memory() -> Iterator[None]:
    """Limit memory to one gigabyte more than now, where the system can; beyond it there is a MemoryError."""
    try:
        import resource

        with open("/proc/self/statm") as file:
            now = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    except (ImportError, OSError):  # not Linux
        yield
        return
    bound = now + _MEMORY_BYTES
    if soft == resource.RLIM_INFINITY or soft > bound:
        resource.setrlimit(resource.RLIMIT_AS, (bound, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
