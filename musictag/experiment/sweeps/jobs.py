"""Runs the jobs of a sweep, each in its own process; study.py writes their list before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from musictag.common.errors import MusictagError
from musictag.common.processes import available_cores, is_rank_zero
from musictag.common.progress import say
from musictag.evaluation.metrics import METRICS, headlines
from musictag.experiment.builders import shared_source
from musictag.experiment.identity import check_keys
from musictag.experiment.results.files import read_results, results_as_asked
from musictag.experiment.run import make_run, results_folder
from musictag.experiment.run_folder import RunLocked, is_running, write_error
from musictag.training.signals import SIGNALS, Stopped

#: Metrics that a sweeper may optimize; the second one for data without classification tags.
OBJECTIVES = ("pr_auc", "rmse")
_GRACE_SECONDS = 20


def run_job(config: dict[str, Any], overrides: Sequence[str], launcher: dict[str, Any]) -> dict[str, Any] | None:
    """Run one job of a sweep in its own process; returns its metrics, or None if it failed (see its error.txt).

    Lightning's launcher re-executes ``sys.argv`` and leaves its rank in the environment: within one process every rank
    would start the whole sweep again, and later jobs would train on a share of the data. A finished job is skipped.
    """
    folder = None
    try:
        check_keys(config)
        folder = make_run(config).folder(shared_source(config))
        finished = results_as_asked(folder, config)
        # on a cluster each rank executes this: the other ranks belong to the process that rank 0 has started
        if finished is None and is_rank_zero() and is_running(folder):
            raise RunLocked(f"another process is working on {folder}")
        if finished is None:
            command = [sys.executable, str(Path(__file__).resolve().parents[3] / "train.py"), *overrides]
            status = run_to_completion([*command, "hydra.mode=RUN"], _environment(launcher))
            if status - 128 in SIGNALS:
                say(f"the job {' '.join(overrides)} was stopped and has saved its state: rerun the command to resume")
                return None
            if status != 0 and read_results(folder) is None:
                if is_rank_zero() and is_running(folder):  # another process started it at the same moment
                    raise RunLocked(f"another process is working on {folder}")
                raise MusictagError(_why(status))
            # looked up again: the data set may have changed since the sweep began
            folder = results_folder(config)
            finished = read_results(folder)
            if finished is None:
                raise MusictagError(f"its process succeeded, but there are no results in {folder}")
        say(f"{folder}: {_headline(finished)}")
        return finished
    except RunLocked as error:
        say(f"the job {' '.join(overrides)} is skipped: {error}")
        return None
    except MusictagError as error:
        say(f"the job {' '.join(overrides)} failed: {error}")
        if folder is not None and not is_running(folder):
            with suppress(OSError):
                folder.mkdir(parents=True, exist_ok=True)
            write_error(folder, str(error))
        if not is_rank_zero():
            # The other tasks of a Slurm job may wait for this one forever: Slurm ends them once this one fails (see
            # conf/hydra/launcher/submitit_slurm.yaml). If all of them fail, rank 0 has time to report it.
            time.sleep(_GRACE_SECONDS)
            sys.exit(1)
        return None


def run_to_completion(command: Sequence[str], environment: dict[str, str]) -> int:
    """Run a job's process, pass signals on to it, and wait until it has saved; returns its exit status.

    A signal that ends a sweep does so after the job has ended: as KeyboardInterrupt (Ctrl-C), as ``Stopped`` (SIGTERM),
    or by the handler that was installed before (that of submitit requeues a Slurm job).
    """
    received: list[int] = []
    process = None

    def pass_on(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        # the terminal itself sends Ctrl-C to all processes
        if process is not None and signum != signal.SIGINT:
            process.send_signal(signum)

    is_main = threading.current_thread() is threading.main_thread()
    before = {signum: signal.signal(signum, pass_on) for signum in SIGNALS} if is_main else {}
    try:
        process = subprocess.Popen(command, env=environment)
        status = process.wait()
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler if handler is not None else signal.SIG_DFL)
    for signum in received:
        handler = before[signum]
        if callable(handler):  # that of Python for Ctrl-C, or that of submitit
            handler(signum, None)
        elif handler != signal.SIG_IGN:
            raise Stopped(signum)
    return status


def _headline(metrics: dict[str, Any]) -> str:
    found = [(metric, metrics["test"].get(metric.key)) for metric in headlines()]
    return ", ".join(f"{metric.label} {metric.show(entry['value'])}" for metric, entry in found if entry is not None)


def _why(status: int) -> str:
    if status > 0:
        return f"its process ended with status {status}; see its output above or in the log of the launcher"
    name = signal.Signals(-status).name
    memory = ": perhaps the machine ran out of memory" if name == "SIGKILL" else ""
    return f"its process was killed by {name}{memory}"


def _environment(launcher: dict[str, Any]) -> dict[str, str]:
    """The environment of a job's process: no rank of another job, and its share of the cores if several run at once."""
    ranks = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    environment = {key: value for key, value in os.environ.items() if key not in ranks}
    at_once = launcher.get("n_jobs") or 1
    if at_once != 1:
        cores = available_cores()
        environment.setdefault("OMP_NUM_THREADS", str(max(1, cores // (at_once if at_once > 0 else cores))))
    return environment


def objective(metrics: dict[str, Any] | None) -> float | None:
    """The value that a sweeper maximizes: the first of OBJECTIVES that the *validation* songs have, negated if lower
    is better. None for a failed job, or if there is none of them. Test scores must not be used to choose settings.
    """
    if metrics is None:
        return None
    found = {key: metrics["validation"].get(f"val_{key}") for key in OBJECTIVES}
    return next((METRICS[key].sign * value for key, value in found.items() if value is not None), None)
