"""What was found out about songs, in a file that grows song by song and that the next command continues.

Legend: K tags.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from musictag.common.errors import MusictagError
from musictag.common.files import atomic_write
from musictag.library.rows import CsvLines, Lines, Row, one_line, read_parquet, write_parquet

SUFFIXES = (".jsonl", ".csv", ".parquet")


class TagsFile:
    """The rows in ``path``; each one that is added is in the file at once.

    ``analyses`` say with which model and options scores were made; a file holds those of one, ``analysis``: that of its
    rows, or the first. A Parquet file is written in the end: until then its rows are in a .jsonl beside it. Raises
    MusictagError for a name of another kind, and for a file of something else, of another analysis, or that another
    process is writing to.
    """

    def __init__(self, path: str, tags: Sequence[str], *analyses: str) -> None:
        self._path, self._tags, self._analyses = Path(path), list(tags), analyses
        suffix = self._path.suffix.lower()
        if suffix not in SUFFIXES:
            raise MusictagError(f"--out {path} must end in {', '.join(SUFFIXES)}")
        self._lines = (CsvLines if suffix == ".csv" else Lines)(self._tags)
        self._is_parquet = suffix == ".parquet"
        self._grows = self._path.with_name(f"{self._path.name}.part.jsonl") if self._is_parquet else self._path
        if suffix != ".jsonl" and {"path", "content", "size", "modified", "analysis"} & set(self._tags):
            raise MusictagError(f"a tag of this model has the name of another column of {path}: use --out NAME.jsonl")
        self._rows: dict[str, Row] = {}
        self._by_content: dict[str, Row] = {}
        self._superseded = 0
        self._lock = FileLock(self._path.with_name(f".{self._path.name}.lock"))
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
            self._open()
        except Timeout:
            raise MusictagError(f"another command is writing to {path}; wait for it, or choose another --out") from None
        except OSError as error:
            self._unlock()
            raise MusictagError(f"{path} cannot be written: {error.strerror or error}") from error
        except MusictagError:
            self._unlock()
            raise

    def _open(self) -> None:
        try:
            if self._is_parquet and self._path.exists():
                for row in read_parquet(self._path, self._tags):
                    self._keep(row)
            end = self._read() if self._grows.exists() else 0
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise MusictagError(
                f"--out {self._path} cannot be continued: it was not written by this command with the tags of this "
                f"model, or it is damaged ({error}). Choose another name, or delete it"
            ) from error
        found = {row.analysis for row in self._rows.values()}
        self.analysis = next((analysis for analysis in self._analyses if analysis in found), self._analyses[0])
        if others := found - {self.analysis}:
            raise MusictagError(
                f"--out {self._path} holds results of {min(others)}, and this command would add those of "
                f"{self.analysis}: choose another name, or the same model and options"
            )
        self._file = open(self._grows, "r+b" if self._grows.exists() else "w+b", buffering=0)  # noqa: SIM115
        self._file.truncate(end)
        self._file.seek(end)
        if not end:
            self._append(self._lines.header)

    def _read(self) -> int:
        """Keep all rows; returns where the last one ends."""
        end = 0
        with open(self._grows, "rb") as file:
            for line in file:
                if not line.endswith(b"\n"):  # cut short
                    begins = (self._lines.header or '{"path": ').encode()
                    if not end and line[: len(begins)] != begins[: len(line)]:
                        raise ValueError("its only line is another one")
                    break
                text = line.decode()
                if end or not self._lines.header:
                    self._keep(self._lines.row(text))
                elif text != self._lines.header:
                    raise ValueError("its columns are others")
                end += len(line)
        return end

    def __len__(self) -> int:
        return len(self._rows)

    def unchanged(self, path: str, size: int, modified: int) -> Row | None:
        """The row of a path whose file has this size, and this time of change in nanoseconds."""
        row = self._rows.get(one_line(path))
        return row if row is not None and (row.size, row.modified) == (size, modified) else None

    def same_content(self, content: str) -> Row | None:
        """A row of a file with the same audio."""
        return self._by_content.get(content)

    def add(self, path: str, content: str, size: int, modified: int, chosen: Mapping[str, float]) -> None:
        """Write the chosen tags of a song. Raises MusictagError if that is not possible; what is in the file stays."""
        scores = np.array([chosen.get(name, np.nan) for name in self._tags], np.float32)
        row = Row(one_line(path), content, size, modified, self.analysis, scores)
        self._append(self._lines.line(row))
        self._keep(row)

    def scores(self, row: Row) -> dict[str, float]:
        """The chosen tags of a row, highest score first."""
        return row.chosen(self._tags)

    def _keep(self, row: Row) -> None:
        self._superseded += row.path in self._rows
        self._rows[row.path] = self._by_content[row.content] = row

    def _append(self, text: str) -> None:
        at, content = self._file.tell(), text.encode()
        try:
            if self._file.write(content) < len(content):
                raise OSError("the disk is full")
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(at)
            raise MusictagError(
                f"{self._path} cannot be written: {error.strerror or error}. It holds {len(self):,} songs; free some "
                "space and repeat the command, which continues with the next"
            ) from error

    def close(self) -> None:
        """Leave one row for each path, the newest, and none of a song that has been moved away from there."""
        try:
            gone = [
                path
                for path, row in self._rows.items()
                if self._by_content[row.content].path != path and not os.path.exists(path)
            ]
            for path in gone:
                del self._rows[path]
            rows = list(self._rows.values())
            os.fsync(self._file.fileno())
            self._file.close()
            if self._is_parquet:
                write_parquet(self._path, self._tags, rows)
                self._grows.unlink()
            elif self._superseded or gone:
                with atomic_write(self._path, "w") as file:
                    file.write(self._lines.header)
                    file.writelines(map(self._lines.line, rows))
        except OSError as error:
            raise MusictagError(f"{self._path} cannot be written: {error.strerror or error}") from error
        finally:
            self._unlock()

    def _unlock(self) -> None:
        if self._lock.is_locked:
            with suppress(OSError):
                os.unlink(self._lock.lock_file)
        self._lock.release()
