"""A disk that fills up, cannot be written to, or is no folder: said at once, nothing half-written, and the run goes on.

The disks are real: small ones, mounted where only the commands under test see them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from musictag.data.store.store import Store
from tests.helpers.failures import Disk, labs
from tests.helpers.preparations import damaged_shards
from tests.helpers.reliability import EPOCHS, Bench, check_whole, curves, weights

ROOM = 64.0  # megabytes: more than a run needs


@pytest.fixture(scope="module")
def run(run: Bench, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """With a lab that may mount."""
    with labs(tmp_path_factory.mktemp("disks"), mounts=True) as (lab,):
        yield run.in_lab(lab)


def seen(disk: Disk, run: Bench) -> Path:
    """The run folder on a disk."""
    return disk.seen / run.whole.parent.name / run.whole.name


@pytest.mark.parametrize(
    ("file", "nth"),
    [
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("last.ckpt", 2), ("config.json", 1), ("history.csv", 2), ("tagger.safetensors", 1), ("curves.png", 1),
                ("predictions.npz", 1), ("tags.png", 1), ("metrics.json", 1),
            )
        ),
    ],
)  # fmt: skip
def test_a_disk_that_is_full_when_a_file_is_written_costs_that_file_only(run: Bench, file: str, nth: int) -> None:
    disk = run.lab.mount(run.folder / f"full-{file}", 2)
    words = run.words(disk.folder)
    failure = {"do": "fill", "folder": str(disk.folder), "file": file, "step": "opening", "nth": nth}
    status, said = run.lab.run(*words, failure=failure)
    assert status == 1
    last = said.splitlines()[-1]
    assert last.startswith("musictag: no room to write")
    assert file in last
    assert "Traceback" not in said
    folder = seen(disk, run)
    assert not list(disk.seen.rglob("*.part"))
    if file == "last.ckpt":
        assert weights(folder, "last.ckpt").keys() == weights(folder).keys()  # those of the epoch before
        assert len(curves(folder)) == 1 + nth
    if (folder / "error.txt").exists():  # there was no room for all of it, or even for that
        assert (folder / "error.txt").read_text() in ("", last.removeprefix("musictag: ") + "\n")
    status, said = run.lab.run(*words)  # still no room
    assert status == 1
    assert said.splitlines()[-1].startswith("musictag: ")
    assert "No space left on device" in said.splitlines()[-1]

    disk.resize(ROOM)
    assert run.lab.run(*words)[0] == 0
    check_whole(folder, run.whole)


@pytest.mark.slow
def test_a_full_disk_stops_the_preparation_and_what_is_done_is_kept(run: Bench) -> None:
    """The second of three shards finds no room."""
    disk = run.lab.mount(run.folder / "full-data", 0.8)
    words = run.words("of full data", data=disk.folder)
    status, said = run.lab.run(*words)
    assert status == 1
    assert "24 songs need about" in said  # before anything is decoded
    assert "are free. Free some space" in said
    disk.resize(4)
    shards = sorted((run.folder / "data").glob("*/shards/*.npy"))
    assert len(shards) == 3
    failure = {"do": "fill", "folder": str(disk.folder), "file": shards[1].name, "step": "opening", "nth": 1}
    status, said = run.lab.run(*words, failure=failure)
    assert status == 1
    assert said.splitlines()[-1].startswith(f"musictag: no room to write {disk.folder}")
    assert not list(disk.seen.rglob("*.part"))
    disk.resize(ROOM)
    assert run.lab.run(*words)[0] == 0
    check_whole(run.folder / "of full data" / run.whole.parent.name / run.whole.name, run.whole)
    (prepared,) = disk.seen.glob("catalogue-*")
    assert damaged_shards(Store(prepared)) == []


def test_a_disk_that_cannot_be_written_to_is_said_before_any_work(run: Bench) -> None:
    disk = run.lab.mount(run.folder / "read-only", ROOM)
    words = run.words(disk.folder)
    failure = {"do": "kill", "file": "last.ckpt", "step": "renamed", "nth": 2}
    assert run.lab.run(*words, failure=failure)[0] < 0
    before = {path: path.read_bytes() for path in disk.seen.rglob("*") if path.is_file()}
    disk.protect(read_only=True)
    status, said = run.lab.run(*words)
    assert status == 1
    assert said.splitlines()[-1].startswith(f"musictag: cannot write to {disk.folder}")
    assert "runs_dir=" in said.splitlines()[-1]
    assert "train_loss" not in said
    assert {path: path.read_bytes() for path in disk.seen.rglob("*") if path.is_file()} == before
    disk.protect(read_only=False)
    status, said = run.lab.run(*words)
    assert f"epoch   3 of {EPOCHS}" in said
    assert "epoch   2" not in said
    assert status == 0
    check_whole(seen(disk, run), run.whole)


@pytest.mark.slow
def test_a_disk_that_becomes_read_only_while_a_run_writes_costs_what_was_not_written(run: Bench) -> None:
    """As the system does with a disk that fails. The lock of the run lies outside its folder."""
    runs = run.folder / "failing"
    disk = run.lab.mount(runs / run.whole.parent.name / run.whole.name, ROOM)
    failure = {"do": "protect", "folder": str(disk.folder), "file": "last.ckpt", "step": "opening", "nth": 2}
    status, said = run.lab.run(*run.words(runs), failure=failure)
    assert status == 1
    assert said.splitlines()[-1].startswith(
        f"musictag: cannot write {disk.folder / 'last.ckpt'} (Read-only file system)"
    )
    assert "Traceback" not in said
    assert len(curves(disk.seen)) == 3
    disk.protect(read_only=False)
    assert run.lab.run(*run.words(runs))[0] == 0
    check_whole(disk.seen, run.whole)


@pytest.mark.slow
def test_a_run_folder_alone_that_cannot_be_written_to_is_said_too(run: Bench) -> None:
    runs = run.folder / "one read-only"
    disk = run.lab.mount(runs / run.whole.parent.name / run.whole.name, ROOM)
    disk.protect(read_only=True)
    status, said = run.lab.run(*run.words(runs))
    assert status == 1
    assert said.splitlines()[-1].startswith(f"musictag: cannot write to {disk.folder}")
    assert "train_loss" not in said


@pytest.mark.slow
def test_finished_runs_and_prepared_audio_may_be_read_only(run: Bench) -> None:
    disk = run.lab.mount(run.folder / "archive", ROOM)
    words = run.words(disk.folder / "runs", data=disk.folder / "data")
    assert run.lab.run(*words)[0] == 0
    disk.protect(read_only=True)
    status, said = run.lab.run(*words)
    assert status == 0
    assert "Finished before" in said
    status, said = run.lab.run(*run.words("of the archive", data=disk.folder / "data"))
    assert status == 0, said
    check_whole(run.folder / "of the archive" / run.whole.parent.name / run.whole.name, run.whole)
    status, said = run.lab.run("status", str(disk.folder / "runs"), program="musictag.cli")
    assert said.splitlines()[-1].startswith("musictag: no sweep was started in")


@pytest.mark.parametrize(
    "what", ["folder", *(pytest.param(what, marks=pytest.mark.slow) for what in ("runs_dir", "data_dir"))]
)
def test_a_file_where_a_folder_should_be_is_said_before_any_work(run: Bench, what: str) -> None:
    place = run.folder / f"a file as {what}"
    places = {
        "folder": place / run.whole.parent.name / run.whole.name,
        "runs_dir": place,
        "data_dir": place,
    }
    places[what].parent.mkdir(parents=True, exist_ok=True)
    places[what].write_text("mine")
    words = run.words("elsewhere", data=place) if what == "data_dir" else run.words(place)
    status, said = run.lab.run(*words)
    assert status == 1
    assert said.splitlines()[-1].startswith(f"musictag: cannot write to {place}")
    assert "train_loss" not in said
    assert places[what].read_text() == "mine"


@pytest.mark.slow
def test_a_full_disk_of_weights_and_biases_changes_no_score(run: Bench) -> None:
    """Its recordings lie in the folder ``wandb`` of the run, which may be another disk."""
    runs = run.folder / "recorded"
    folder = runs / run.whole.parent.name / run.whole.name
    disk = run.lab.mount(folder / "wandb", 0.1)
    words = run.words(runs, "logger=wandb")
    status, said = run.lab.run(*words)
    assert status == 0, said
    assert "Weights & Biases" in said
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["epochs"] == EPOCHS
    assert sum(path.stat().st_size for path in disk.seen.rglob("*") if path.is_file()) <= 0.1 * 2**20
    plain = {path.name for path in run.whole.iterdir()}
    assert plain <= {path.name for path in folder.iterdir()} <= plain | {"wandb"}
    assert (folder / "predictions.npz").read_bytes() == (run.whole / "predictions.npz").read_bytes()
