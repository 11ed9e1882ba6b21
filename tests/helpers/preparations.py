"""Preparation in processes that can be slowed down, observed and killed."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from musictag.data.datasets.catalogue import CatalogueFile
from musictag.data.store.store import Store

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

#: `python -c SCRIPT catalogue data_dir workers seconds_per_song [max_file_bytes]`
SCRIPT = """
import resource, sys
from tests.helpers.preparations import SlowCatalogue
from musictag.data.preparation.prepare import prepare
from musictag.common.errors import MusictagError
if __name__ == "__main__":
    path, data_dir, workers, seconds, *limit = sys.argv[1:]
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit[0]), int(limit[0])))
    try:
        prepare(SlowCatalogue(path, float(seconds)), data_dir, workers=int(workers), songs_per_shard=2)
    except MusictagError as error:
        sys.exit(str(error))
"""


class SlowReader:
    """Reads a file slowly."""

    def __init__(self, reader, seconds: float) -> None:
        self.reader, self.seconds = reader, seconds

    def __call__(self, song_id: str, path: str) -> np.ndarray:
        time.sleep(self.seconds)
        return self.reader(song_id, path)


class SlowCatalogue(CatalogueFile):
    def __init__(self, path: str | Path, seconds: float) -> None:
        super().__init__(path)
        self.seconds = seconds

    def reader(self) -> SlowReader:
        return SlowReader(super().reader(), self.seconds)


class CountingReader:
    """Records which songs were read in this process."""

    def __init__(self, reader) -> None:
        self.reader = reader
        self.read: list[str] = []

    def __call__(self, song_id: str, path: str) -> np.ndarray:
        self.read.append(song_id)
        return self.reader(song_id, path)


class CountingCatalogue(CatalogueFile):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._reader = CountingReader(super().reader())

    @property
    def read(self) -> list[str]:
        return self._reader.read

    def reader(self) -> CountingReader:
        return self._reader


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)],
        cwd=ROOT,
        env=ENVIRONMENT,
        text=True,
        stderr=subprocess.PIPE,
        # background jobs of a shell ignore Ctrl-C, and so would their children if the tests run as one
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def contents(folder: Path) -> dict[str, str]:
    """A checksum of every file below ``folder``, except the lock."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def damaged_shards(store: Store) -> list[Path]:
    """All shards of a prepared folder that are missing or damaged."""
    return list(store.damaged_shards(store.shards_of(np.arange(len(store)))))


def finished_blocks(data_dir: Path) -> int:
    return len(list(data_dir.glob("*/shards/*.parquet")))


def wait_until(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.005)


def children(process: subprocess.Popen[str]) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def all_samples(catalogue: Path) -> list[np.ndarray]:
    source = CatalogueFile(catalogue)
    return [source.reader()("", path) for path in source.manifest().paths]
