"""kill -9 at any moment of a run: the same command goes on, and the end is that of a run never killed, bit for bit."""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.helpers.failures import STEPS, Started, wait_until
from tests.helpers.reliability import EPOCHS, Bench, check_whole, epochs_done, only

KILLS = 20


def finish(run: Bench, runs: str, **where: str) -> None:
    status, said = run.lab.run(*run.words(runs, **where))
    assert status == 0, said
    check_whole(only(run.folder / runs), run.whole)


@pytest.mark.slow
def test_kills_at_twenty_random_moments_change_nothing(run: Bench) -> None:
    """Spread over the length of an undisturbed run, preparation included, each in folders of its own."""
    began = time.monotonic()
    finish(run, "timed", data="timed-data")
    seconds = time.monotonic() - began
    drawn = random.Random(0)
    seen: list[int] = []
    for number in itertools.count():
        runs, data = f"killed-{number}", f"data-{number}"
        moment = (len(seen) + drawn.random()) / KILLS * seconds
        started = run.lab.start(*run.words(runs, data=data))
        time.sleep(moment)
        if started.kill() == 0:  # it was quicker than the one that was timed
            seconds = 0.9 * moment
            assert number < 2 * KILLS
            continue
        seen.append(epochs_done(run.folder / runs))
        finish(run, runs, data=data)
        if len(seen) == KILLS:
            break
    assert min(seen) == 0 < max(seen)


@pytest.mark.slow
@pytest.mark.parametrize(
    "file",
    ["history.csv", "tagger.safetensors", "last.ckpt", "curves.png", "predictions.npz", "tags.png", "metrics.json"],
)
def test_a_kill_at_any_step_of_writing_a_file_changes_nothing(run: Bench, file: str) -> None:
    runs = f"writing-{file}"
    for step in STEPS:
        failure = {"do": "kill", "file": file, "step": step, "nth": 1}
        assert run.lab.run(*run.words(runs), failure=failure)[0] == -signal.SIGKILL, step
        folder = only(run.folder / runs)
        assert len(list(folder.glob(".*.part"))) == (step in ("half written", "written")), step
    if file == "metrics.json":  # once it has its name, the run is finished
        (folder / "metrics.json").unlink()
    finish(run, runs)


def test_a_kill_in_training_validation_and_test_changes_nothing(run: Bench) -> None:
    epochs = []
    for call, nth in (("training_step", 5), ("validation_step", 2), ("test_step", 1)):
        failure = {"do": "kill", "call": call, "nth": nth}
        assert run.lab.run(*run.words("working"), failure=failure)[0] == -signal.SIGKILL, call
        epochs.append(epochs_done(run.folder / "working"))
    assert epochs == [1, 2, EPOCHS]
    finish(run, "working")


@pytest.mark.slow
def test_a_run_that_dies_in_every_epoch_comes_to_its_end(run: Bench) -> None:
    failure = {"do": "kill", "file": "last.ckpt", "step": "renamed", "nth": 1}
    for epoch in range(EPOCHS):
        assert run.lab.run(*run.words("every epoch"), failure=failure)[0] == -signal.SIGKILL
        assert epochs_done(run.folder / "every epoch") == epoch + 1
    finish(run, "every epoch")


def forked(started: Started) -> list[int]:
    """The processes that read batches: copies of the one that trains."""
    own = Path(f"/proc/{started.pid}/cmdline").read_bytes()
    return [pid for pid in started.children() if Path(f"/proc/{pid}/cmdline").read_bytes() == own]


@pytest.mark.slow
def test_a_data_worker_that_is_killed_ends_the_run_with_a_reason(run: Bench) -> None:
    runs, settings = run.folder / "worker", ("data.num_workers=2", "trainer.max_epochs=40")
    started = run.lab.start(*run.words("worker", *settings))
    wait_until(lambda: epochs_done(runs) >= 2 and len(forked(started)) >= 2)
    os.kill(forked(started)[0], signal.SIGKILL)
    began = time.monotonic()
    assert started.wait() == 1
    assert time.monotonic() - began < 60
    assert "worker" in (only(runs) / "error.txt").read_text().splitlines()[-1]
    assert "worker" in started.said.splitlines()[-1]
    assert not started.children()
    for name in ("worker", "worker undisturbed"):
        assert run.lab.run(*run.words(name, *settings))[0] == 0
    check_whole(only(runs), only(run.folder / "worker undisturbed"))


@pytest.mark.slow
def test_a_study_killed_inside_and_between_its_jobs_goes_on(run: Bench) -> None:
    """Hydra's process and the job's die together, as when a machine stops."""
    words = ["-m", *run.words("study"), "study=kills", "seed=0,1"]
    runs = run.folder / "study"

    def finished() -> int:
        return len(list(runs.glob("*/*/metrics.json")))

    for happened in (
        lambda: epochs_done(runs) >= 2,
        lambda: finished() == 1,
        lambda: len(list(runs.glob("*/*/last.ckpt"))) == 2,
    ):
        started = run.lab.start(*words)
        wait_until(happened)
        assert started.kill() == -signal.SIGKILL
    assert finished() == 1
    status, said = run.lab.run(*words)
    assert status == 0, said
    assert finished() == 2
    (first,) = runs.glob(f"*/{run.whole.name}")
    (study,) = runs.glob("*/study-kills.json")
    assert study.exists()
    for folder in (path.parent for path in runs.glob("*/*/metrics.json")):
        if folder == first:
            check_whole(folder, run.whole)
        else:
            assert run.lab.run(*run.words("seed 1", "seed=1"))[0] == 0
            check_whole(folder, only(run.folder / "seed 1"))
