"""Runs an experiment: data, model, training, test, results on disk.

A run lives in ``runs/<data>/<frontend>-<backend>-<hash8>/``. The hash covers everything that can change the result, so
the same command finds its folder again: a finished run is skipped, an interrupted one resumed from ``last.ckpt``.

    config.json       the configuration, resolved
    history.csv       one row per epoch, if any              curves.png   plots of these
    last.ckpt         the checkpoint to resume from
    tagger.safetensors   the network of the best epoch; musictag.load reads it
    predictions.npz   test songs, scores, targets            tags.png     test scores per tag
    metrics.json      written last: the run is finished      error.txt    why it failed, if it did
"""

from __future__ import annotations

import signal
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from musictag.common.errors import MusictagError
from musictag.common.processes import is_rank_zero, rank_zero_say
from musictag.experiment.baseline_run import BaselineRun
from musictag.experiment.builders import build_source
from musictag.experiment.choices import remove_choices
from musictag.experiment.contract import Run
from musictag.experiment.failures import format_error
from musictag.experiment.identity import check_keys
from musictag.experiment.network_run import NetworkRun
from musictag.experiment.results.files import read_results, results_as_asked
from musictag.experiment.run_folder import RunLocked, lock_run, write_error
from musictag.experiment.sweeps.slurm import requeue
from musictag.training.signals import SignalHandler, Stopped


def make_run(config: dict[str, Any]) -> Run:
    """The kind of run that ``config`` asks for: a baseline on features where there is one, else a network."""
    return NetworkRun(config) if config.get("baseline") is None else BaselineRun(config)


def run(config: dict[str, Any]) -> dict[str, Any]:
    """Run the experiment that ``config`` (plain containers, see conf/train.yaml) describes; returns its metrics.

    A finished run is not repeated: its stored metrics are returned. An interrupted run is resumed. Raises MusictagError
    for bad input, before any work that would be lost, and RunLocked if another process works on the same run. A signal
    to stop saves first, then raises ``Stopped``, or KeyboardInterrupt if it was Ctrl-C.
    """
    check_keys(config)
    this = make_run(config)
    if this.single_process and not is_rank_zero():
        raise SystemExit(0)
    this.check()
    source = build_source(config)
    run_dir = this.folder(source)
    before = read_results(run_dir)
    finished = results_as_asked(run_dir, config)
    if finished is not None:
        done = "its intervals are recomputed from its predictions"
        if before is not None and finished["test"] == before["test"]:
            done = "nothing to do" if finished == before else "now labelled " + finished["config"]["label"]
        rank_zero_say(f"Finished before, {done}: {run_dir}\nTo run it again, delete that folder.")
        if is_rank_zero():
            remove_choices(run_dir)  # a kill may have come between the results and this
        return finished
    signal_handler = SignalHandler()
    try:
        # only rank 0 takes the lock: the other processes belong to the same run
        with signal_handler.installed(), lock_run(run_dir) if is_rank_zero() else nullcontext():
            # another process may have finished the run in the meantime
            metrics = read_results(run_dir) or this.execute(source, run_dir, signal_handler)
    except Stopped as stopped:
        if is_rank_zero():
            saved = "finished work is saved; rerun the command to continue"
            rank_zero_say("\n".join(filter(None, (f"{stopped}: {saved}: {run_dir}", requeue(stopped.signum)))))
        if stopped.signum == signal.SIGINT:
            raise KeyboardInterrupt from stopped
        raise
    except RunLocked:
        raise
    except Exception as error:
        write_error(run_dir, format_error(error))
        raise
    (run_dir / "error.txt").unlink(missing_ok=True)
    return metrics


def results_folder(config: dict[str, Any]) -> Path:
    """The folder of the run with this configuration."""
    return make_run(config).folder(build_source(config))


def results(config: dict[str, Any]) -> dict[str, Any]:
    """The metrics of the finished run of this configuration; raises MusictagError if the run has not finished."""
    folder = results_folder(config)
    finished = results_as_asked(folder, config)
    if finished is None:
        raise MusictagError(f"there are no results in {folder}: the run has not finished")
    return finished
