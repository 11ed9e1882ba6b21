"""A song that crashes its process costs only itself, whichever process reads it; other deaths are distinguished."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from musictag.common.errors import MusictagError
from musictag.data.datasets.catalogue import CatalogueFile
from musictag.data.preparation.crashes import CRASHED
from musictag.data.preparation.prepare import Prepared, prepare
from tests.helpers.catalogues import read_rows
from tests.helpers.preparations import ENVIRONMENT, ROOT, contents, damaged_shards

#: `python -c SCRIPT catalogue data_dir`
SCRIPT = """
import sys
from tests.data.preparation.test_crashes import DEATHS, DeadlyCatalogue
from musictag.data.preparation.prepare import prepare
if __name__ == "__main__":
    prepare(DeadlyCatalogue(sys.argv[1], DEATHS), sys.argv[2], songs_per_shard=4)
"""


def segfault(path: str) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def leave(path: str) -> None:
    os._exit(0)


def be_killed(path: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_every_other_time(path: str) -> None:
    """As when memory is short: the song is not to blame, and can be read alone."""
    marks = Path(f"{path}.marks")
    read_before = marks.read_text() if marks.exists() else ""
    marks.write_text(read_before + "x")
    if len(read_before) % 2 == 0:
        be_killed(path)


def die_once(path: str) -> None:
    if not Path(f"{path}.marks").exists():
        die_every_other_time(path)


#: Songs by what they do to the process that reads them; two of them are in one block of 4.
DEATHS = {"train-01": segfault, "train-02": leave, "test-06": be_killed}


class DeadlyReader:
    def __init__(self, reader, deaths: dict[str, Callable[[str], None]], root: Path) -> None:
        self.reader, self.deaths, self.root = reader, deaths, root

    def __call__(self, song_id: str, path: str) -> np.ndarray:
        if song_id in self.deaths:
            self.deaths[song_id](str(self.root / path))
        return self.reader(song_id, path)


class DeadlyCatalogue(CatalogueFile):
    def __init__(self, path: str | Path, deaths: dict[str, Callable[[str], None]]) -> None:
        super().__init__(path)
        self.deaths = deaths

    def reader(self) -> DeadlyReader:
        return DeadlyReader(super().reader(), self.deaths, self.root)


def check(prepared: Prepared, deaths: dict[str, Callable[[str], None]]) -> None:
    """All songs are present once, except those that kill, and the search for them leaves nothing behind."""
    assert {song_id: reason for song_id, _, reason in prepared.problems} == dict.fromkeys(deaths, CRASHED)
    assert {row["song_id"] for row in read_rows(prepared.store.folder / "problems.csv")} == set(deaths)
    assert len(prepared.store) == len(prepared.manifest) == 24 - len(deaths)
    assert damaged_shards(prepared.store) == []
    assert {Path(name).suffix for name in contents(prepared.store.folder / "shards")} == {".npy"}


@pytest.mark.parametrize(
    ("deaths", "shards_without"),
    [({"train-01": segfault}, 5), pytest.param(DEATHS, 4, marks=pytest.mark.slow)],
    ids=["one", "three"],
)
def test_songs_that_crash_their_process_are_found_and_left_out(
    tiny_catalogue: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    deaths: dict[str, Callable[[str], None]],
    shards_without: int,
) -> None:
    source = DeadlyCatalogue(tiny_catalogue, deaths)
    check(prepare(source, tmp_path / "data", workers=2, songs_per_shard=4, max_bad_fraction=0.2), deaths)
    told = capsys.readouterr().err
    for song_id in deaths:
        assert f"song {song_id} (audio/{song_id}.wav) cannot be used: the decoder crashed on it" in told
    assert "24 songs in" in told
    # without deaths the same songs are in the same positions
    whole = prepare(CatalogueFile(tiny_catalogue), tmp_path / "whole", songs_per_shard=4)
    shards = [contents(tmp_path / name) for name in ("data", "whole")]
    assert len(shards[0].items() & shards[1].items()) == shards_without + 2  # of 6 blocks; about.json, duplicates.csv
    assert len(whole.store) == 24


@pytest.mark.slow
def test_without_workers_each_start_finds_one_crashing_song(tiny_catalogue: Path, tmp_path: Path) -> None:
    statuses = []
    for _ in range(4):
        process = subprocess.run(
            [sys.executable, "-c", SCRIPT, tiny_catalogue, tmp_path / "data"], cwd=ROOT, env=ENVIRONMENT
        )
        statuses.append(process.returncode)
    # the third song dies of SIGKILL; a song that is known from then on ended every run before it
    assert statuses == [-signal.SIGSEGV, 0, -signal.SIGKILL, 1]
    check(
        prepare(DeadlyCatalogue(tiny_catalogue, DEATHS), tmp_path / "data", songs_per_shard=4, max_bad_fraction=0.2),
        DEATHS,
    )


@pytest.mark.slow
def test_a_worker_that_dies_of_something_else_leaves_fewer_workers(
    tiny_catalogue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = DeadlyCatalogue(tiny_catalogue, {"train-05": die_once})
    prepared = prepare(source, tmp_path / "data", workers=2, songs_per_shard=4)
    assert "a worker process died (killed, or out of memory): continuing with 1" in capsys.readouterr().err
    assert len(prepared.store) == 24
    assert prepared.problems == []
    prepare(CatalogueFile(tiny_catalogue), tmp_path / "whole", songs_per_shard=4)
    assert contents(tmp_path / "data") == contents(tmp_path / "whole")


@pytest.mark.slow
def test_if_the_last_worker_dies_of_something_else_the_work_stops(tiny_catalogue: Path, tmp_path: Path) -> None:
    source = DeadlyCatalogue(tiny_catalogue, {"test-06": die_every_other_time})
    with pytest.raises(MusictagError, match=r"a worker process died .* rerun the command"):
        prepare(source, tmp_path / "data", workers=2, songs_per_shard=4)
    assert len(list((tmp_path / "data").glob("*/shards/*.parquet"))) >= 4
    prepare(CatalogueFile(tiny_catalogue), tmp_path / "data", songs_per_shard=4)
    prepare(CatalogueFile(tiny_catalogue), tmp_path / "whole", songs_per_shard=4)
    assert contents(tmp_path / "data") == contents(tmp_path / "whole")
