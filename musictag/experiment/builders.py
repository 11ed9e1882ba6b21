"""Builds the parts of a run from its configuration: data set, data module, network module."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from musictag.common.errors import MusictagError
from musictag.common.processes import available_cores
from musictag.common.text import some
from musictag.data.datasets import Source
from musictag.data.loading.datamodule import SongDataModule
from musictag.data.loading.samplers import TrainBatches
from musictag.data.loading.unlabelled import Unlabelled
from musictag.data.manifest import Tag
from musictag.experiment.identity import PIPELINE_KEYS
from musictag.models.frontends.encoder import described
from musictag.models.network import TaggingNetwork
from musictag.training.distillation import Distillation
from musictag.training.instantiate import make, make_partial
from musictag.training.losses import Loss
from musictag.training.module import TaggingModule
from musictag.training.transfer import with_probe

_sources: dict[str, Source] = {}


def build_data(config: dict[str, Any], source: Source) -> SongDataModule:
    """The data module of ``source`` with the settings of the configuration; nothing is read yet."""
    data, unlabelled = config["data"], None
    if config.get("teacher") is not None:  # which alone makes use of them
        unlabelled = Unlabelled(data["unlabelled"], data["unlabelled_share"])
    return songs_to_train(
        config,
        source,
        **{key: data[key] for key in ("patch_seconds", "batch_size", "patches_per_song", "patches_per_epoch")},
        num_workers=data["num_workers"],
        eval_batch_size=config["evaluation"]["batch_size"],
        evaluation_mode=config["evaluation"]["mode"],
        sampler=make_sampler(data["sampler"]),
        unlabelled=unlabelled,
    )


def songs_to_train(config: Mapping[str, Any], source: Source, **settings: Any) -> SongDataModule:
    """The data module of a network or a baseline, with the settings that only one of them has."""
    data, seeds = config["data"], config["seeds"]
    return SongDataModule(
        source,
        config["data_dir"],
        train_songs=data["train_songs"],
        seed=seeds["order"],
        subset_seed=seeds["subset"],
        prepare_workers=prepare_workers(config),
        max_bad_fraction=data["max_bad_fraction"],
        **settings,
    )


def make_sampler(spec: dict[str, Any]) -> partial[TrainBatches]:
    """A partial that creates the batch sampler of training; raises MusictagError for other classes than TrainBatches
    and its subclasses."""
    sampler = make_partial("data.sampler", spec)
    if not isinstance(sampler.func, type) or not issubclass(sampler.func, TrainBatches):
        own = f"{TrainBatches.__module__}.{TrainBatches.__qualname__}"
        raise MusictagError(f"data.sampler._target_={spec['_target_']} is not a subclass of {own}")
    return sampler


def build_module(config: dict[str, Any], source: Source, data: SongDataModule, tags: Sequence[Tag]) -> TaggingModule:
    """The module for these tags and this data; raises MusictagError if parts, tags, patch length and settings do not
    fit together."""
    scheduler, teacher = config.get("scheduler"), config.get("teacher")
    taught = {key: config["distillation"][key] for key in ("signal", "weight", "stored")}
    spec = {
        "frontend": described(config["frontend"]),
        "backend": with_probe(config["backend"], config["probe"]) if "probe" in config else config["backend"],
        "tags": [{"name": tag.name, "kind": tag.kind} for tag in tags],
        "patch_seconds": config["data"]["patch_seconds"],
    }
    network = TaggingNetwork(**spec)
    rates = {"frontend.sample_rate": network.sample_rate, "data.sample_rate": getattr(source, "sample_rate", None)}
    for key, rate in rates.items():
        if rate not in (None, data.sample_rate):
            raise MusictagError(f"{key}={rate}, but the audio is prepared at {data.sample_rate} Hz; use that rate")
    loss = make("loss", config["loss"], Loss)
    regression = [tag.name for tag in tags if tag.kind == "regression"]
    if regression and not loss.for_regression:
        raise MusictagError(
            f"{type(loss).__name__} is a loss for classification tags alone, and these are regression tags: "
            f"{some(regression)}; use another loss, such as loss=focal_bce, or leave them out of data.tags"
        )
    module = TaggingModule(
        network.spec,
        loss=loss,
        optimizer=make_partial("optimizer", scaled_optimizer(config)),
        scheduler=None if scheduler is None else make_partial("scheduler", scheduler),
        monitor=config["monitor"],
        seed=config["seeds"]["order"],
        compile=config["compile"],
        freeze="frontend" if "probe" in config else config["freeze"],
        distill=None if teacher is None else partial(Distillation, model=teacher, **taught),
        finetune=config["finetune"],
    )
    module.make_optimizer()  # raises now what it would raise in training
    return module


def scaled_optimizer(config: dict[str, Any]) -> dict[str, Any]:
    """The optimizer's settings, their learning rate scaled as ``lr_scaling`` says; raises MusictagError as
    ``scaled_lr`` does, and if there is no learning rate to scale."""
    settings, scaling = config["optimizer"], config["lr_scaling"]
    batch = config["data"]["batch_size"] * config["trainer"].get("accumulate_grad_batches", 1)
    if "lr" not in settings:
        if scaling["rule"] == "none":
            return settings
        raise MusictagError(f"lr_scaling.rule={scaling['rule']} scales optimizer.lr, which is not set")
    return settings | {"lr": scaled_lr(settings["lr"], batch, **scaling)}


def check_batches(config: dict[str, Any], module: TaggingModule, songs: int, world: int) -> None:
    """Raise MusictagError if a step of each of ``world`` processes would have a single patch, and the network a batch
    norm that has no variance there. ``songs``: the largest possible number of training songs."""
    data, batch = config["data"], config["data"]["batch_size"]
    patches = data["patches_per_epoch"] or min(songs, data["train_songs"] or songs) * data["patches_per_song"]
    if config.get("teacher") is not None:  # unlabelled songs may be in the batch, too
        patches = batch
    together = world > 1 and config["trainer"].get("sync_batchnorm")
    if min(batch, patches) // world == 1 and not together and not module.trains_on_one_patch():
        raise MusictagError(
            f"data.batch_size={batch} with {patches:,} patches in an epoch and {world} processes makes steps of a "
            f"single patch, for which batch norm has no variance; use data.batch_size={2 * world} or more, with as "
            "many patches (data.train_songs, data.patches_per_song)" + ", or trainer.sync_batchnorm=true" * (world > 1)
        )


def check_songs(data: SongDataModule, world: int) -> None:
    """Raise MusictagError if some of the ``world`` processes would have nothing to evaluate."""
    for split in ("validation", "test"):
        if (songs := len(data.song_ids(split))) < world:
            raise MusictagError(
                f"{world} processes (trainer.devices x trainer.num_nodes) cannot share the {songs} {split} songs, each "
                f"of which is evaluated once by one process; use trainer.devices={max(songs, 1)} or fewer"
            )


def build_source(config: dict[str, Any]) -> Source:
    """The data set that ``config["data"]`` describes; raises MusictagError for unknown keys."""
    return make("data", _described(config), Source, data_dir=config["data_dir"], workers=prepare_workers(config))


def shared_source(config: dict[str, Any]) -> Source:
    """The same, read once per process for all jobs on the same data."""
    key = json.dumps([_described(config), config["data_dir"]], sort_keys=True)
    if key not in _sources:
        _sources[key] = build_source(config)
    return _sources[key]


def _described(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config["data"].items() if key not in PIPELINE_KEYS}


def prepare_workers(config: dict[str, Any]) -> int:
    """How many processes prepare the audio: ``data.prepare_workers``, by default one per core."""
    if config["data"]["prepare_workers"]:
        return config["data"]["prepare_workers"]
    return available_cores()


_POWERS = {"none": 0.0, "linear": 1.0, "sqrt": 0.5}


def scaled_lr(lr: float, batch_size: int, rule: str, reference_batch_size: int) -> float:
    """``lr``, found with batches of ``reference_batch_size``, for batches of ``batch_size``.

    ``linear`` keeps the mean update per patch (Goyal et al. 2017), ``sqrt`` the noise of the updates of adaptive
    optimizers (Krizhevsky 2014; Granziol et al. 2022). Raises MusictagError for a rule
    that does not exist, and for what is not a number.
    """
    if rule not in _POWERS:
        raise MusictagError(f"lr_scaling.rule={rule} does not exist; choose one of {', '.join(_POWERS)}")
    for key, value in (("optimizer.lr", lr), ("lr_scaling.reference_batch_size", reference_batch_size)):
        if not isinstance(value, int | float):
            raise MusictagError(f"{key}={value} must be a number")
    if reference_batch_size < 1:
        raise MusictagError(f"lr_scaling.reference_batch_size={reference_batch_size} must be at least 1")
    return lr * (batch_size / reference_batch_size) ** _POWERS[rule]
