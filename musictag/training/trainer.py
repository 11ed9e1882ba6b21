"""From a configuration to the parts of an experiment: data, model, trainer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from musictag.common.errors import MusictagError
from musictag.evaluation.registry import monitors
from musictag.models.checkpoint import TAGGER_FILE
from musictag.training.callbacks.checkpoints import AtomicCheckpointIO, BestTagger, EpochCheckpoint, StepCheckpoint
from musictag.training.callbacks.history import History
from musictag.training.flags import check_flags
from musictag.training.instantiate import make
from musictag.training.signals import Interruption


def build_trainer(
    config: dict[str, Any], run_dir: Path, history: History, loggers: list[Any], interruption: Interruption
) -> pl.Trainer:
    """Lightning's Trainer with the flags of ``config["trainer"]``; raises MusictagError where that cannot be.

    ``interruption`` is asked after every batch whether to save and stop.
    """
    settings, monitor = config["trainer"], config["monitor"]
    check_flags(settings)
    given = {"run_dir": run_dir, "interruption": interruption, "monitor": monitor, "config": config}
    callbacks = [
        make(f"callbacks.{name}", spec, pl.Callback, **given) for name, spec in _chosen(config, "callbacks").items()
    ]
    if not any(isinstance(callback, StepCheckpoint) for callback in callbacks):
        raise MusictagError(
            "without callbacks.checkpoint an interrupted run could not go on; to save at the end of epochs only, type "
            "callbacks.checkpoint.minutes=null"
        )
    ours = {
        # what is saved within an epoch is saved last, so that all have counted the batch that has just ended
        # the best before the last checkpoint, which then knows of it
        "callbacks": [
            history,
            *sorted(callbacks, key=lambda callback: isinstance(callback, StepCheckpoint)),
            BestTagger(run_dir / TAGGER_FILE, monitor, monitors()[monitor]),
            EpochCheckpoint(run_dir, "last"),
            *([pl.callbacks.RichProgressBar(leave=False)] if interactive() else []),
        ],
        "logger": loggers or False,
        "plugins": [AtomicCheckpointIO()],
        "default_root_dir": run_dir,
        "use_distributed_sampler": False,  # the DataModule shards songs itself, without padding
        "num_sanity_val_steps": 0,
        # unless the configuration says otherwise
        "enable_model_summary": False,
        "enable_progress_bar": interactive(),
        "log_every_n_steps": 10,
    }
    trainer = make("trainer", settings, pl.Trainer, **ours)
    _check_processes(config, trainer)
    return trainer


def _chosen(config: dict[str, Any], group: str) -> dict[str, Any]:
    """The named parts of a group; null leaves one out."""
    return {name: spec for name, spec in (config.get(group) or {}).items() if spec is not None}


def _check_processes(config: dict[str, Any], trainer: pl.Trainer) -> None:
    """Whether there are as many processes as were asked for, and each gets an equal share of a batch that is enough."""
    settings, world, batch = config["trainer"], trainer.world_size, config["data"]["batch_size"]
    asked = trainer.num_devices * trainer.num_nodes
    if world != asked:
        raise MusictagError(
            f"whoever launched this (torchrun, srun) started {world} processes, but trainer.devices="
            f"{trainer.num_devices} x trainer.num_nodes={trainer.num_nodes} = {asked}; make them equal, one process a "
            "device"
        )
    if world > 1 and settings.get("strategy", "auto") == "auto":
        raise MusictagError(f"{world} processes need a strategy; type trainer=ddp")
    if settings.get("sync_batchnorm") and world > 1 and trainer.strategy.root_device.type != "cuda":
        raise MusictagError(
            "trainer.sync_batchnorm=true needs GPUs: torch's SyncBatchNorm does not run on CPUs. Use "
            "trainer.sync_batchnorm=false, with which each process normalises its own share of a batch, or "
            "trainer=default for a single process"
        )
    counted = f"{trainer.num_devices} devices x {trainer.num_nodes} machines = {world} processes"
    lower, higher = batch // world * world, (batch // world + 1) * world
    if batch % world:
        choices = " or ".join(f"data.batch_size={size}" for size in (lower, higher) if size)
        raise MusictagError(
            f"data.batch_size={batch} is the batch of all processes together: {counted}, and {batch} / {world} = "
            f"{batch / world:.4g} is not a whole number of patches each; type {choices}"
        )
    if 1 < world == batch and not settings.get("sync_batchnorm"):
        raise MusictagError(
            f"data.batch_size={batch} is the batch of all processes together: {counted}, so each would have a "
            f"single patch, of which batch norm has no variance; type data.batch_size={2 * world} or more, or "
            "trainer.sync_batchnorm=true"
        )


def interactive() -> bool:
    """Whether somebody watches."""
    return sys.stdout.isatty()
