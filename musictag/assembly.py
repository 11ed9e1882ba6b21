"""From a configuration to the parts of an experiment: data, model, trainer."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from musictag.callbacks import AtomicCheckpointIO, BestTagger, EpochCheckpoint, History, StepCheckpoint
from musictag.data.datamodule import SongData
from musictag.data.manifest import Tag
from musictag.data.sources import Source
from musictag.errors import MusictagError
from musictag.evaluation.registry import monitors
from musictag.identity import prepare_workers
from musictag.instantiation import make, make_partial
from musictag.interruption import Interruption
from musictag.launching import WatchedDDP
from musictag.models.network import TaggingNetwork
from musictag.published import TAGGER_FILE
from musictag.running import note_reason
from musictag.training.flags import check_flags
from musictag.training.losses import Loss
from musictag.training.module import TaggingModule
from musictag.training.optimization import scaled_lr
from musictag.transfer import with_probe


def build_data(config: dict[str, Any], source: Source) -> SongData:
    """The songs of ``source`` as the configuration wants them; nothing is read yet."""
    return SongData(
        source,
        config["data_dir"],
        patch_seconds=config["data"]["patch_seconds"],
        batch_size=config["data"]["batch_size"],
        patches_per_song=config["data"]["patches_per_song"],
        train_songs=config["data"]["train_songs"],
        seed=config["seed"],
        num_workers=config["data"]["num_workers"],
        eval_batch_size=config["evaluation"]["batch_size"],
        evaluation_mode=config["evaluation"]["mode"],
        prepare_workers=prepare_workers(config),
        max_bad_fraction=config["data"]["max_bad_fraction"],
    )


def build_module(config: dict[str, Any], source: Source, data: SongData, tags: Sequence[Tag]) -> TaggingModule:
    """The model of these tags for this data; raises MusictagError where parts, patch length and settings do not fit
    together."""
    scheduler = config.get("scheduler")
    spec = {
        "frontend": config["frontend"],
        "backend": with_probe(config["backend"], config["probe"]) if "probe" in config else config["backend"],
        "tags": [{"name": tag.name, "kind": tag.kind} for tag in tags],
        "patch_seconds": config["data"]["patch_seconds"],
    }
    network = TaggingNetwork(**spec)
    rates = {"frontend.sample_rate": network.sample_rate, "data.sample_rate": getattr(source, "sample_rate", None)}
    for key, rate in rates.items():
        if rate not in (None, data.sample_rate):
            raise MusictagError(f"{key}={rate}, but the audio is prepared at {data.sample_rate} Hz; leave it at that")
    return TaggingModule(
        network.spec,
        loss=make("loss", config["loss"], Loss),
        optimizer=make_partial("optimizer", scaled_optimizer(config)),
        scheduler=None if scheduler is None else make_partial("scheduler", scheduler),
        monitor=config["monitor"],
        seed=config["seed"],
        compile=config["compile"],
        freeze="frontend" if "probe" in config else config["freeze"],
    )


def scaled_optimizer(config: dict[str, Any]) -> dict[str, Any]:
    """The optimiser's settings with the learning rate that ``lr_scaling`` makes of theirs; raises MusictagError as
    ``scaled_lr`` does, and where there is no rate to scale."""
    settings, scaling = config["optimizer"], config["lr_scaling"]
    batch = config["data"]["batch_size"] * config["trainer"].get("accumulate_grad_batches", 1)
    if "lr" not in settings:
        if scaling["rule"] == "none":
            return settings
        raise MusictagError(f"lr_scaling.rule={scaling['rule']} scales optimizer.lr, and there is none")
    return settings | {"lr": scaled_lr(settings["lr"], batch, **scaling)}


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
        # history first: what is saved within an epoch counts the batch that has just ended
        # the best before the last checkpoint, which then knows of it
        "callbacks": [
            history,
            *callbacks,
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
    if isinstance(trainer.strategy, WatchedDDP):
        trainer.strategy.on_death = partial(note_reason, run_dir)
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


def check_songs(data: SongData, world: int) -> None:
    """Raise MusictagError where some of the ``world`` processes would have nothing to evaluate."""
    for split in ("validation", "test"):
        if (songs := len(data.song_ids(split))) < world:
            raise MusictagError(
                f"{world} processes (trainer.devices x trainer.num_nodes) cannot share the {songs} {split} songs, each "
                f"of which is evaluated once by one process; type trainer.devices={max(songs, 1)} or fewer"
            )


def interactive() -> bool:
    """Whether somebody watches."""
    return sys.stdout.isatty()
