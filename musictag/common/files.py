"""Atomic file writes: temporary file in the same folder, flush to disk, rename."""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from musictag.common.errors import MusictagError
from musictag.common.text import parse_json


@contextmanager
def atomic_write(path: str | Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a file that appears under the name ``path`` only once it is completely on disk.

    Raises MusictagError when the disk is full, failing or read-only; an earlier file at ``path`` is then left intact.
    """
    path = Path(path)
    # not the process's number, which another machine's on a shared disk may have, too
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, mode, **({} if "b" in mode else {"encoding": "utf-8", "newline": ""})) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        kept = "rerun the command: finished work is kept."
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise MusictagError(
                f"no room to write {path} ({error.strerror}). No partial file was left; free some space and {kept}"
            ) from error
        if error.errno in (errno.EROFS, errno.EIO, errno.ESTALE):
            raise MusictagError(
                f"cannot write {path} ({error.strerror}): the disk fails, is read-only or gone. When it is back, {kept}"
            ) from error
        raise
    finally:
        with suppress(OSError):  # already gone, or on a disk that has become read-only
            os.unlink(temporary)


def write_json(path: str | Path, content: Any) -> None:
    """``content`` as indented JSON, atomically. NaN raises ValueError: it is not valid JSON."""
    text = json.dumps(content, indent=2, allow_nan=False)
    with atomic_write(path, "w") as file:
        file.write(text + "\n")


def read_json(path: Path, max_bytes: int) -> Any:
    """Read a JSON file of at most ``max_bytes``.

    Raises OSError if it cannot be read, and ValueError with the reason if it is not JSON, too long or too deep.
    """
    if os.path.getsize(path) > max_bytes:
        raise ValueError(f"it is longer than {max_bytes:,} bytes")
    return parse_json(path.read_bytes())
