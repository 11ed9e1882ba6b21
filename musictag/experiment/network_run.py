"""A run of a network: train, choose the best epoch, test."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from musictag.common.errors import MusictagError
from musictag.common.files import write_json
from musictag.common.processes import KILL, is_rank_zero, rank_zero_say
from musictag.data.datasets import Source
from musictag.data.loading.datamodule import SongData
from musictag.data.manifest import Tag
from musictag.experiment.builders import build_data, build_module, check_songs
from musictag.experiment.failures import explained, in_words
from musictag.experiment.results.files import read_results, write_results
from musictag.experiment.run_folder import _tidy, note_reason
from musictag.experiment.tracking.tracker import make_tracker
from musictag.models.checkpoint import (
    TAGGER_FILE,
    StoredTagger,
    read_checkpoint,
    read_tagger,
    store_tagger,
    tagger_spec,
)
from musictag.training.callbacks.checkpoints import save_tagger
from musictag.training.callbacks.history import History
from musictag.training.distributed.launcher import WatchedDDP
from musictag.training.module import TaggingModule
from musictag.training.signals import Interruption
from musictag.training.trainer import build_trainer, interactive
from musictag.training.transfer import initialise_from


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
    if isinstance(trainer.strategy, WatchedDDP):
        trainer.strategy.on_death = partial(note_reason, run_dir)
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
            trainer.strategy.launcher.kill(KILL)
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
