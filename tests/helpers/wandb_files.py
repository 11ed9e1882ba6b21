"""Reads the offline records of Weights & Biases.

The file is a log in LevelDB's format after a header of seven bytes: blocks of 32 KiB, in which each part of a record
has a checksum, a length and a type (full, first, middle, last).
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from wandb.proto.wandb_internal_pb2 import Record

BLOCK, HEADER = 32768, 7


class Recorded(NamedTuple):
    """``run``: the last record of the run itself; ``history``: logged rows; ``system``: names of the system metrics."""

    run: Any
    config: dict[str, Any]
    summary: dict[str, Any]
    history: list[dict[str, Any]]
    system: set[str]
    axes: dict[str, str]
    files: set[str]
    exit_code: int | None

    def table(self, folder: Path, key: str) -> dict[str, Any]:
        """The last table logged under ``key``: ``columns`` and ``data``."""
        path = [row[f"{key}.path"] for row in self.history if f"{key}.path" in row][-1]
        return json.loads((folder / "files" / path).read_text())


def recorded(folder: Path) -> tuple[Path, Recorded]:
    """The only run below ``folder/wandb``, which must have ended."""
    (found,) = (folder / "wandb").glob("offline-run-*")
    assert wait_for(lambda: read(found).exit_code is not None)
    return found, read(found)


def wait_for(happened: Callable[[], bool], seconds: float = 10.0) -> bool:
    """The service writes asynchronously, even for a moment after the end of a run."""
    last = time.perf_counter() + seconds
    while not happened():
        if time.perf_counter() > last:
            return False
        time.sleep(0.05)
    return True


def read(folder: Path) -> Recorded:
    """The records of an ``offline-run-*`` folder."""
    (path,) = folder.glob("*.wandb")
    found = Recorded(None, {}, {}, [], set(), {}, set(), None)
    for record in _records(path.read_bytes()):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found = found._replace(run=record.run)
            found.config.update(_values(record.run.config.update))
        elif kind == "config":
            found.config.update(_values(record.config.update))
        elif kind == "summary":
            found.summary.update(_values(record.summary.update))
        elif kind == "history":
            found.history.append(_values(record.history.item))
        elif kind == "stats":
            found.system.update(item.key for item in record.stats.item)
        elif kind == "metric":
            found.axes[record.metric.name or record.metric.glob_name] = record.metric.step_metric
        elif kind == "files":
            found.files.update(item.path for item in record.files.files)
        elif kind == "exit":
            found = found._replace(exit_code=record.exit.exit_code)
    return found


def _values(items: Any) -> dict[str, Any]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def _records(log: bytes) -> Iterator[Any]:
    assert log[:4] in (b"", b":W&B")
    place, parts = HEADER, b""
    while place + HEADER <= len(log):
        if BLOCK - place % BLOCK < HEADER:  # no space for another part: next block
            place += BLOCK - place % BLOCK
            continue
        length, part = struct.unpack_from("<HB", log, place + 4)
        if place + HEADER + length > len(log):
            return  # the rest is still being written
        parts += log[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if part in (1, 4):
            record = Record()
            record.ParseFromString(parts)
            yield record
            parts = b""
