"""One experiment: data, model, training, test, results on disk; and what makes two experiments the same one.

A run lives in ``runs/<data>/<frontend>-<backend>-<hash8>/``. The hash is over everything that can change the result, so
the same command finds its own folder again: finished, it is skipped; interrupted, it is resumed from ``last.ckpt``.

    config.json       the configuration, resolved
    history.csv       one row an epoch                       curves.png   the same, drawn
    last.ckpt         to resume from                         best.ckpt    the tagger; musictag.load reads it
    predictions.npz   test songs, scores, targets            tags.png     test scores per tag
    metrics.json      written last: the run is finished      error.txt    why it failed, if it did
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import time
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from musictag.build import build, find_class, settings
from musictag.callbacks import (
    AtomicCheckpointIO,
    EpochCheckpoint,
    History,
    ResumableEarlyStopping,
)
from musictag.checkpoint import read_checkpoint, tagger_spec
from musictag.data.datamodule import SongData
from musictag.data.sources import Source
from musictag.errors import MusictagError
from musictag.files import write_json
from musictag.results import read_results, write_results
from musictag.tagger import Tagger
from musictag.tracking import make_tracker
from musictag.training import MONITORS, TaggingModule

#: Every key that is read, by group; those of front-end, back-end, data and logger are checked by who reads them.
KEYS = {
    "": (
        "frontend", "backend", "data", "trainer", "logger", "evaluation", "objective", "seed", "study", "names",
        "runs_dir", "data_dir",
    ),
    "trainer": (
        "max_epochs", "early_stopping_patience", "monitor", "batch_size", "accumulate_batches", "patches_per_song",
        "learning_rate", "weight_decay", "schedule", "plateau_patience", "plateau_factor", "gradient_clip", "precision",
        "compile", "accelerator", "devices", "num_nodes", "strategy", "sync_batch_norm",
    ),
    "evaluation": ("mode", "batch_size", "bootstrap_resamples", "confidence"),
}  # fmt: skip
#: Keys of ``data`` that belong to the pipeline; the others describe the source.
PIPELINE_KEYS = ("patch_seconds", "train_songs", "num_workers", "prepare_workers", "max_bad_fraction")
#: Keys that cannot change the result, and therefore not the identity of a run.
INDIFFERENT_KEYS = (
    "runs_dir", "data_dir", "logger", "study", "names", "evaluation.batch_size",
    "data.num_workers", "data.prepare_workers", "data.max_bad_fraction",
    "trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy",
)  # fmt: skip


def run(config: dict[str, Any]) -> dict[str, Any]:
    """Run the experiment that ``config`` (plain containers, see conf/train.yaml) describes; returns its metrics.

    Finished before: the stored metrics are returned and nothing is computed. Interrupted before: it goes on.
    Raises MusictagError for bad input, before any work that would be lost.
    """
    check_keys(config)
    source = build_source(config)
    run_dir = run_folder(config, source)
    finished = read_results(run_dir)
    if finished is not None:
        print(f"Finished before, nothing to do: {run_dir}\nTo run it again, delete that folder.")
        return finished
    try:
        metrics = _run(config, source, run_dir)
    except Exception as error:
        if run_dir.exists() and int(os.environ.get("LOCAL_RANK", 0)) == 0:
            reason = f"{error}\n" if isinstance(error, MusictagError) else traceback.format_exc()
            with suppress(OSError):  # the disk may be full: that is no reason to hide the first error
                (run_dir / "error.txt").write_text(reason)
        raise
    (run_dir / "error.txt").unlink(missing_ok=True)
    return metrics


def check_keys(config: dict[str, Any]) -> None:
    """Raise MusictagError for a key that nothing would read."""
    for name, known in KEYS.items():
        given = config if name == "" else config[name]
        if unknown := sorted(set(given) - set(known)):
            where = f"{name} has no key" if name else "there is no key"
            raise MusictagError(
                f"{where} {', '.join(unknown)}; {'it has' if name else 'the keys are'} {', '.join(known)}"
            )


def results_folder(config: dict[str, Any]) -> Path:
    """Where the run of this configuration keeps its results."""
    return run_folder(config, build_source(config))


def results(config: dict[str, Any]) -> dict[str, Any]:
    """The metrics of the finished run of this configuration; raises MusictagError if it has not finished."""
    folder = results_folder(config)
    finished = read_results(folder)
    if finished is None:
        raise MusictagError(f"there are no results in {folder}: the run has not finished")
    return finished


def build_source(config: dict[str, Any]) -> Source:
    """The data set that ``config["data"]`` describes; raises MusictagError for keys that it does not know."""
    spec = {key: value for key, value in config["data"].items() if key not in PIPELINE_KEYS}
    accepted = settings(find_class(spec.get("_target_"), Source))
    place = {"data_dir": config["data_dir"], "workers": _prepare_workers(config)}
    return build(spec, Source, **{key: value for key, value in place.items() if key in accepted})


def run_folder(config: dict[str, Any], source: Source) -> Path:
    """Where the run of this configuration lives: the same configuration, the same folder."""
    identity = _without(config, INDIFFERENT_KEYS) | {"audio": source.fingerprint(), "songs": source.manifest().digest()}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    names = config["names"]
    return Path(config["runs_dir"]) / source.name / f"{names['frontend']}-{names['backend']}-{digest}"


def _run(config: dict[str, Any], source: Source, run_dir: Path) -> dict[str, Any]:
    began = time.perf_counter()
    _quieten()
    settings = config["trainer"]
    pl.seed_everything(config["seed"], workers=True, verbose=False)

    data = SongData(
        source,
        config["data_dir"],
        patch_seconds=config["data"]["patch_seconds"],
        batch_size=settings["batch_size"],
        patches_per_song=settings["patches_per_song"],
        train_songs=config["data"]["train_songs"],
        seed=config["seed"],
        num_workers=config["data"]["num_workers"],
        eval_batch_size=config["evaluation"]["batch_size"],
        evaluation_mode=config["evaluation"]["mode"],
        prepare_workers=_prepare_workers(config),
        max_bad_fraction=config["data"]["max_bad_fraction"],
    )
    module = build_module(config, source, data)
    data.prepare_data()
    data.setup()
    prepared = time.perf_counter()

    run_dir.mkdir(parents=True, exist_ok=True)
    last = run_dir / "last.ckpt"
    history = History(run_dir / "history.csv", announce=not _interactive())
    tracker = make_tracker(config, run_dir)
    trainer = build_trainer(settings, run_dir, history, tracker.lightning)
    if settings["batch_size"] % trainer.world_size:
        raise MusictagError(
            f"trainer.batch_size={settings['batch_size']} is the batch of all {trainer.world_size} processes together "
            f"and must be divisible by their number; type for example trainer.batch_size={trainer.world_size * 16}"
        )
    write_json(run_dir / "config.json", config)
    if last.exists():
        print(f"Going on from the last finished epoch: {last}")
        _check_checkpoint(last, module)
    else:
        module.tagger.fit_normalisation(data.normalisation_waveforms())
    try:
        trainer.fit(module, datamodule=data, ckpt_path=str(last) if last.exists() else None)
        if trainer.interrupted:
            raise KeyboardInterrupt
        trained = time.perf_counter()
        best = read_checkpoint(run_dir / "best.ckpt")
        module.load_state_dict(best["state_dict"])
        trainer.test(module, datamodule=data, verbose=False)
        metrics = None
        if trainer.is_global_zero:
            metrics = write_results(
                run_dir,
                config=config,
                data=data,
                tagger=module.tagger,
                scores=module.test_scores,
                history=history.rows,
                best_epoch=best["epoch"],
                seconds={
                    "prepare": prepared - began,
                    "train": trained - prepared,
                    "test": module.test_seconds,
                },
                device=str(trainer.strategy.root_device),
            )
            tracker.finish(metrics, data, module.test_scores)
        trainer.strategy.barrier()
        return metrics if metrics is not None else read_results(run_dir)
    except BaseException:
        tracker.close(exit_code=1)
        raise


def build_module(config: dict[str, Any], source: Source, data: SongData) -> TaggingModule:
    """The model for this data; raises MusictagError where parts, patch length and settings do not fit together."""
    settings = config["trainer"]
    spec = {
        "frontend": config["frontend"],
        "backend": config["backend"],
        "tags": [{"name": tag.name, "kind": tag.kind} for tag in source.manifest().tags],
        "patch_seconds": config["data"]["patch_seconds"],
    }
    return TaggingModule(
        Tagger(**spec).spec,
        objective=config["objective"],
        learning_rate=settings["learning_rate"],
        weight_decay=settings["weight_decay"],
        schedule=settings["schedule"],
        plateau_patience=settings["plateau_patience"],
        plateau_factor=settings["plateau_factor"],
        monitor=settings["monitor"],
        seed=config["seed"],
        compile=settings["compile"],
    )


def build_trainer(settings: dict[str, Any], run_dir: Path, history: History, logger: Any) -> pl.Trainer:
    """Lightning's Trainer, from the ``trainer`` group of the configuration."""
    monitor = settings["monitor"]
    callbacks: list[pl.Callback] = [history]
    if settings["early_stopping_patience"]:
        callbacks.append(
            ResumableEarlyStopping(
                monitor,
                patience=settings["early_stopping_patience"],
                mode=MONITORS[monitor],
                check_on_train_epoch_end=True,
                check_finite=False,
            )
        )
    # the best first: the last one then knows of it
    callbacks += [EpochCheckpoint(run_dir, "best", monitor, MONITORS[monitor]), EpochCheckpoint(run_dir, "last")]
    strategy = settings["strategy"]
    if strategy == "ddp":
        # see TaggingModule._start_evaluation for the buffers
        strategy = pl.strategies.DDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True)
    elif strategy != "auto":
        raise MusictagError(f"trainer.strategy={strategy} does not exist; choose one of auto, ddp")
    if _interactive():
        callbacks.append(pl.callbacks.RichProgressBar(leave=False))
    try:
        return pl.Trainer(
            accelerator=settings["accelerator"],
            devices=settings["devices"],
            num_nodes=settings["num_nodes"],
            strategy=strategy,
            sync_batchnorm=settings["sync_batch_norm"],
            precision=settings["precision"],
            max_epochs=settings["max_epochs"],
            gradient_clip_val=settings["gradient_clip"],
            accumulate_grad_batches=settings["accumulate_batches"],
            plugins=[AtomicCheckpointIO()],
            callbacks=callbacks,
            logger=logger,
            default_root_dir=run_dir,
            use_distributed_sampler=False,  # the DataModule shards songs itself, without padding
            num_sanity_val_steps=0,
            enable_model_summary=False,
            enable_progress_bar=_interactive(),
            log_every_n_steps=10,
        )
    except (ValueError, TypeError, RuntimeError, pl.utilities.exceptions.MisconfigurationException) as error:
        raise MusictagError(f"the trainer cannot be set up like this: {error}\nLook at the trainer.* keys.") from error


def _check_checkpoint(path: Path, module: TaggingModule) -> None:
    try:
        spec = tagger_spec(read_checkpoint(path))
        if spec is None:
            raise ValueError("it holds no tagger")
    except ValueError as error:
        raise MusictagError(
            f"{path} is damaged and cannot be resumed from: {error}. Delete it to train from the start; "
            "best.ckpt beside it, if there is one, still holds the best model so far."
        ) from error
    tags = module.hparams["tagger"]["tags"]
    if spec["tags"] != tags:
        raise MusictagError(
            f"{path} was trained for other tags ({len(spec['tags'])}: {_some_names(spec['tags'])}) than the data has "
            f"now ({len(tags)}: {_some_names(tags)}). Delete it to train from the start."
        )


def _some_names(tags: list[dict[str, str]]) -> str:
    return ", ".join(tag["name"] for tag in tags[:5]) + (", ..." if len(tags) > 5 else "")


def _prepare_workers(config: dict[str, Any]) -> int:
    if config["data"]["prepare_workers"]:
        return config["data"]["prepare_workers"]
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quieten() -> None:
    """Leave out what Lightning says about things that are as they should be here."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in ("Checkpoint directory", "The number of training batches", ".*does not have many workers"):
        warnings.filterwarnings("ignore", message)
    warnings.filterwarnings("ignore", category=FutureWarning, module="pytorch_lightning")
    warnings.filterwarnings("ignore", ".*isinstance\\(treespec, LeafSpec\\)")


def _interactive() -> bool:
    return sys.stdout.isatty()


def _without(config: dict[str, Any], keys: tuple[str, ...], prefix: str = "") -> dict[str, Any]:
    """``config`` without the dotted ``keys``."""
    return {
        key: _without(value, keys, f"{prefix}{key}.") if isinstance(value, dict) else value
        for key, value in config.items()
        if f"{prefix}{key}" not in keys
    }
