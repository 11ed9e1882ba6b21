"""Sweeps: what one will run is written down before it begins (musictag/studies.py), and each job runs alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from types import FrameType
from typing import Any

from filelock import FileLock
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from musictag.data.progress import say
from musictag.data.sources import Source
from musictag.errors import MusictagError
from musictag.evaluation.registry import METRICS, headlines
from musictag.files import write_json
from musictag.identity import PIPELINE_KEYS, available_cores, build_source, check_keys, run_folder
from musictag.interruption import SIGNALS, Stopped
from musictag.overrides import readable_params
from musictag.preparing import compose
from musictag.ranks import is_rank_zero
from musictag.results import read_results, results_as_asked
from musictag.running import RunsElsewhere, is_running, note_reason
from musictag.studies import KEYS, list_path, read_jobs

#: Metrics by which a sweeper may search; the second is for data without classification tags.
OBJECTIVES = ("pr_auc", "rmse")
_sources: dict[str, Source] = {}
_GRACE_SECONDS = 20


class WriteDownStudy(Callback):
    """Hydra's callback for the start of a sweep: checks the configuration of every job and writes the list of them.

    A sweeper that chooses its jobs as it goes (Optuna) has no list. ``needs``: a key that each job must be given.
    """

    def __init__(self, needs: str | None = None) -> None:
        self.needs = needs

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        try:
            readable_params(config)
            jobs = job_overrides(config)
            if jobs is not None:
                self._check(jobs, config.hydra.runtime.choices.data)
                write_down(jobs)
        except MusictagError as error:
            sys.exit(f"musictag: {error}")
        except Exception:
            # Hydra would turn it into a warning, and begin
            sys.exit(traceback.format_exc())

    def _check(self, jobs: Sequence[Sequence[str]], data: str) -> None:
        if self.needs and not all(any(word.startswith(f"{self.needs}=") for word in job) for job in jobs):
            raise MusictagError(
                f"{self.needs} is needed: this study has none for data={data}; type for example "
                f"{self.needs}=1000,2000,4000"
            )


def job_overrides(config: DictConfig) -> list[list[str]] | None:
    """The overrides of each job of a grid, in the order in which Hydra's basic sweeper runs them; None where another
    sweeper chooses them as it goes. Raises MusictagError for an interval, of which a grid cannot be made."""
    if config.hydra.runtime.choices["hydra/sweeper"] != "basic":
        return None
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    # not resolved, as Hydra hands them on
    given = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    choices: dict[str, list[str]] = {}
    for override in OverridesParser.create().parse_overrides([*params, *given]):
        if override.is_sweep_override() and not override.is_discrete_sweep():
            raise MusictagError(
                f"{override.input_line}: a grid needs the values themselves, such as 0.001,0.01; an interval can only "
                "be searched (sweep=hyperparameters)"
            )
        key = override.get_key_element()
        if override.is_sweep_override():
            choices[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            choices[key] = [f"{key}={override.get_value_element_as_str()}"]
    return [list(job) for job in product(*choices.values())]


def write_down(jobs: Sequence[Sequence[str]]) -> list[Path]:
    """Adds the jobs to the lists of their studies; returns the lists' files. Says how much is done already.

    Raises MusictagError for a job whose configuration or data set is wrong.
    """
    lists: dict[Path, list[dict[str, Any]]] = {}
    for overrides in jobs:
        config = compose(overrides)
        check_keys(config)
        folder = run_folder(config, _source(config))
        lists.setdefault(list_path(folder.parent, config["study"]), []).append(
            {
                "overrides": list(overrides),
                "run": folder.name,
                "max_epochs": None if config.get("baseline") else config["trainer"]["max_epochs"],
                "patches": patches_to_train(config),
            }
        )
    for path, listed in lists.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            new = {job["run"] for job in listed}
            before = [{key: job[key] for key in KEYS} for job in read_jobs(path) if job["run"] not in new]
            write_json(path, {"jobs": before + listed})
        done = sum(read_results(path.parent / job["run"]) is not None for job in listed)
        finished = f", {done} of them finished before" if done else ""
        say(f"{len(listed)} jobs{finished}; to watch them: musictag status {path.parent}")
    return list(lists)


def patches_to_train(config: dict[str, Any]) -> int | None:
    """How many patches a network will see at most; None where that is not known, and for baselines."""
    songs = config["data"]["train_songs"]
    if config.get("baseline") or songs is None:
        return None
    return songs * config["data"]["patches_per_song"] * config["trainer"]["max_epochs"]


def run_job(config: dict[str, Any], overrides: Sequence[str], launcher: dict[str, Any]) -> dict[str, Any] | None:
    """One job of a sweep in a process of its own; returns its metrics, or None if it failed, and why is on disk.

    Lightning's launcher re-executes ``sys.argv``, and leaves its rank behind: within one process every rank would start
    the whole sweep again, and later jobs would train on a part of the data. A finished job is not started again.
    """
    folder = None
    try:
        check_keys(config)
        folder = run_folder(config, _source(config))
        finished = results_as_asked(folder, config)
        # on a cluster each rank comes here: the others belong to the process that the first one has started
        if finished is None and is_rank_zero() and is_running(folder):
            raise RunsElsewhere(f"another process is at work on {folder}")
        if finished is None:
            command = [sys.executable, str(Path(__file__).resolve().parents[1] / "train.py"), *overrides]
            status = run_to_its_end([*command, "hydra.mode=RUN"], _environment(launcher))
            if status - 128 in SIGNALS:
                say(f"the job {' '.join(overrides)} was stopped, and has saved: the same command goes on")
                return None
            if status != 0 and read_results(folder) is None:
                if is_rank_zero() and is_running(folder):  # who began at the same moment has it
                    raise RunsElsewhere(f"another process is at work on {folder}")
                raise MusictagError(_why(status))
            # looked up anew: the data set may have changed since the sweep began
            folder = run_folder(config, build_source(config))
            finished = read_results(folder)
            if finished is None:
                raise MusictagError(f"its process ended well, but there are no results in {folder}")
        say(f"{folder}: {_headline(finished)}")
        return finished
    except RunsElsewhere as error:
        say(f"the job {' '.join(overrides)} is left out: {error}")
        return None
    except MusictagError as error:
        say(f"the job {' '.join(overrides)} failed: {error}")
        if folder is not None and not is_running(folder):
            with suppress(OSError):
                folder.mkdir(parents=True, exist_ok=True)
            note_reason(folder, str(error))
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


def _source(config: dict[str, Any]) -> Source:
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
