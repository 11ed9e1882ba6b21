"""The list of a study's jobs, as study.py writes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from musictag.common.errors import MusictagError

#: Keys of a job in the list.
KEYS = ("overrides", "run", "max_epochs", "patches")
_UNNAMED = "unnamed"  # the study of sweeps without study=


def list_path(folder: Path, study: str | None) -> Path:
    """The file that lists the jobs of a study whose runs are in ``folder``."""
    return folder / f"study-{study or _UNNAMED}.json"


def read_jobs(path: Path) -> list[dict[str, Any]]:
    """The jobs of a study's list, empty if there is none, each with a name (``job``): the overrides that
    distinguish it from the others.

    Raises MusictagError if the file is damaged.
    """
    if not path.exists():
        return []
    try:
        jobs = [{key: job[key] for key in KEYS} for job in json.loads(path.read_text(encoding="utf-8"))["jobs"]]
        common = set.intersection(*(set(job["overrides"]) for job in jobs)) if jobs else set()
        names = (" ".join(override for override in job["overrides"] if override not in common) for job in jobs)
        unnamed = "the only job" if len(jobs) == 1 else "the defaults"
        return [{"job": name or unnamed, **job} for name, job in zip(names, jobs, strict=True)]
    except (ValueError, KeyError, TypeError) as error:
        raise MusictagError(f"{path} is damaged ({error}); delete it and start the sweep again") from error
