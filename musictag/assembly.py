"""From a configuration to the parts of an experiment: data, model, trainer."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from musictag.callbacks import (
    AtomicCheckpointIO,
    BestTagger,
    EpochCheckpoint,
    History,
    ResumableEarlyStopping,
    StepCheckpoint,
)  # fmt: skip
from musictag.data.datamodule import SongData
from musictag.data.manifest import Tag
from musictag.data.sources import Source
from musictag.errors import MusictagError
from musictag.evaluation.registry import monitors
from musictag.identity import prepare_workers
from musictag.interruption import Interruption
from musictag.launching import WatchedDDP
from musictag.models.network import TaggingNetwork
from musictag.published import TAGGER_FILE
from musictag.running import note_reason
from musictag.training import PRECISIONS, TaggingModule
from musictag.transfer import with_probe


def build_data(config: dict[str, Any], source: Source) -> SongData:
    """The songs of ``source`` as the configuration wants them; nothing is read yet."""
    return SongData(
        source,
        config["data_dir"],
        patch_seconds=config["data"]["patch_seconds"],
        batch_size=config["trainer"]["batch_size"],
        patches_per_song=config["trainer"]["patches_per_song"],
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
    settings = config["trainer"]
    learning_rate = scaled_learning_rate(settings)
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
        objective=config["objective"],
        learning_rate=learning_rate,
        weight_decay=settings["weight_decay"],
        schedule=settings["schedule"],
        plateau_patience=settings["plateau_patience"],
        plateau_factor=settings["plateau_factor"],
        monitor=settings["monitor"],
        seed=config["seed"],
        compile=settings["compile"],
        freeze="frontend" if "probe" in config else config["freeze"],
    )


def scaled_learning_rate(settings: dict[str, Any]) -> float:
    """The learning rate after ``trainer.learning_rate_scaling``; raises MusictagError for a rule that does not exist.

    ``linear`` keeps the mean step a patch the same (Goyal et al. 2017), ``sqrt`` the noise of a step that averages over
    the batch, as an adaptive optimiser's do (Krizhevsky 2014; Granziol et al. 2022).
    """
    powers = {"none": 0.0, "linear": 1.0, "sqrt": 0.5}
    rule, reference = settings["learning_rate_scaling"], settings["reference_batch_size"]
    if rule not in powers:
        raise MusictagError(f"trainer.learning_rate_scaling={rule} does not exist; choose one of {', '.join(powers)}")
    if reference < 1:
        raise MusictagError(f"trainer.reference_batch_size={reference} must be at least 1")
    batch = settings["batch_size"] * settings["accumulate_batches"]
    return settings["learning_rate"] * (batch / reference) ** powers[rule]


def build_trainer(
    settings: dict[str, Any], run_dir: Path, history: History, logger: Any, interruption: Interruption
) -> pl.Trainer:
    """Lightning's Trainer, from the ``trainer`` group of the configuration; raises MusictagError where that cannot be.

    ``interruption`` is asked after every batch whether to save and stop.
    """
    monitor = settings["monitor"]
    minutes = settings["checkpoint_minutes"]
    if minutes is not None and minutes <= 0:
        raise MusictagError(f"trainer.checkpoint_minutes={minutes} must be above 0, or null")
    if settings["precision"] not in PRECISIONS:
        raise MusictagError(
            f"trainer.precision={settings['precision']} does not exist; choose one of {', '.join(PRECISIONS)}"
        )
    # history first: what is saved within an epoch counts the batch that has just ended
    callbacks: list[pl.Callback] = [history, StepCheckpoint(run_dir / "last.ckpt", minutes, interruption)]
    if settings["early_stopping_patience"]:
        callbacks.append(
            ResumableEarlyStopping(
                monitor,
                patience=settings["early_stopping_patience"],
                mode=monitors()[monitor],
                check_on_train_epoch_end=True,
                check_finite=False,
            )
        )
    # the best first: the last checkpoint then knows of it
    callbacks += [BestTagger(run_dir / TAGGER_FILE, monitor, monitors()[monitor]), EpochCheckpoint(run_dir, "last")]
    if interactive():
        callbacks.append(pl.callbacks.RichProgressBar(leave=False))
    try:
        trainer = pl.Trainer(
            accelerator=settings["accelerator"],
            devices=settings["devices"],
            num_nodes=settings["num_nodes"],
            strategy=_strategy(settings, run_dir),
            precision=settings["precision"],
            max_epochs=settings["max_epochs"],
            gradient_clip_val=settings["gradient_clip"],
            accumulate_grad_batches=settings["accumulate_batches"],
            sync_batchnorm=settings["sync_batch_norm"],
            plugins=[AtomicCheckpointIO()],
            callbacks=callbacks,
            logger=logger,
            default_root_dir=run_dir,
            use_distributed_sampler=False,  # the DataModule shards songs itself, without padding
            num_sanity_val_steps=0,
            enable_model_summary=False,
            enable_progress_bar=interactive(),
            log_every_n_steps=10,
        )
    except (ValueError, TypeError, RuntimeError, pl.utilities.exceptions.MisconfigurationException) as error:
        raise MusictagError(f"the trainer cannot be set up like this: {error}\nLook at the trainer.* keys.") from error
    asked = trainer.num_devices * trainer.num_nodes
    if trainer.world_size != asked:
        raise MusictagError(
            f"whoever launched this (torchrun, srun) started {trainer.world_size} processes, but trainer.devices="
            f"{trainer.num_devices} x trainer.num_nodes={trainer.num_nodes} = {asked}; make them equal, one process a "
            "device"
        )
    if trainer.world_size > 1 and settings["strategy"] != "ddp":
        raise MusictagError(f"{trainer.world_size} processes need trainer.strategy=ddp; type trainer=ddp")
    _check_shares(settings, trainer)
    if settings["sync_batch_norm"] and settings["strategy"] == "ddp" and trainer.strategy.root_device.type != "cuda":
        raise MusictagError(
            "trainer.sync_batch_norm=true needs GPUs: torch's SyncBatchNorm does not run on CPUs. Use "
            "trainer.sync_batch_norm=false, with which each process normalises its own share of a batch, or "
            "trainer.strategy=auto trainer.devices=1 for a single process"
        )
    return trainer


def _strategy(settings: dict[str, Any], run_dir: Path) -> Any:
    strategy = settings["strategy"]
    if strategy == "auto":
        return strategy
    if strategy != "ddp":
        raise MusictagError(f"trainer.strategy={strategy} does not exist; choose one of auto, ddp")
    if wrong := [name for name in ("bucket_mb", "timeout_minutes") if settings[name] <= 0]:
        raise MusictagError(" and ".join(f"trainer.{name}={settings[name]}" for name in wrong) + ": must be above 0")
    if settings["static_graph"] and settings["accumulate_batches"] > 1:
        raise MusictagError(
            "trainer.static_graph=true needs gradients that are exchanged in every step, and "
            f"trainer.accumulate_batches={settings['accumulate_batches']} exchanges them more rarely; leave one of the "
            "two away"
        )
    return WatchedDDP(
        partial(note_reason, run_dir),
        # see TaggingModule._start_evaluation for the buffers
        broadcast_buffers=False,
        gradient_as_bucket_view=True,
        bucket_cap_mb=settings["bucket_mb"],
        static_graph=settings["static_graph"],
        timeout=timedelta(minutes=settings["timeout_minutes"]),
    )


def _check_shares(settings: dict[str, Any], trainer: pl.Trainer) -> None:
    """Whether every process gets its equal share of a batch, and enough of it."""
    world, batch = trainer.world_size, settings["batch_size"]
    counted = f"{trainer.num_devices} devices x {trainer.num_nodes} machines = {world} processes"
    lower, higher = batch // world * world, (batch // world + 1) * world
    if batch % world:
        choices = " or ".join(f"trainer.batch_size={size}" for size in (lower, higher) if size)
        raise MusictagError(
            f"trainer.batch_size={batch} is the batch of all processes together: {counted}, and {batch} / {world} = "
            f"{batch / world:.4g} is not a whole number of patches each; type {choices}"
        )
    if 1 < world == batch and not settings["sync_batch_norm"]:
        raise MusictagError(
            f"trainer.batch_size={batch} is the batch of all processes together: {counted}, so each would have a "
            f"single patch, of which batch norm has no variance; type trainer.batch_size={2 * world} or more, or "
            "trainer.sync_batch_norm=true"
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
