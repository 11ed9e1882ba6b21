"""Studies: many jobs under one name.

``<runs_dir>/<data>/study-<name>.json`` lists the jobs of every sweep that was started under the name: what each was
told, the folder of its run, and how much there is to train. ``musictag status`` compares it with what is there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from musictag.errors import MusictagError

#: What is kept of a job.
KEYS = ("overrides", "run", "max_epochs", "patches")
_UNNAMED = "unnamed"  # the study of sweeps without study=


def list_path(folder: Path, study: str | None) -> Path:
    """Where the jobs of a study are listed that has its runs in ``folder``."""
    return folder / f"study-{study or _UNNAMED}.json"


def read_jobs(path: Path) -> list[dict[str, Any]]:
    """The jobs of a study's list, empty if there is none, each with a name (``job``): what tells it from the others.

    Raises MusictagError if the file is damaged.
    """
    if not path.exists():
        return []
    try:
        jobs = [{key: job[key] for key in KEYS} for job in json.loads(path.read_text(encoding="utf-8"))["jobs"]]
        common = set.intersection(*(set(job["overrides"]) for job in jobs)) if jobs else set()
        names = (" ".join(word for word in job["overrides"] if word not in common) for job in jobs)
        return [{"job": name or "the only job", **job} for name, job in zip(names, jobs, strict=True)]
    except (ValueError, KeyError, TypeError) as error:
        raise MusictagError(f"{path} is damaged ({error}); delete it and start the sweep again") from error


def find_studies(folder: Path) -> Iterator[tuple[str, Path]]:
    """Name and file of every study's list below ``folder``."""
    for path in sorted(folder.glob("**/study-*.json")):
        yield path.stem.removeprefix("study-"), path
