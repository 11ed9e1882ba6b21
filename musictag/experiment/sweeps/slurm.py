"""A job of Slurm that was asked to stop and has saved its work goes back into the queue."""

from __future__ import annotations

import os
import re
import signal
import subprocess


def requeue(signum: int) -> str | None:
    """Puts this process's job back into Slurm's queue; returns what was done, for people, or None where nothing is due.

    Nothing is due outside of Slurm; after Ctrl-C; for a job that was cancelled, which gets SIGTERM as one that is
    pre-empted does; and for SIGUSR2 under submitit, which puts the job back itself.
    """
    job = _job_id()
    if job is None or signum == signal.SIGINT:
        return None
    if os.environ.get("SUBMITIT_EXECUTOR") == "slurm" and signum == signal.SIGUSR2:
        return None
    try:
        told = _scontrol("show", "job", "-o", job)
        if signum == signal.SIGTERM and re.search(r"\bJobState=(CANCELLED|COMPLETING)\b", told):
            return f"Slurm's job {job} was cancelled: it is not put back into the queue"
        _scontrol("requeue", job)
    except (OSError, subprocess.SubprocessError) as error:
        detail = (getattr(error, "stderr", None) or str(error)).strip()
        return f"Slurm's job {job} could not be put back into the queue ({detail}); submit it again: it will go on"
    return f"Slurm's job {job} is put back into the queue; it will go on from there"


def _job_id() -> str | None:
    """Of this process, as scontrol wants it; a job of an array is named by its array."""
    job, array = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_ARRAY_JOB_ID")
    name = f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID')}" if array else job
    return name if name and re.fullmatch(r"\d+(_\d+)?", name) else None


def _scontrol(*arguments: str) -> str:
    done = subprocess.run(("scontrol", *arguments), capture_output=True, text=True, check=True, timeout=60)
    return done.stdout
