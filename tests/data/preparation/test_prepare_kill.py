"""Killed without warning, at any moment, any number of times: the final result is always the same."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from musictag.data.store.store import Store, read_index
from tests.helpers.catalogues import read_rows, synthetic_song, write_table
from tests.helpers.preparations import ENVIRONMENT, ROOT, contents, damaged_shards

pytestmark = pytest.mark.slow

SONGS, SONGS_PER_SHARD, SECONDS_A_SONG = 200, 8, 0.02
BLOCKS = SONGS // SONGS_PER_SHARD
FORMATS = (("wav", 16000), ("flac", 44100), ("mp3", 22050), ("ogg", 48000), ("aiff", 8000))
#: Kills in each mode: this many spread over a whole run, and this many while the parts become the index.
SPREAD, MERGING = 20, 5

SCRIPT = f"""
import sys
from tests.helpers.preparations import SlowCatalogue
from musictag.data.preparation.prepare import prepare
if __name__ == "__main__":
    prepare(
        SlowCatalogue(sys.argv[1], {SECONDS_A_SONG}), sys.argv[2], workers=2, songs_per_shard={SONGS_PER_SHARD}
    )
"""


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 songs of 0.2 to 2 s in five formats, eight of them unusable."""
    folder = tmp_path_factory.mktemp("music")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(SONGS):
        suffix, rate = FORMATS[number % len(FORMATS)]
        name = f"{number:03d}.{suffix}"
        audio = synthetic_song(rng.uniform(0.2, 2.0), number % 2 == 0, number % 3 == 0, 0.5, seed=number)
        soundfile.write(folder / name, audio, rate)
        if number % 25 == 3:
            (folder / name).write_bytes(b"no audio")
        split = ("train", "train", "validation", "test")[number % 4]
        rows.append({"song_id": f"song-{number:03d}", "path": name, "split": split, "tag": number % 2})
    return write_table(folder / "catalogue.csv", rows)


class Run:
    """A preparation in a process group of its own."""

    def __init__(self, catalogue: Path, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(catalogue), str(data_dir)],
            cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def kill(self, group: bool) -> str:
        """Kill it, all of it or only the parent; returns how far it was."""
        if group:
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()
        self.process.wait()
        return phase(self.data_dir)

    def finish(self) -> None:
        assert self.process.wait(timeout=120) == 0


def parts(data_dir: Path) -> int:
    return len(list(data_dir.glob("*/shards/*.parquet")))


def phase(data_dir: Path) -> str:
    indexed = sum(pq.read_metadata(path).num_rows for path in data_dir.glob("*/index.parquet"))
    if indexed == SONGS:
        return "ending"
    if parts(data_dir) == BLOCKS:
        return "merging"
    return "working" if parts(data_dir) else "starting"


@pytest.fixture(scope="module")
def undisturbed(catalogue: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], float, float]:
    """The result of an undisturbed run, and the seconds until its first block and its end."""
    data_dir = tmp_path_factory.mktemp("undisturbed")
    began = time.monotonic()
    run = Run(catalogue, data_dir)
    while not parts(data_dir):
        time.sleep(0.005)
    first = time.monotonic() - began
    run.finish()
    last = time.monotonic() - began
    (folder,) = data_dir.iterdir()
    left = contents(folder)
    assert len(left) == BLOCKS + 4  # shards; index, problems, about, duplicates
    assert "duplicates.csv" in left
    assert sum("it is text" in row["reason"] for row in read_rows(folder / "problems.csv")) == 8  # others are too short
    return left, first, last


def check(data_dir: Path, undisturbed: dict[str, str]) -> None:
    (folder,) = data_dir.iterdir()
    assert contents(folder) == undisturbed
    song_ids = read_index(folder)["song_id"].to_pylist()
    assert song_ids == [f"song-{number:03d}" for number in range(SONGS)]
    assert damaged_shards(Store(folder)) == []


@pytest.mark.parametrize("group", [True, False], ids=["all processes", "the parent alone"])
def test_a_kill_at_any_moment_changes_nothing(
    catalogue: Path, undisturbed: tuple[dict[str, str], float, float], tmp_path: Path, group: bool
) -> None:
    left, first, last = undisturbed
    random_numbers = random.Random(int(group))
    phases = []
    for number in range(SPREAD):
        data_dir = tmp_path / f"spread-{number}"
        run = Run(catalogue, data_dir)
        # little happens while the processes start
        time.sleep(first / 2 + (number + random_numbers.random()) / SPREAD * (last - first / 2))
        phases.append(run.kill(group))
        Run(catalogue, data_dir).finish()
        check(data_dir, left)
    for number in range(MERGING):
        data_dir = tmp_path / f"merging-{number}"
        run = Run(catalogue, data_dir)
        while parts(data_dir) < BLOCKS and run.process.poll() is None:
            time.sleep(0.001)
        time.sleep(random_numbers.random() * 0.03)
        phases.append(run.kill(group))
        Run(catalogue, data_dir).finish()
        check(data_dir, left)
    assert phases.count("working") >= 3
    assert phases.count("merging") + phases.count("ending") >= 2


@pytest.mark.parametrize("group", [True, False], ids=["all processes", "the parent alone"])
def test_it_finishes_however_often_it_is_killed(
    catalogue: Path, undisturbed: tuple[dict[str, str], float, float], tmp_path: Path, group: bool
) -> None:
    """Killed after each further block: each start must continue from there, and so needs no more than BLOCKS."""
    kills = done = 0
    while True:
        run = Run(catalogue, tmp_path / "data")
        while (now := finished_songs(tmp_path / "data")) <= done and run.process.poll() is None:
            time.sleep(0.002)
        if run.process.poll() == 0:
            break
        run.kill(group)
        assert now > done
        done, kills = now, kills + 1
        assert kills <= BLOCKS
    assert kills >= 5
    check(tmp_path / "data", undisturbed[0])


def finished_songs(data_dir: Path) -> int:
    """Songs that the next start need not read: those in the index, and those in parts to be merged."""
    song_ids: set[str] = set()
    for path in [*data_dir.glob("*/index.parquet"), *data_dir.glob("*/shards/*.parquet")]:
        with suppress(FileNotFoundError):  # parts vanish once the index has them
            # read at once: the index may be replaced meanwhile
            table = pq.read_table(pa.BufferReader(path.read_bytes()), columns=["song_id"])
            song_ids.update(table["song_id"].to_pylist())
    return len(song_ids)
