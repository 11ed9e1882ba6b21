"""Builds Lightning's Trainer from a configuration."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from musictag.common.errors import MusictagError
from musictag.models.pretrained import TAGGER_FILE
from musictag.training.augmentations import Augment, Augmentation
from musictag.training.best_epoch import Rule, choice_path, rules
from musictag.training.callbacks.averaging import WeightAverage
from musictag.training.callbacks.checkpoints import AtomicCheckpointIO, BestTagger, EpochCheckpoint, StepCheckpoint
from musictag.training.callbacks.history import History
from musictag.training.flags import check_flags
from musictag.training.instantiate import make
from musictag.training.signals import SignalHandler


def build_trainer(
    config: dict[str, Any], run_dir: Path, history: History, loggers: list[Any], signal_handler: SignalHandler
) -> pl.Trainer:
    """Lightning's Trainer with the flags of ``config["trainer"]``; raises MusictagError for impossible settings.

    ``signal_handler`` is checked after every batch, whether to save and stop.
    """
    settings, monitor, smoothing = config["trainer"], config["monitor"], config["monitor_smoothing"]
    check_flags(settings)
    given = {"run_dir": run_dir, "signal_handler": signal_handler, "monitor": monitor, "config": config}
    callbacks = [
        make(f"callbacks.{name}", spec, pl.Callback, **given) for name, spec in _chosen(config, "callbacks").items()
    ]
    augmentations = {
        name: make(f"augmentation.{name}", spec, Augmentation) for name, spec in _chosen(config, "augmentation").items()
    }
    if not any(isinstance(callback, StepCheckpoint) for callback in callbacks):
        raise MusictagError(
            "without callbacks.checkpoint an interrupted run cannot be resumed; to save only after epochs, use "
            "callbacks.checkpoint.minutes=null"
        )
    if sum(isinstance(callback, WeightAverage) for callback in callbacks) > 1:
        raise MusictagError("callbacks: a run can have one average of the weights; leave out the others")
    shows_bar = settings.get("enable_progress_bar", interactive())
    others = rules(monitor, smoothing) if config["evaluation"]["compare_choices"] else {}
    ours = {
        # a checkpoint within an epoch comes last, when all have counted the batch that has just ended
        # the best tagger before the last checkpoint, whose state includes it
        "callbacks": [
            *([Augment(augmentations, config["seeds"]["order"])] if augmentations else []),
            history,
            *sorted(callbacks, key=lambda callback: isinstance(callback, StepCheckpoint)),
            BestTagger(run_dir / TAGGER_FILE, Rule(monitor, smoothing), history),
            *(BestTagger(choice_path(run_dir, name), rule, history) for name, rule in others.items()),
            EpochCheckpoint(run_dir / "last.ckpt"),
            *([pl.callbacks.RichProgressBar(leave=False)] if shows_bar else []),
        ],
        "logger": loggers or False,
        "plugins": [AtomicCheckpointIO()],
        "default_root_dir": run_dir,
        "use_distributed_sampler": False,  # the data module shards songs itself, without padding
        "num_sanity_val_steps": 0,
        # unless the configuration says otherwise
        "enable_model_summary": False,
        "enable_progress_bar": shows_bar,
        "log_every_n_steps": 10,
    }
    trainer = make("trainer", settings, pl.Trainer, **ours)
    _check_processes(config, trainer)
    return trainer


def _chosen(config: dict[str, Any], group: str) -> dict[str, Any]:
    """The named parts of a group, without those that are null."""
    return {name: spec for name, spec in (config.get(group) or {}).items() if spec is not None}


def _check_processes(config: dict[str, Any], trainer: pl.Trainer) -> None:
    """Raise MusictagError for another number of processes than configured, and for batches that they cannot share."""
    settings, world, batch = config["trainer"], trainer.world_size, config["data"]["batch_size"]
    asked = trainer.num_devices * trainer.num_nodes
    if world != asked:
        raise MusictagError(
            f"the launcher (torchrun, srun) started {world} processes, but trainer.devices="
            f"{trainer.num_devices} x trainer.num_nodes={trainer.num_nodes} = {asked}; make them equal, one process "
            "per device"
        )
    if world > 1 and settings.get("strategy", "auto") == "auto":
        raise MusictagError(f"{world} processes need a strategy; use trainer=ddp")
    if settings.get("sync_batchnorm") and world > 1 and trainer.strategy.root_device.type != "cuda":
        raise MusictagError(
            "trainer.sync_batchnorm=true needs GPUs: torch's SyncBatchNorm does not run on CPUs. Use "
            "trainer.sync_batchnorm=false, with which each process normalises its own share of a batch, or "
            "trainer=default for a single process"
        )
    if settings.get("precision") == "16-mixed" and trainer.strategy.root_device.type == "cpu":
        raise MusictagError(
            "trainer.precision=16-mixed needs a GPU; on a CPU use trainer.precision=bf16-mixed or 32-true"
        )
    counted = f"{trainer.num_devices} devices x {trainer.num_nodes} machines = {world} processes"
    lower, higher = batch // world * world, (batch // world + 1) * world
    if batch % world:
        choices = " or ".join(f"data.batch_size={size}" for size in (lower, higher) if size)
        raise MusictagError(
            f"data.batch_size={batch} is the batch of all processes together: {counted}, and {batch} / {world} = "
            f"{batch / world:.4g} is not a whole number of patches each; use {choices}"
        )


def interactive() -> bool:
    """Whether the output is a terminal."""
    return sys.stdout.isatty()


def quieten_lightning() -> None:
    """Silence messages and warnings of Lightning about what is intended here."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in (
        "Be aware that when using `ckpt_path`",  # of checkpoints that an earlier version wrote
        "The number of training batches",
        ".*does not have many workers",
        "Found .* in eval mode",
        # an epoch that was interrupted goes on with the batch that is next: SongDataModule.state_dict
        "You're resuming from a checkpoint that ended before the epoch ended",
        # what is logged is the same on all processes already
        ".*sync_dist=True",
    ):
        warnings.filterwarnings("ignore", message)
    warnings.filterwarnings("ignore", category=FutureWarning, module="pytorch_lightning")
    warnings.filterwarnings("ignore", ".*isinstance\\(treespec, LeafSpec\\)")
