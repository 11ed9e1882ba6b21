"""Tags into files: the file is changed in a copy, which then takes its place, and a journal knows what was there."""

from __future__ import annotations

import base64
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from musictag.common.errors import MusictagError, SongError
from musictag.library.content import content_key, differences, file_key, sync_folder, take_back
from musictag.library.fields import read_field, write_field

_WHAT = "musictag journal 1"
#: What happens to an entry that a file already has.
KEEP, MERGE, REPLACE = "keep", "merge", "replace"


class Change(NamedTuple):
    """The texts of a field in a file, now and as they are to be."""

    path: str
    field: str
    before: list[str]
    after: list[str]

    def __str__(self) -> str:
        before, after = (", ".join(texts) or "(nothing)" for texts in (self.before, self.after))
        if self.before == self.after:
            return f"{self.path}: {self.field} stays {before}"
        return f"{self.path}: {self.field} {before} -> {after}"


def planned(path: str, field: str, tags: Sequence[str], existing: str = KEEP) -> Change:
    """What writing ``tags`` into a file would change, if anything; raises SongError if it cannot be done."""
    before = read_field(path, field)
    new = ["; ".join(tags)] if field == "comment" and tags else list(tags)
    if not new or (before and existing == KEEP):
        new = before
    elif existing == MERGE:
        there = {part.casefold() for text in before for part in (text, *text.split("/"))}  # ID3v2.3 has them in one
        new = before + [text for text in new if text.casefold() not in there]
    return Change(path, field, before, new)


class Journal:
    """What changed files held before, as JSON lines; the file is made by the first change.

    Raises MusictagError if it cannot be written, and then the file of the song has not been changed.
    """

    def __init__(self, path: str) -> None:
        self.path, self.changes = path, 0

    def add(self, entry: dict[str, Any]) -> None:
        try:
            is_new = not os.path.exists(self.path)
            with open(self.path, "a", encoding="utf-8") as file:
                if is_new:
                    file.write(json.dumps({"what": _WHAT}))
                # before the line, so that one that was cut short spoils no other
                file.write("\n" + json.dumps(entry))
                file.flush()
                os.fsync(file.fileno())
            if is_new:
                sync_folder(os.path.dirname(os.path.abspath(self.path)))
        except OSError as error:
            raise MusictagError(
                f"the journal {self.path} cannot be written ({error.strerror}), so no more files are changed"
            ) from error
        self.changes += 1


def write(change: Change, journal: Journal, keep_times: bool = False) -> None:
    """Write a change into its file; raises SongError if that cannot be done, and then the file is as it was."""

    def enter(copy: str) -> None:
        if read_field(copy, change.field) not in (change.after, ["/".join(change.after)]):  # 2.3 has them in one
            raise SongError(f"its {change.field} cannot hold {', '.join(change.after)}")
        found = [
            (at, base64.b64encode(zlib.compress(removed)).decode(), length)
            for at, removed, length in differences(real, copy)
        ]
        journal.add({
            "path": real, "field": change.field, "before": change.before, "after": change.after,
            "old": file_key(real), "new": file_key(copy), "bytes": found,
        })  # fmt: skip

    real = os.path.realpath(change.path)
    _rewrite(real, lambda copy: write_field(copy, change.field, change.after), enter, keep_times)


def _rewrite(
    real: str,
    change: Callable[[str], None],
    before_it_counts: Callable[[str], None] = lambda copy: None,
    keep_times: bool = False,
) -> None:
    """``change`` a copy of a file, which takes its place if its audio is the same and ``before_it_counts`` agrees."""
    folder, name = os.path.split(real)
    copy = os.path.join(folder, f".musictag-{os.getpid()}.part{Path(name).suffix}")
    try:
        status = os.stat(real)
        if not status.st_mode & 0o222 or not os.access(real, os.W_OK):
            raise SongError("is read-only; nothing was written into it")
        if status.st_nlink > 1:
            raise SongError(f"is one file under {status.st_nlink} names (hard links), which writing would separate")
        shutil.copy2(real, copy)
        with suppress(OSError, AttributeError):  # only the owner of both may, and not on Windows
            os.chown(copy, status.st_uid, status.st_gid)
            os.chmod(copy, status.st_mode & 0o7777)  # chown takes away some bits
        os.utime(copy)
        change(copy)
        if content_key(copy) != content_key(real):
            raise SongError("writing tags would change its audio; nothing was written into it")
        with open(copy, "r+b") as file:
            os.fsync(file.fileno())
        before_it_counts(copy)
        now = os.stat(real)
        if (now.st_mtime_ns, now.st_size, now.st_ino) != (status.st_mtime_ns, status.st_size, status.st_ino):
            raise SongError("was changed by another program at the same time; nothing was written into it")
        if keep_times:
            os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
        os.replace(copy, real)
        sync_folder(folder)
    except OSError as error:
        raise SongError(f"cannot be changed ({error.strerror or error}); it is as it was") from error
    finally:
        with suppress(OSError):
            os.unlink(copy)


def undo(path: str) -> Iterator[tuple[str, str | SongError]]:
    """Take back what a journal holds, the last change first: every file, and what was done about it.

    A file that is as the change left it gets its old bytes back. In one that has been changed since, the field alone
    gets its old texts. Raises MusictagError for what is no journal.
    """
    for entry in reversed(list(_entries(path))):
        real = entry["path"]
        try:
            yield real, _take_back(real, entry)
        except SongError as error:
            yield real, error
        except (KeyError, TypeError, ValueError, zlib.error):
            yield real, SongError("its entry in this journal is damaged; nothing was taken back")


def _entries(path: str) -> Iterator[dict[str, Any]]:
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
        if json.loads(lines[0]) != {"what": _WHAT}:
            raise ValueError("its first line says something else")
    except (OSError, ValueError) as error:
        raise MusictagError(f"{path} is not a journal of musictag: {error}") from error
    for line in lines[1:]:
        with suppress(ValueError):  # cut short: it was being written, and its file was not changed
            yield json.loads(line)


def _take_back(real: str, entry: dict[str, Any]) -> str:
    try:
        now = file_key(real)
    except OSError as error:
        raise SongError(f"cannot be read ({error.strerror})") from error

    def give_back(copy: str) -> None:
        found = [(at, zlib.decompress(base64.b64decode(packed)), length) for at, packed, length in entry["bytes"]]
        take_back(copy, found)
        if file_key(copy) != entry["old"]:
            raise SongError("this journal does not lead back to the old file: one of them is damaged")

    if now == entry["new"]:
        _rewrite(real, give_back)
    if now in (entry["old"], entry["new"]):
        return "is as it was"
    there = read_field(real, entry["field"])
    if there == entry["before"]:
        return f"has been changed since; its {entry['field']} is as it was"
    if there not in (entry["after"], ["/".join(entry["after"])]):
        raise SongError(f"has been changed since, its {entry['field']}, too; nothing was taken back")
    _rewrite(real, lambda copy: write_field(copy, entry["field"], entry["before"]))
    return f"has been changed since; its {entry['field']} is as it was"
