"""Requeues a Slurm job that was asked to stop and has saved its work."""

from __future__ import annotations

import os
import re
import signal
import subprocess


def requeue(signum: int) -> str | None:
    """Requeue the Slurm job of this process; returns a message about it, or None if there is nothing to do.

    Nothing is to be done outside of Slurm, after Ctrl-C, and for SIGUSR2 under submitit, which requeues the job itself.
    A job that was cancelled gets SIGTERM like one that is preempted, and is not requeued.
    """
    job = _job_id()
    if job is None or signum == signal.SIGINT:
        return None
    if os.environ.get("SUBMITIT_EXECUTOR") == "slurm" and signum == signal.SIGUSR2:
        return None
    try:
        told = _scontrol("show", "job", "-o", job)
        if signum == signal.SIGTERM and re.search(r"\bJobState=(CANCELLED|COMPLETING)\b", told):
            return f"Slurm job {job} was cancelled: it is not requeued"
        _scontrol("requeue", job)
    except (OSError, subprocess.SubprocessError) as error:
        detail = (getattr(error, "stderr", None) or str(error)).strip()
        return f"Slurm job {job} could not be requeued ({detail}); submit it again to resume"
    return f"Slurm job {job} is requeued, and will resume from there"


def _job_id() -> str | None:
    """The id of this process's Slurm job for scontrol; a job of an array has the id of the array and an index."""
    job, array = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_ARRAY_JOB_ID")
    name = f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID')}" if array else job
    return name if name and re.fullmatch(r"\d+(_\d+)?", name) else None


def _scontrol(*arguments: str) -> str:
    done = subprocess.run(("scontrol", *arguments), capture_output=True, text=True, check=True, timeout=60)
    return done.stdout
