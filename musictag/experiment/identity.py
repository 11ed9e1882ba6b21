"""The identity of a run: which keys of the configuration can change the result, and which keys exist at all."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from musictag.common.errors import MusictagError
from musictag.data.datasets import Source
from musictag.data.loading.samplers import check_patches
from musictag.models.backends import BackEnd
from musictag.models.baselines import FeatureModel
from musictag.models.factory import with_lists
from musictag.models.frontends import FrontEnd
from musictag.models.pretrained import ENSEMBLE_FILE, TAGGER_FILE
from musictag.training.best_epoch import check_smoothing
from musictag.training.finetune import NO_FINETUNING
from musictag.training.flags import check_flags
from musictag.training.instantiate import check_part, closest

#: Every key that is read, except those of parts, which are checked against the arguments of these, and those of
#: front-end, back-end and data set.
KEYS = {
    "": (
        "frontend", "backend", "probe", "data", "loss", "optimizer", "scheduler", "trainer", "callbacks", "logger",
        "evaluation", "monitor", "monitor_smoothing", "compile", "lr_scaling", "seed", "seeds", "init_from", "freeze",
        "finetune", "study", "label", "names", "runs_dir", "data_dir", "baseline", "tuning", "augmentation", "teacher",
        "distillation", "cached_features",
    ),
    "distillation": ("model", "signal", "weight", "stored"),
    "seeds": ("subset", "initialisation", "order"),
    "lr_scaling": ("rule", "reference_batch_size"),
    "evaluation": ("mode", "batch_size", "compare_choices", "bootstrap_resamples", "confidence"),
    "finetune": tuple(NO_FINETUNING),
    "tuning": ("study", "grid", "point", "taken"),  # taken: written by musictag.experiment.tuning
}  # fmt: skip
#: Groups with one part, and groups with several named parts.
PARTS = ("loss", "optimizer", "scheduler", "trainer")
NAMED_PARTS = ("callbacks", "logger", "augmentation")
#: Keys of ``data`` that belong to the pipeline; the others describe the source.
PIPELINE_KEYS = (
    "batch_size", "patches_per_song", "patches_per_epoch", "patch_seconds", "train_songs", "num_workers",
    "prepare_workers", "max_bad_fraction", "sampler", "unlabelled", "unlabelled_share",
)  # fmt: skip
#: Numbers, and what they may be.
NUMBERS: dict[str, tuple[type, ...]] = {
    "data.batch_size": (int,), "data.patches_per_song": (int,), "data.patches_per_epoch": (int, NoneType),
    "data.patch_seconds": (int, float), "data.train_songs": (int, NoneType), "data.num_workers": (int,),
    "data.prepare_workers": (int, NoneType), "data.max_bad_fraction": (int, float), "evaluation.batch_size": (int,),
    "data.unlabelled_share": (int, float),
}  # fmt: skip
#: Keys or groups of keys that cannot change the result, with the reason; they are not part of the identity of a run.
#: Differences in rounding, and other random numbers on other hardware, do not make another run.
INDIFFERENT_KEYS: dict[str, str] = {
    "runs_dir": "where results are stored",
    "data_dir": "where prepared audio is stored",
    "logger": "where results are also shown",
    "study": "a name for reports",
    "seed": "it is read by seeds.subset, seeds.initialisation and seeds.order, which are in the identity",
    "tuning": "the settings that are taken over are in the identity, wherever they were found",
    "label": "a name for reports",
    "names": "the parts that they name are in the identity; names only begin the name of the folder",
    "init_from": "the digest of its weights is in the identity, whatever the file is called",
    "teacher": "the digest of its weights is in the identity, whatever the file is called",
    "baseline.features": "the digest of its weights is in the identity, whatever the file is called",
    "evaluation.batch_size": "every patch is scored separately",
    "evaluation.bootstrap_resamples": "intervals come from stored predictions, without training",
    "evaluation.confidence": "intervals come from stored predictions, without training",
    "data.num_workers": "a patch is a function of seed, epoch and song, whichever worker cuts it",
    "data.prepare_workers": "every song is prepared separately",
    "data.max_bad_fraction": "it decides only whether a run begins",
    "trainer.accelerator": "another device only rounds differently",
    "trainer.log_every_n_steps": "how often values are logged",
    "trainer.enable_progress_bar": "what is printed",
    "trainer.enable_model_summary": "what is printed",
    "trainer.profiler": "it only measures time",
    "trainer.detect_anomaly": "it decides only whether a run continues",
    "callbacks.checkpoint": "an interrupted run has the results of an uninterrupted one",
    "baseline.threads": "the same models, sooner or later",
}
#: Keys that there have not always been, with the value under which a run is the one that it was before: they are left
#: out then, and finished runs keep their folders.
LATER_KEYS: dict[str, Any] = {
    "data.patches_per_epoch": None,
    "monitor_smoothing": 1,
    "callbacks.early_stopping.smoothing": 1,
    "evaluation.compare_choices": False,
    "data.unlabelled": None,
    "data.unlabelled_share": 0.5,
    "distillation.stored": False,
    "finetune": NO_FINETUNING,
    "baseline.layer": None,
}
_BATCH_NORM = "`batch_norm_shares`, the number of shares of a batch that batch norm sees, is in the identity instead"
#: Keys that matter only under some settings of other keys; what follows from them is in the identity.
CONDITIONAL_KEYS: dict[str, str] = {
    "trainer.devices": _BATCH_NORM,
    "trainer.num_nodes": _BATCH_NORM,
    "trainer.strategy": _BATCH_NORM,
    "trainer.sync_batchnorm": _BATCH_NORM,
    "compile": "torch.compile only rounds differently, but features are not cached then, which is in the identity",
    "cached_features": "read where something is frozen, and where it changes what such a run was before there were any",
    "lr_scaling.reference_batch_size": "read, and in the identity, where lr_scaling.rule is not none",
}


def check_keys(config: dict[str, Any]) -> None:
    """Raise MusictagError for unknown keys, for parts that do not exist, for impossible confidence intervals, for what
    should be a number or a name and is not, and for numbers of patches that exclude each other."""
    for name, known in KEYS.items():
        given = config if name == "" else config[name]
        if unknown := sorted(set(given) - set(known)):
            where = f"{name} has no key" if name else "there is no key"
            raise MusictagError(f"{where} {', '.join(unknown)}; {closest(unknown[0], known)}")
    parts = {name: config.get(name) for name in PARTS} | {"data.sampler": config["data"]["sampler"]}
    for group in NAMED_PARTS:
        parts |= {f"{group}.{name}": spec for name, spec in (config.get(group) or {}).items()}
    for key, spec in parts.items():
        if spec is not None or key in ("loss", "optimizer", "trainer", "data.sampler"):
            check_part(key, spec)
    for key, kinds in NUMBERS.items():
        if not isinstance(value := value_of(config, key), kinds) or isinstance(value, bool):
            wanted = ("a number" if float in kinds else "a whole number") + " or null" * (NoneType in kinds)
            raise MusictagError(f"{key}={value} must be {wanted}")
    if not 0 < (share := config["data"]["unlabelled_share"]) < 1:
        raise MusictagError(f"data.unlabelled_share={share} must be between 0 and 1, such as 0.5")
    check_flags(config["trainer"])
    check_smoothing(config["monitor_smoothing"])
    if config.get("baseline") is None:
        check_patches(*(config["data"][key] for key in ("patches_per_song", "patches_per_epoch", "batch_size")))
    for name, seed in config["seeds"].items():
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
            raise MusictagError(f"seeds.{name}={seed} must be a whole number from 0 to {2**32 - 1:,}")
    for key, what in (("study", "these runs, without /"), ("label", "these settings")):
        name = config.get(key)
        if name is not None and not (isinstance(name, str) and name.strip() and (key == "label" or "/" not in name)):
            raise MusictagError(f"{key}={name!r} must be a name for {what}, such as {key}=narrow, or null")
    resamples, confidence = config["evaluation"]["bootstrap_resamples"], config["evaluation"]["confidence"]
    if not isinstance(resamples, int) or resamples < 0:
        raise MusictagError(f"evaluation.bootstrap_resamples={resamples} must be a whole number, 0 for no intervals")
    if not isinstance(confidence, int | float) or not 0 < confidence < 1:
        raise MusictagError(f"evaluation.confidence={confidence} must lie between 0 and 1, for example 0.95")


def deciding(config: dict[str, Any], locations: Collection[str]) -> dict[str, Any]:
    """The settings that can change the result, except the CONDITIONAL_KEYS.

    ``locations``: keys of the data set that hold paths.
    """
    as_before = [key for key, value in LATER_KEYS.items() if value_of(config, key) == value]
    places = [f"data.{name}" for name in locations]
    decides = without(config, (*INDIFFERENT_KEYS, *CONDITIONAL_KEYS, *as_before, *places))
    # a single number where all are equal, as in a run of an earlier version, which had no others
    seeds = decides.pop("seeds", {"all": config["seed"]})
    same = len(set(seeds.values())) == 1
    return decides | ({"seed": next(iter(seeds.values()))} if same else {"seeds": seeds})


def value_of(config: Any, key: str) -> Any:
    """The value of a dotted key; None if it is not there."""
    for name in key.split("."):
        config = config.get(name) if isinstance(config, Mapping) else None
    return config


def with_conditional_keys(decides: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """``decides``, which comes from the ``config`` of a network, with what follows from the CONDITIONAL_KEYS there:
    ``trainer.batch_norm_shares`` is added if it is not one."""
    for group in ("callbacks", "augmentation"):  # a part that is null and one that is omitted are the same run
        decides[group] = {name: spec for name, spec in (decides.get(group) or {}).items() if spec is not None}
    if not decides["augmentation"]:  # as before there were any
        decides.pop("augmentation")
    if config.get("teacher") is None:
        decides = without(decides, ("distillation", "data.unlabelled", "data.unlabelled_share"))
    if config["lr_scaling"]["rule"] == "none":
        decides.pop("lr_scaling")
    else:
        decides["lr_scaling"]["reference_batch_size"] = config["lr_scaling"]["reference_batch_size"]
    if may_cache({**config, "compile": False}):
        cached = config.get("cached_features", False) and not config.get("compile")
        if cached is ("probe" in config):  # probes drew random patches before
            decides["cached_features"] = cached
    if "compile" in config:
        decides["compile"] = False  # as in the names of folders of earlier versions, in which it counted
    if (shares := batch_norm_shares(config["trainer"])) != 1:
        decides["trainer"]["batch_norm_shares"] = shares
    return decides


def may_cache(config: Mapping[str, Any]) -> bool:
    """Whether a network may train on stored features: something is frozen, and nothing asks for anew computed ones."""
    if ("probe" not in config and config.get("freeze") is None) or config.get("teacher") is not None:
        return False  # a teacher hears audio
    augmented = any(spec is not None for spec in (config.get("augmentation") or {}).values())
    return not augmented and config["evaluation"]["mode"] == "patches" and not config.get("compile")


def batch_norm_shares(trainer: dict[str, Any]) -> int | None:
    """The number of shares of a batch for which batch norm computes statistics: one, or without ``sync_batchnorm`` one
    per process. None if ``trainer.devices`` leaves that to the machine.
    """
    if trainer.get("sync_batchnorm") or trainer.get("strategy", "auto") == "auto":  # auto means a single process
        return 1
    devices = number_of_devices(trainer.get("devices", "auto"))
    return devices and devices * trainer.get("num_nodes", 1)


def number_of_devices(devices: Any) -> int | None:
    """``trainer.devices`` as Lightning reads it: a number, a list of devices, or either as text; None: all devices."""
    if isinstance(devices, str):
        listed = [device for device in devices.split(",") if device.strip()]
        if len(listed) > 1 or devices.strip().endswith(","):
            return len(listed)
        devices = int(devices) if devices.strip().isdecimal() else None
    if isinstance(devices, list | tuple):
        return len(devices)
    return devices if isinstance(devices, int) and devices > 0 else None


def spelled_as_lists(config: dict[str, Any]) -> dict[str, Any]:
    """``config`` with lists where its parts expect them: data.tags=rock and data.tags=[rock] are the same run."""
    contracts = {"data": Source, "frontend": FrontEnd, "backend": BackEnd, "baseline": FeatureModel}
    return config | {
        group: with_lists(config[group], contract) for group, contract in contracts.items() if config.get(group)
    }


def canonical(value: Any) -> Any:
    """``value`` with whole numbers as integers: data.patch_seconds=3 and 3.0 are the same run."""
    if isinstance(value, dict):
        return {key: canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def without(config: dict[str, Any], keys: Collection[str], prefix: str = "") -> dict[str, Any]:
    """``config`` without the dotted ``keys``."""
    return {
        key: without(value, keys, f"{prefix}{key}.") if isinstance(value, dict) else value
        for key, value in config.items()
        if f"{prefix}{key}" not in keys
    }


def system_label(config: Mapping[str, Any]) -> str:
    """What competes in reports, by name: a baseline, a model, or front-end and back-end, with the initial weights."""
    names = config["names"]
    encoder = (config.get("frontend") or {}).get("name")
    parts = f"{Path(str(encoder)).name if encoder else names.get('frontend')}+{names.get('backend')}"
    label = names["baseline"] or names["model"] or parts
    if encoder and config["freeze"]:
        label += " (frozen)"
    if names["baseline"] and (features := (config.get("baseline") or {}).get("features")):
        label += f" on {Path(features).name}"
    if config.get("init_from"):
        how = f"{names['probe']} probe" if names.get("probe") else f"{config['freeze'] or 'nothing'} frozen"
        label += f" from {Path(config['init_from']).name} ({how})"
    model = (config.get("distillation") or {}).get("model")
    if model or config.get("teacher"):
        label += f" taught by {model or _teacher_name(config['teacher'])}"
    return label


def _teacher_name(model: str) -> str:
    """What a teacher is called: a run by the name of its folder without the hash, so that those of other sizes and
    seeds are the same."""
    path = Path(model)
    name = path.parent.name if path.name in (TAGGER_FILE, ENSEMBLE_FILE) else path.name
    return re.sub("-[0-9a-f]{8}$", "", name)
