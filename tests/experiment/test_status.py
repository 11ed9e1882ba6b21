"""What `musictag status` says of a study whose jobs are in all states."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from musictag import cli
from musictag.common.files import write_json
from musictag.experiment.run_folder import lock_run
from musictag.experiment.sweeps.status import read_study_status, readable_time, time_left


def write_list(folder: Path, jobs: dict[str, str], **changes: Any) -> Path:
    path = folder / "study-sizes.json"
    listed = [
        {"overrides": job.split(), "run": run, "max_epochs": 4, "patches": 400} | changes for job, run in jobs.items()
    ]
    write_json(path, {"jobs": listed})
    return path


def write_run(folder: Path, seconds: float | None, epochs: int = 4) -> None:
    """A finished run that took ``seconds``, or one that has come as far as ``epochs`` (10 s each)."""
    folder.mkdir()
    rows = "".join(f"{epoch},10.0\n" for epoch in range(epochs))
    (folder / "history.csv").write_text(f"epoch,seconds\n{rows}")
    if seconds is not None:
        test = {"roc_auc": {"value": 0.75}, "pr_auc": {"value": 0.5}, "rmse": None}
        times = {"prepare": 1000.0, "train": seconds - 1, "test": 1.0, "epochs": seconds - 1}
        (folder / "metrics.json").write_text(json.dumps({"test": test, "seconds": times}))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    jobs = {
        "model=a seed=0": "a0", "model=a seed=1": "a1", "model=b seed=0": "b0", "model=b seed=1": "b1",
        "model=c seed=0": "c0",
    }  # fmt: skip
    path = write_list(tmp_path, jobs)
    write_run(tmp_path / "a0", 80.0)
    write_run(tmp_path / "b0", 200.0)
    write_run(tmp_path / "b1", None, epochs=3)
    (tmp_path / "c0").mkdir()
    (tmp_path / "c0" / "error.txt").write_text("Traceback (most recent call last):\n  File\nValueError: the [reason]\n")
    return path


def test_every_state_is_told_apart(study: Path) -> None:
    with lock_run(study.parent / "b1"):
        jobs = read_study_status(study)
    assert [job.state for job in jobs] == ["done", "missing", "done", "running", "failed"]
    assert [job.epochs for job in jobs] == [4, 0, 4, 3, 0]
    assert jobs[0].scores == {"roc_auc": 0.75, "pr_auc": 0.5, "rmse": None}
    assert jobs[4].reason == "ValueError: the [reason]"
    assert [job.state for job in read_study_status(study)][3] == "stopped"


def test_a_job_without_the_settings_of_others_is_not_the_only_one(tmp_path: Path) -> None:
    several = write_list(tmp_path, {"model=a": "a0", "model=a seed=1": "a1"})
    assert [job.name for job in read_study_status(several)] == ["the defaults", "seed=1"]
    assert [job.name for job in read_study_status(write_list(tmp_path, {"model=a": "a0"}))] == ["the only job"]


def test_the_time_left_follows_what_others_of_their_kind_took(study: Path) -> None:
    jobs = read_study_status(study)
    assert jobs[1].left == pytest.approx(80)  # as the other seed
    assert jobs[3].left == pytest.approx(200 - 30)  # less what it has done
    assert jobs[4].left == pytest.approx(140)  # unlike any: as they all do
    assert time_left(jobs) == pytest.approx(80 + 170 + 140)
    assert time_left([jobs[0]]) == 0


def test_jobs_at_work_side_by_side_share_the_time(study: Path) -> None:
    with lock_run(study.parent / "b1"), lock_run(study.parent / "c0"):
        jobs = read_study_status(study)
    assert [job.state for job in jobs].count("running") == 2
    assert time_left(jobs) == pytest.approx((80 + 170 + 140) / 2)


def test_more_patches_take_longer(tmp_path: Path) -> None:
    path = write_list(tmp_path, {"data.train_songs=100": "small", "data.train_songs=200": "large"})
    content = json.loads(path.read_text())
    content["jobs"][1]["patches"] = 800
    write_json(path, content)
    write_run(tmp_path / "small", 50.0)
    assert read_study_status(path)[1].left == pytest.approx(100)


def test_nothing_done_means_time_unknown(tmp_path: Path) -> None:
    path = write_list(tmp_path, {"seed=0": "a"})
    assert time_left(read_study_status(path)) is None


def test_the_command_prints_a_table_the_counts_and_why(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", str(study.parent)]) == 1
    printed = capsys.readouterr().out
    assert "5 jobs: 2 done, 1 stopped, 1 failed, 1 missing; about 0:06:30 left" in printed
    assert "model=c seed=0: ValueError: the [reason]" in printed
    assert "0.750" in printed
    (study.parent / "c0" / "error.txt").unlink()
    assert cli.main(["status", str(study.parent), "--study", "sizes"]) == 0


def test_what_is_not_there_is_said(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", str(study.parent), "--study", "other"]) == 1
    told = capsys.readouterr().err
    assert "no sweep was started as study other in " in told
    assert "; there are sizes" in told
    assert cli.main(["status", str(tmp_path / "nowhere")]) == 1
    assert "there is no folder" in capsys.readouterr().err


def test_times_are_readable() -> None:
    assert readable_time(42.4) == "42 s"
    assert readable_time(3723.2) == "1:02:03"
