"""The jobs of a sweep, each in a process of its own; study.py, beside this file, writes the list of them first."""

from __future__ import annotations

import json
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
from musictag.data.datasets import Source
from musictag.evaluation.registry import METRICS, headlines
from musictag.experiment.builders import build_source
from musictag.experiment.identity import PIPELINE_KEYS, check_keys
from musictag.experiment.results.files import read_results, results_as_asked
from musictag.experiment.run import make_run, results_folder
from musictag.experiment.run_folder import RunLocked, is_running, write_error
from musictag.training.signals import SIGNALS, Stopped

#: Metrics by which a sweeper may search; the second is for data without classification tags.
OBJECTIVES = ("pr_auc", "rmse")
_sources: dict[str, Source] = {}
_GRACE_SECONDS = 20


def run_job(config: dict[str, Any], overrides: Sequence[str], launcher: dict[str, Any]) -> dict[str, Any] | None:
    """One job of a sweep in a process of its own; returns its metrics, or None if it failed, and why is on disk.

    Lightning's launcher re-executes ``sys.argv``, and leaves its rank behind: within one process every rank would start
    the whole sweep again, and later jobs would train on a part of the data. A finished job is not started again.
    """
    folder = None
    try:
        check_keys(config)
        folder = make_run(config).folder(shared_source(config))
        finished = results_as_asked(folder, config)
        # on a cluster each rank comes here: the others belong to the process that the first one has started
        if finished is None and is_rank_zero() and is_running(folder):
            raise RunLocked(f"another process is at work on {folder}")
        if finished is None:
            command = [sys.executable, str(Path(__file__).resolve().parents[3] / "train.py"), *overrides]
            status = run_to_its_end([*command, "hydra.mode=RUN"], _environment(launcher))
            if status - 128 in SIGNALS:
                say(f"the job {' '.join(overrides)} was stopped, and has saved: the same command goes on")
                return None
            if status != 0 and read_results(folder) is None:
                if is_rank_zero() and is_running(folder):  # who began at the same moment has it
                    raise RunLocked(f"another process is at work on {folder}")
                raise MusictagError(_why(status))
            # looked up anew: the data set may have changed since the sweep began
            folder = results_folder(config)
            finished = read_results(folder)
            if finished is None:
                raise MusictagError(f"its process ended well, but there are no results in {folder}")
        say(f"{folder}: {_headline(finished)}")
        return finished
    except RunLocked as error:
        say(f"the job {' '.join(overrides)} is left out: {error}")
        return None
    except MusictagError as error:
        say(f"the job {' '.join(overrides)} failed: {error}")
        if folder is not None and not is_running(folder):
            with suppress(OSError):
                folder.mkdir(parents=True, exist_ok=True)
            write_error(folder, str(error))
        if not is_rank_zero():
            # The other tasks of a job of Slurm may wait for this one for ever: Slurm ends them once this one fails (see
            # conf/hydra/launcher/submitit_slurm.yaml). Where all of them fail, the first one has time to say so.
            time.sleep(_GRACE_SECONDS)
            sys.exit(1)
        return None


def run_to_its_end(command: Sequence[str], environment: dict[str, str]) -> int:
    """Runs a job's process, which gets the signals that come here, and waits until it has saved; returns its status.

    A signal that ends a sweep does so once the job has ended: as KeyboardInterrupt (Ctrl-C), ``Stopped`` (SIGTERM), or
    what else was to happen (submitit's handlers put a job of Slurm back into the queue).
    """
    came: list[int] = []
    process = None

    def pass_on(signum: int, frame: FrameType | None) -> None:
        came.append(signum)
        # the terminal sends Ctrl-C to all processes by itself
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
    for signum in came:
        handler = before[signum]
        if callable(handler):  # Python's own for Ctrl-C, or submitit's
            handler(signum, None)
        elif handler != signal.SIG_IGN:
            raise Stopped(signum)
    return status


def _headline(metrics: dict[str, Any]) -> str:
    found = [(metric, metrics["test"].get(metric.key)) for metric in headlines()]
    return ", ".join(f"{metric.label} {metric.show(entry['value'])}" for metric, entry in found if entry is not None)


def _why(status: int) -> str:
    if status > 0:
        return f"its process ended with status {status}; its last words stand above, or in the log of the launcher"
    name = signal.Signals(-status).name
    memory = ": perhaps the machine ran out of memory" if name == "SIGKILL" else ""
    return f"its process was ended by {name}{memory}"


def _environment(launcher: dict[str, Any]) -> dict[str, str]:
    """For a job's process: no rank of another job, and its share of the cores where several run at once."""
    ranks = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    environment = {key: value for key, value in os.environ.items() if key not in ranks}
    at_once = launcher.get("n_jobs") or 1
    if at_once != 1:
        cores = available_cores()
        environment.setdefault("OMP_NUM_THREADS", str(max(1, cores // (at_once if at_once > 0 else cores))))
    return environment


def shared_source(config: dict[str, Any]) -> Source:
    """The data set of a job, which is read once for all jobs."""
    described = {key: value for key, value in config["data"].items() if key not in PIPELINE_KEYS}
    key = json.dumps([described, config["data_dir"]], sort_keys=True)
    if key not in _sources:
        _sources[key] = build_source(config)
    return _sources[key]


def objective(metrics: dict[str, Any] | None) -> float | None:
    """What a sweeper may maximise: the first of OBJECTIVES that the *validation* songs have, negative if lower is best.

    None for a job that failed, or that has none of them. Choosing settings by test scores would make these scores
    worthless.
    """
    if metrics is None:
        return None
    found = {key: metrics["validation"].get(f"val_{key}") for key in OBJECTIVES}
    return next((METRICS[key].sign * value for key, value in found.items() if value is not None), None)
