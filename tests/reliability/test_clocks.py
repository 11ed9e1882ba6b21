"""A clock that jumps, files from the future, and two commands at the same time."""

from __future__ import annotations

import csv
import itertools
import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from musictag.experiment import run as experiment
from tests.helpers.experiments import ROOT, compose_config
from tests.helpers.failures import labs, wait_until
from tests.helpers.reliability import SETTINGS, Bench, check_whole, epochs_done, only, outcome

DAY = 86400
#: A module that Python imports before anything else: the time of day leaps by days, to and fro, whenever it is asked.
#: Clocks that only measure how long something takes do not jump on a real machine either.
JUMPS = f"""
import itertools, time
real, calls = time.time, itertools.count()
time.time = lambda: real() + (next(calls) * 5 % 13 - 6) * {DAY}
"""


def all_seconds(run_dir: Path) -> list[float]:
    metrics = json.loads((run_dir / "metrics.json").read_text())
    with (run_dir / "history.csv").open(newline="") as file:
        rows = [float(row["seconds"]) for row in csv.DictReader(file)]
    return [*metrics["seconds"].values(), *metrics["speed"].values(), *rows]


@pytest.mark.slow
def test_a_time_of_day_that_jumps_changes_nothing(
    tiny_catalogue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["data=catalogue", f"data.path={tiny_catalogue}", *SETTINGS, f"data_dir={tmp_path / 'data'}"]
    configs = [compose_config(*words, f"runs_dir={tmp_path / name}") for name in ("steady", "jumping")]
    experiment.run(configs[0])
    real, calls = time.time, itertools.count()
    monkeypatch.setattr(time, "time", lambda: real() + (next(calls) * 5 % 13 - 6) * DAY)
    assert {round((time.time() - real()) / DAY) for _ in range(13)} == set(range(-6, 7))
    experiment.run(configs[1])
    monkeypatch.undo()
    steady, jumping = map(experiment.results_folder, configs)
    check_whole(jumping, steady)
    assert all(0 <= seconds < DAY / 24 for seconds in all_seconds(jumping))


@pytest.mark.slow
def test_a_study_under_a_clock_that_jumps_is_shown_as_it_is(run: Bench, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(JUMPS)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    with labs(tmp_path, environment={"PYTHONPATH": path}) as (lab,):
        status, said = lab.run("-m", *run.words("jumping"), "study=clock", "seed=0,1")
        assert status == 0, said
        folder = run.folder / "jumping" / run.whole.parent.name / run.whole.name
        assert outcome(folder) == outcome(run.whole)
        status, said = lab.run("status", str(run.folder / "jumping"), program="musictag.cli")
    assert status == 0
    assert said.splitlines()[-1] == "2 jobs: 2 done"
    assert re.search(r"-\d|day", said) is None  # no negative time, and no long one
    assert all(0 <= seconds < DAY / 24 for seconds in all_seconds(folder))


@pytest.mark.slow
@pytest.mark.parametrize("days", [30, -20000], ids=["from the future", "from 1970"])
def test_files_of_another_time_are_the_same_files(run: Bench, days: int) -> None:
    runs, data = f"of {days}", f"data of {days}"
    failure = {"do": "kill", "file": "last.ckpt", "step": "renamed", "nth": 2}
    assert run.lab.run(*run.words(runs, data=data), failure=failure)[0] == -signal.SIGKILL
    then = max(time.time() + days * DAY, 1.0)
    prepared = [path for path in (run.folder / data).rglob("*") if path.is_file()]
    for path in [*prepared, *(run.folder / runs).rglob("*")]:
        os.utime(path, (then, then))
    status, said = run.lab.run(*run.words(runs, data=data))
    assert status == 0, said
    assert "preparing" not in said
    assert "epoch   3 of" in said
    assert "epoch   2 of" not in said
    assert all(int(path.stat().st_mtime) == int(then) for path in prepared)
    check_whole(only(run.folder / runs), run.whole)


@pytest.mark.slow
def test_of_two_identical_commands_one_runs_and_the_other_says_so(run: Bench, tmp_path: Path) -> None:
    words = run.words("twice", "trainer.max_epochs=30")
    with labs(tmp_path) as (other,):
        first = run.lab.start(*words)
        wait_until(lambda: epochs_done(run.folder / "twice") >= 1)
        status, said = other.run(*words)
        assert first.wait() == 0
    assert status == 1
    assert "another process is working on" in said.splitlines()[-1]
    assert said.splitlines()[-1].startswith("musictag: ")
    assert "train_loss" not in said
    assert run.lab.run(*run.words("once", "trainer.max_epochs=30"))[0] == 0
    check_whole(only(run.folder / "twice"), only(run.folder / "once"))


@pytest.mark.slow
def test_two_sweeps_of_one_study_share_its_jobs(run: Bench, tmp_path: Path) -> None:
    words = ["-m", *run.words("shared"), "study=both", "seed=0,1,2", "trainer.max_epochs=12"]
    with labs(tmp_path) as (other,):
        started = [lab.start(*words) for lab in (run.lab, other)]
        assert [one.wait() for one in started] == [0, 0]
    said = "".join(one.said for one in started)
    assert said.count("epoch   1 of 12") == 3  # none was run twice
    assert len(list((run.folder / "shared").glob("*/*/metrics.json"))) == 3  # and none is lost
    assert "another process is working on" in said
    assert not list((run.folder / "shared").rglob("error.txt"))
    status, said = run.lab.run("status", str(run.folder / "shared"), program="musictag.cli")
    assert (status, said.splitlines()[-1]) == (0, "3 jobs: 3 done")
    for seed in range(3):
        words = run.words("alone", f"seed={seed}", "trainer.max_epochs=12", "study=both")
        assert run.lab.run(*words)[0] == 0
    for folder in (path.parent for path in (run.folder / "alone").glob("*/*/metrics.json")):
        check_whole(run.folder / "shared" / folder.parent.name / folder.name, folder)
