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

import logging
import signal
import time
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from musictag.assembly import build_data, build_module, build_trainer, check_songs, interactive
from musictag.baseline import (
    baseline_data,
    baseline_facts,
    baseline_features,
    build_baseline,
    check_baseline,
    fit_tagger,
    remove_fitted,
)  # fmt: skip
from musictag.callbacks import History, save_tagger
from musictag.checkpoint import StoredTagger, read_checkpoint, read_tagger, store_tagger, tagger_spec
from musictag.data.datamodule import SongData
from musictag.data.manifest import Tag
from musictag.data.sources import Source
from musictag.errors import MusictagError
from musictag.explaining import explained, in_words
from musictag.files import write_json
from musictag.identity import (
    baseline_config,
    build_source,
    check_keys,
    is_baseline,
    prepare_workers,
    run_folder,
)  # fmt: skip
from musictag.importances import IMPORTANCE_COLUMNS, write_importances
from musictag.interruption import Interruption, Stopped
from musictag.published import TAGGER_FILE
from musictag.ranks import is_rank_zero, rank_zero_say
from musictag.results import PACKAGES, read_results, results_as_asked, write_results, write_scores
from musictag.running import RunsElsewhere, hold, note_reason
from musictag.slurm import requeue
from musictag.tracking import make_tracker
from musictag.training.module import TaggingModule
from musictag.transfer import check_transfer, initialise_from


def run(config: dict[str, Any]) -> dict[str, Any]:
    """Run the experiment that ``config`` (plain containers, see conf/train.yaml) describes; returns its metrics.

    Finished before: the stored metrics are returned and nothing is computed. Interrupted before: it goes on.
    Raises MusictagError for bad input, before any work that would be lost, and RunsElsewhere if another process is at
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
    interruption = Interruption()
    try:
        # the other processes of this run follow the first
        with interruption.heard(), hold(run_dir) if is_rank_zero() else nullcontext():
            # another process may have finished it while this one came so far
            metrics = read_results(run_dir)
            if metrics is None and is_baseline(config):
                metrics = _run_baseline(config, source, run_dir)
            elif metrics is None:
                metrics = _run(config, source, run_dir, interruption)
    except Stopped as stopped:
        if is_rank_zero():
            saved = "what is finished is saved; the same command goes on from there"
            rank_zero_say("\n".join(filter(None, (f"{stopped}: {saved}: {run_dir}", requeue(stopped.signum)))))
        if stopped.signum == signal.SIGINT:
            raise KeyboardInterrupt from stopped
        raise
    except RunsElsewhere:
        raise
    except Exception as error:
        note_reason(run_dir, in_words(error))
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


def _run(config: dict[str, Any], source: Source, run_dir: Path, interruption: Interruption) -> dict[str, Any]:
    began = time.perf_counter()
    _quieten()
    if is_rank_zero():
        _tidy(run_dir)
    pl.seed_everything(config["seed"], workers=True, verbose=False)

    data = build_data(config, source)
    will_train = config["trainer"]["max_epochs"] != 0
    module, started_from = _model(config, source, data, source.learnable_manifest().tags)
    data.margin_samples = module.tagger.frontend.margin_samples
    history = History(run_dir / "history.csv", announce=not interactive())
    tracker = make_tracker(config, run_dir)
    trainer = build_trainer(config, run_dir, history, tracker.loggers, interruption)
    data.prepare_data()
    data.setup()
    if data.tags != source.learnable_manifest().tags:  # some went with songs that could not be read
        pl.seed_everything(config["seed"], workers=True, verbose=False)
        module, started_from = _model(config, source, data, data.tags)
    check_songs(data, trainer.world_size)
    prepared = time.perf_counter()

    run_dir.mkdir(parents=True, exist_ok=True)
    last = run_dir / "last.ckpt"
    best_path = run_dir / TAGGER_FILE
    if best_path.exists():
        _read_best(best_path)  # now, and not when everything has been trained
    if trainer.is_global_zero:
        write_json(run_dir / "config.json", config)
    if last.exists():
        rank_zero_say(_check_checkpoint(last, module))
    elif started_from is not None:
        rank_zero_say(started_from)
    else:
        module.tagger.fit_normalisation(data.normalisation_waveforms())
    try:
        if trainer.is_global_zero:
            tracker.start()
        validation = None
        if will_train:
            interruption.put_off(True)
            trainer.fit(module, datamodule=data, ckpt_path=str(last) if last.exists() else None)
            interruption.put_off(False)
        else:
            validation = _judge_as_given(trainer, module, data, best_path)
        trained = time.perf_counter()
        best = _read_best(best_path)
        module.tagger.load_state_dict(best.state)
        trainer.test(module, datamodule=data, verbose=False)
        metrics = None
        if trainer.is_global_zero:
            metrics = write_results(
                run_dir,
                config=config,
                data=data,
                network=module.tagger,
                scores=module.test_scores,
                history=history.rows,
                best_epoch=best.description["epoch"],
                validation=validation,
                seconds={
                    "prepare": prepared - began,
                    "train": trained - prepared,
                    "test": module.test_seconds,
                },
                device=str(trainer.strategy.root_device),
                on_scored=partial(_add_scores, best_path, best),
            )
            tracker.finish(metrics, data, module.test_scores)
        trainer.strategy.barrier()
        return metrics if metrics is not None else read_results(run_dir)
    except BaseException as error:
        why = explained(error, trainer, config)
        if isinstance(why, Exception):
            note_reason(run_dir, in_words(why))  # before anything that may hang
        tracker.close(exit_code=1)
        # the other processes wait for this one in a collective operation, which no gentler signal ends
        if hasattr(trainer.strategy.launcher, "kill"):
            trainer.strategy.launcher.kill(signal.SIGKILL)
        if why is error:
            raise
        raise why from error


def _judge_as_given(trainer: pl.Trainer, module: TaggingModule, data: SongData, best: Path) -> dict[str, float]:
    """``trainer.max_epochs=0``: the weights that were given are the best ones; returns their validation scores."""
    (values,) = trainer.validate(module, datamodule=data, verbose=False)
    if trainer.is_global_zero:
        save_tagger(best, module.tagger, None, values)
    trainer.strategy.barrier()
    return {name: value for name, value in values.items() if name.startswith("val_")}


def _add_scores(path: Path, stored: StoredTagger, metrics: dict[str, Any]) -> None:
    """Write into the tagger's file, too, how it scored on the test songs."""
    scores = {name: entry["value"] for name, entry in metrics.items() if isinstance(entry, dict) and "value" in entry}
    store_tagger(path, stored.description | {"test": scores}, stored.state)


def _model(
    config: dict[str, Any], source: Source, data: SongData, tags: Sequence[Tag]
) -> tuple[TaggingModule, str | None]:
    """The untrained model of these tags; and in words what it starts from, where it does not from nothing."""
    module = build_module(config, source, data, tags)
    if config["init_from"] is None:
        return module, None
    return module, initialise_from(module.tagger, config["init_from"], config["trainer"]["max_epochs"] != 0)


def _run_baseline(config: dict[str, Any], source: Source, run_dir: Path) -> dict[str, Any]:
    """Features of the same songs, a model of each tag, the same test."""
    began = time.perf_counter()
    _tidy(run_dir)
    baseline = build_baseline(config)
    data = baseline_data(config, source)
    data.prepare_data()
    data.setup()
    prepared = time.perf_counter()

    run_dir.mkdir(parents=True, exist_ok=True)
    write_json(run_dir / "config.json", config)
    tracker = make_tracker(config, run_dir)
    tracker.start()
    try:
        features = baseline_features(data, prepare_workers(config))
        computed = time.perf_counter()
        tagger = fit_tagger(baseline, config["baseline"], data, features, config["seed"], run_dir)
        fitted = time.perf_counter()
        scores = tagger.scores(features["test"])
        seconds = {"prepare": prepared - began, "features": computed - prepared, "train": fitted - computed}
        seconds["test"] = time.perf_counter() - fitted
        rows = write_importances(tagger, run_dir)
        metrics = write_scores(
            run_dir,
            config=config,
            data=data,
            scores=scores,
            own=baseline_facts(tagger, data, features, seconds),
            device="cpu",
            packages=(*PACKAGES, "librosa", "lightgbm", "scikit-learn", "scipy"),
        )
        remove_fitted(run_dir)
    except BaseException:
        tracker.close(exit_code=1)
        raise
    tracker.log_table("importances", IMPORTANCE_COLUMNS, rows)
    tracker.finish(metrics, data, scores)
    return metrics


def _tidy(run_dir: Path) -> None:
    """Removes what an earlier process left: why it failed, and what it was writing when it was killed."""
    (run_dir / "error.txt").unlink(missing_ok=True)
    for leftover in run_dir.glob("**/.*.part"):
        leftover.unlink()


def _read_best(path: Path) -> StoredTagger:
    try:
        return read_tagger(path)
    except MusictagError as error:
        raise MusictagError(f"{error}. Delete the folder to train again.") from error


def _check_checkpoint(path: Path, module: TaggingModule) -> str:
    """Says where the checkpoint goes on; raises MusictagError for one that is damaged, or of other tags."""
    try:
        content = read_checkpoint(path)
        spec = tagger_spec(content)
        if spec is None:
            raise ValueError("it holds no tagger")
    except ValueError as error:
        raise MusictagError(
            f"{path} is damaged and cannot be resumed from: {error}. Delete it to train from the start; "
            f"{TAGGER_FILE} beside it, if there is one, still holds the best model so far."
        ) from error
    tags = module.hparams["tagger"]["tags"]
    if spec["tags"] != tags:
        raise MusictagError(
            f"{path} was trained for other tags ({len(spec['tags'])}: {_some_names(spec['tags'])}) than the data has "
            f"now ({len(tags)}: {_some_names(tags)}). Delete it to train from the start."
        )
    finished = len(content.get("callbacks", {}).get("History", {}).get("rows", ()))
    return f"Going on after {finished} finished epochs, where {path} was saved"


def _some_names(tags: list[dict[str, str]]) -> str:
    return ", ".join(tag["name"] for tag in tags[:5]) + (", ..." if len(tags) > 5 else "")


def _quieten() -> None:
    """Leave out what Lightning says about things that are as they should be here."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in (
        "Checkpoint directory",
        "The number of training batches",
        ".*does not have many workers",
        "Found .* in eval mode",
        # an epoch that was interrupted goes on with the batch that is next: SongData.state_dict
        "You're resuming from a checkpoint that ended before the epoch ended",
        # what is logged is the same on all processes already
        ".*sync_dist=True",
    ):
        warnings.filterwarnings("ignore", message)
    warnings.filterwarnings("ignore", category=FutureWarning, module="pytorch_lightning")
    warnings.filterwarnings("ignore", ".*isinstance\\(treespec, LeafSpec\\)")
