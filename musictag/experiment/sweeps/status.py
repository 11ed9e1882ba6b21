"""Which jobs of a study are done, running, stopped, failed or missing, and how long the rest will take."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

from musictag.common.errors import MusictagError
from musictag.evaluation.metrics import headlines
from musictag.experiment.results.files import read_results
from musictag.experiment.run_folder import is_running
from musictag.experiment.sweeps.study import read_jobs

#: In the order in which they are printed. stopped: begun but not running now; rerunning the sweep resumes it.
STATES = ("done", "running", "stopped", "failed", "missing")


@dataclass(frozen=True)
class Job:
    """One job of a study. ``seconds``: time so far; ``left``: time that it will still take, None if unknown."""

    name: str
    folder: Path
    state: str
    epochs: int
    max_epochs: int | None
    patches: int | None
    seconds: float
    left: float | None = None
    scores: dict[str, float | None] | None = None
    reason: str = ""


def read_study_status(path: Path) -> list[Job]:
    """The jobs of a study's list in their current state; a job whose files are damaged has failed, with that reason.

    Raises MusictagError for a damaged list.
    """
    jobs = [_look_at(path.parent, job) for job in read_jobs(path)]
    return [_with_time_left(job, jobs) for job in jobs]


def time_left(jobs: Sequence[Job]) -> float | None:
    """Seconds until all are done if as many run at once as now (at least one); None if unknown."""
    waiting = [job for job in jobs if job.state != "done"]
    if not waiting or any(job.left is None for job in waiting):
        return 0.0 if not waiting else None
    return sum(job.left or 0.0 for job in waiting) / max(1, sum(job.state == "running" for job in jobs))


def _look_at(parent: Path, job: dict[str, Any]) -> Job:
    folder = parent / job["run"]
    found = {"name": job["job"], "folder": folder, "max_epochs": job["max_epochs"], "patches": job["patches"]}
    try:
        metrics, epochs = read_results(folder), _history(folder)
    except MusictagError as error:
        return Job(**found, state="failed", epochs=0, seconds=0.0, reason=str(error))
    seconds = sum(epochs)
    if metrics is not None:
        scores = {metric.key: (metrics["test"].get(metric.key) or {}).get("value") for metric in headlines()}
        # epochs are part of the training, and the preparation is shared
        took = sum(value for stage, value in metrics["seconds"].items() if stage not in ("prepare", "epochs"))
        return Job(**found, state="done", epochs=len(epochs), seconds=took, scores=scores)
    if is_running(folder):
        state, reason = "running", ""
    elif (folder / "error.txt").exists():
        # the last line of a traceback is the error
        lines = (folder / "error.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines() or [""]
        state, reason = "failed", lines[-1] if lines[0].startswith("Traceback") else lines[0]
    else:
        state, reason = ("stopped" if folder.exists() else "missing"), ""
    return Job(**found, state=state, epochs=len(epochs), seconds=seconds, reason=reason)


def _history(folder: Path) -> list[float]:
    """Seconds of each epoch; raises MusictagError if the file is damaged."""
    path = folder / "history.csv"
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return [float(row["seconds"]) for row in csv.DictReader(file)]
    except OSError:
        return []
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise MusictagError(
            f"{path} is damaged ({type(error).__name__}: {error}): the run itself does not need it; delete it"
        ) from error


def _with_time_left(job: Job, jobs: Iterable[Job]) -> Job:
    """``job`` with its time left, if it is as fast per patch as jobs that differ only in seed and number of songs."""
    if job.state == "done":
        return job
    done = [other for other in jobs if other.state == "done"]
    alike = [other for other in done if _kind(other.name) == _kind(job.name)] or done
    if not alike:
        return job
    if job.patches and all(other.patches for other in alike):
        whole = job.patches * median(other.seconds / other.patches for other in alike if other.patches)
    else:
        whole = median(other.seconds for other in alike)
    return Job(**{**vars(job), "left": max(0.0, whole - job.seconds)})


def _kind(name: str) -> list[str]:
    return [override for override in name.split() if not override.startswith(("seed=", "seeds.", "data.train_songs="))]


def readable_time(seconds: float) -> str:
    """1:02:03, or 42 s."""
    return f"{seconds:.0f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))
