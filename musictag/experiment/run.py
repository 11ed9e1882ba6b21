"""One experiment: data, model, training, test, results on disk; and what makes two experiments the same one.

A run lives in ``runs/<data>/<frontend>-<backend>-<hash8>/``. The hash is over everything that can change the result, so
the same command finds its own folder again: finished, it is skipped; interrupted, it is resumed from ``last.ckpt``.

    config.json       the configuration, resolved
    history.csv       one row an epoch, if there was one     curves.png   the same, drawn
    last.ckpt         to resume from
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
from musictag.experiment.baseline_run import (
    _run_baseline,
    check_baseline,
)
from musictag.experiment.builders import build_source
from musictag.experiment.failures import format_error
from musictag.experiment.identity import baseline_config, check_keys, is_baseline, run_folder
from musictag.experiment.network_run import _run
from musictag.experiment.results.files import read_results, results_as_asked
from musictag.experiment.run_folder import RunLocked, lock_run, write_error
from musictag.experiment.sweeps.slurm import requeue
from musictag.training.signals import SignalHandler, Stopped
from musictag.training.transfer import check_transfer


def run(config: dict[str, Any]) -> dict[str, Any]:
    """Run the experiment that ``config`` (plain containers, see conf/train.yaml) describes; returns its metrics.

    Finished before: the stored metrics are returned and nothing is computed. Interrupted before: it goes on.
    Raises MusictagError for bad input, before any work that would be lost, and RunLocked if another process is at
    work on the same run. A signal that asks for the end saves first, then raises ``Stopped``, and KeyboardInterrupt if
    it was Ctrl-C.
    """
    check_keys(config)
    if is_baseline(config):
        if not is_rank_zero():
            raise SystemExit(0)  # one process is all that a baseline needs
        check_baseline(config)
        config = baseline_config(config)
    else:
        check_transfer(config)
    source = build_source(config)
    run_dir = run_folder(config, source)
    before = read_results(run_dir)
    finished = results_as_asked(run_dir, config)
    if finished is not None:
        done = "nothing to do" if finished == before else "its intervals are computed anew from its predictions"
        rank_zero_say(f"Finished before, {done}: {run_dir}\nTo run it again, delete that folder.")
        return finished
    signal_handler = SignalHandler()
    try:
        # the other processes of this run follow the first
        with signal_handler.installed(), lock_run(run_dir) if is_rank_zero() else nullcontext():
            # another process may have finished it while this one came so far
            metrics = read_results(run_dir)
            if metrics is None and is_baseline(config):
                metrics = _run_baseline(config, source, run_dir)
            elif metrics is None:
                metrics = _run(config, source, run_dir, signal_handler)
    except Stopped as stopped:
        if is_rank_zero():
            saved = "what is finished is saved; the same command goes on from there"
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
    """Where the run of this configuration keeps its results."""
    return run_folder(config, build_source(config))


def results(config: dict[str, Any]) -> dict[str, Any]:
    """The metrics of the finished run of this configuration; raises MusictagError if it has not finished."""
    folder = results_folder(config)
    finished = results_as_asked(folder, config)
    if finished is None:
        raise MusictagError(f"there are no results in {folder}: the run has not finished")
    return finished
