"""From a configuration to the parts of an experiment: data, model, trainer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from musictag.callbacks import AtomicCheckpointIO, EpochCheckpoint, History, ResumableEarlyStopping
from musictag.data.datamodule import SongData
from musictag.data.sources import Source
from musictag.errors import MusictagError
from musictag.identity import prepare_workers
from musictag.tagger import Tagger
from musictag.training import MONITORS, TaggingModule
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


def build_module(config: dict[str, Any], source: Source, data: SongData) -> TaggingModule:
    """The model for this data; raises MusictagError where parts, patch length and settings do not fit together."""
    settings = config["trainer"]
    spec = {
        "frontend": config["frontend"],
        "backend": with_probe(config["backend"], config["probe"]) if "probe" in config else config["backend"],
        "tags": [{"name": tag.name, "kind": tag.kind} for tag in source.manifest().tags],
        "patch_seconds": config["data"]["patch_seconds"],
    }
    tagger = Tagger(**spec)
    rates = {"frontend.sample_rate": tagger.sample_rate, "data.sample_rate": getattr(source, "sample_rate", None)}
    for key, rate in rates.items():
        if rate not in (None, data.sample_rate):
            raise MusictagError(f"{key}={rate}, but the audio is prepared at {data.sample_rate} Hz; leave it at that")
    return TaggingModule(
        tagger.spec,
        objective=config["objective"],
        learning_rate=settings["learning_rate"],
        weight_decay=settings["weight_decay"],
        schedule=settings["schedule"],
        plateau_patience=settings["plateau_patience"],
        plateau_factor=settings["plateau_factor"],
        monitor=settings["monitor"],
        seed=config["seed"],
        compile=settings["compile"],
        freeze="frontend" if "probe" in config else config["freeze"],
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
    if interactive():
        callbacks.append(pl.callbacks.RichProgressBar(leave=False))
    try:
        trainer = pl.Trainer(
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
            enable_progress_bar=interactive(),
            log_every_n_steps=10,
        )
    except (ValueError, TypeError, RuntimeError, pl.utilities.exceptions.MisconfigurationException) as error:
        raise MusictagError(f"the trainer cannot be set up like this: {error}\nLook at the trainer.* keys.") from error
    if trainer.world_size > 1 and settings["strategy"] != "ddp":
        raise MusictagError(f"{trainer.world_size} processes need trainer.strategy=ddp; type trainer=ddp")
    if settings["sync_batch_norm"] and trainer.strategy.root_device.type != "cuda":
        raise MusictagError("trainer.sync_batch_norm=true needs GPUs; type trainer.sync_batch_norm=false")
    return trainer


def interactive() -> bool:
    """Whether somebody watches."""
    return sys.stdout.isatty()
