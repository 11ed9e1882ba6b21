"""What makes two experiments the same one: their keys, their data, and the folder that follows from both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from musictag.common.errors import MusictagError
from musictag.data.datasets import Source
from musictag.data.features.descriptors import feature_digest
from musictag.data.preparation.prepare import song_versions
from musictag.data.store.folder import prepared_folder
from musictag.experiment.code_versions import code_versions
from musictag.models.backends import BackEnd
from musictag.models.factory import with_lists
from musictag.models.frontends import FrontEnd
from musictag.models.pretrained import digest
from musictag.training.flags import check_flags
from musictag.training.instantiate import check_part, closest

#: Every key that is read, but those of parts, which are checked against what these take, and of front-end, back-end and
#: data set.
KEYS = {
    "": (
        "frontend", "backend", "probe", "data", "loss", "optimizer", "scheduler", "trainer", "callbacks", "logger",
        "evaluation", "monitor", "compile", "lr_scaling", "seed", "init_from", "freeze", "study", "names", "runs_dir",
        "data_dir", "baseline",
    ),
    "lr_scaling": ("rule", "reference_batch_size"),
    "evaluation": ("mode", "batch_size", "bootstrap_resamples", "confidence"),
}  # fmt: skip
#: Groups of which the configuration holds one part, and those that hold several by name.
PARTS = ("loss", "optimizer", "scheduler", "trainer")
NAMED_PARTS = ("callbacks", "logger")
#: Of a baseline's configuration: it has no network, and hears whole songs.
BASELINE_KEYS = (
    "baseline", "data", "evaluation", "seed", "study", "names", "logger", "runs_dir", "data_dir",
)  # fmt: skip
#: Of these, what only networks read.
NETWORK_KEYS = (
    "data.patch_seconds", "data.num_workers", "data.batch_size", "data.patches_per_song", "evaluation.mode",
    "evaluation.batch_size",
)  # fmt: skip
#: Keys of ``data`` that belong to the pipeline; the others describe the source.
PIPELINE_KEYS = (
    "batch_size", "patches_per_song", "patch_seconds", "train_songs", "num_workers", "prepare_workers",
    "max_bad_fraction",
)  # fmt: skip
#: Keys, or groups of them, that cannot change the result, and why: they are not in the identity of a run. Rounding, and
#: noise that is drawn anew from the same distribution, as another processor brings them, make no other experiment.
INDIFFERENT_KEYS: dict[str, str] = {
    "runs_dir": "where results lie",
    "data_dir": "where prepared audio lies",
    "logger": "who is told",
    "study": "a name for reports",
    "names": "what they stand for is in the identity itself; they only begin the folder's name",
    "init_from": "the digest of its weights is in the identity, whatever the file is called",
    "evaluation.batch_size": "every patch is scored by itself",
    "evaluation.bootstrap_resamples": "intervals come from stored predictions, without a training",
    "evaluation.confidence": "intervals come from stored predictions, without a training",
    "data.num_workers": "a patch is a function of seed, epoch and song, whoever cuts it",
    "data.prepare_workers": "every song is prepared by itself",
    "data.max_bad_fraction": "it decides whether a run begins at all",
    "trainer.accelerator": "another device rounds otherwise",
    "trainer.log_every_n_steps": "who is told how often",
    "trainer.enable_progress_bar": "who is told",
    "trainer.enable_model_summary": "who is told",
    "trainer.profiler": "time is taken, and nothing changed",
    "trainer.detect_anomaly": "it decides whether a run goes on",
    "callbacks.checkpoint": "an interrupted run ends as one that was not",
    "baseline.threads": "the same trees and lines, sooner or later",
}
_BATCH_NORM = "`batch_norm_shares`, in how many shares batch norm sees a batch, is in the identity instead"
#: Keys that count under some settings of others only; what they come to is in the identity.
CONDITIONAL_KEYS: dict[str, str] = {
    "trainer.devices": _BATCH_NORM,
    "trainer.num_nodes": _BATCH_NORM,
    "trainer.strategy": _BATCH_NORM,
    "trainer.sync_batchnorm": _BATCH_NORM,
    "lr_scaling.reference_batch_size": "read, and in the identity, where lr_scaling.rule is not none",
}


def check_keys(config: dict[str, Any]) -> None:
    """Raise MusictagError for a key that nothing would read, for a part that there is not, and for intervals of which
    there are none."""
    for name, known in KEYS.items():
        given = config if name == "" else config[name]
        if unknown := sorted(set(given) - set(known)):
            where = f"{name} has no key" if name else "there is no key"
            raise MusictagError(f"{where} {', '.join(unknown)}; {closest(unknown[0], known)}")
    parts = {name: config.get(name) for name in PARTS}
    for group in NAMED_PARTS:
        parts |= {f"{group}.{name}": spec for name, spec in (config.get(group) or {}).items()}
    for key, spec in parts.items():
        if spec is not None or key in ("loss", "optimizer", "trainer"):
            check_part(key, spec)
    check_flags(config["trainer"])
    resamples, confidence = config["evaluation"]["bootstrap_resamples"], config["evaluation"]["confidence"]
    if not isinstance(resamples, int) or resamples < 0:
        raise MusictagError(f"evaluation.bootstrap_resamples={resamples} must be a whole number, 0 for no intervals")
    if not isinstance(confidence, int | float) or not 0 < confidence < 1:
        raise MusictagError(f"evaluation.confidence={confidence} must lie between 0 and 1, for example 0.95")


def is_baseline(config: dict[str, Any]) -> bool:
    """Whether features and a baseline are asked for, and no network."""
    return config.get("baseline") is not None


def baseline_config(config: dict[str, Any]) -> dict[str, Any]:
    """What of the configuration a baseline reads: without network, patches and training, and without their names."""
    kept = _without({key: config[key] for key in BASELINE_KEYS}, NETWORK_KEYS)
    return kept | {"names": kept["names"] | dict.fromkeys(("frontend", "backend", "probe"))}


def run_folder(config: dict[str, Any], source: Source) -> Path:
    """Where the run of this configuration lives: the same configuration on the same songs, the same folder.

    Raises MusictagError where ``trainer.devices`` leaves to the machine what would change the network.
    """
    manifest = source.learnable_manifest()
    songs = {"audio": source.fingerprint(), "songs": manifest.digest()}
    if hasattr(source, "versions"):  # a mended file may be another song
        versions = song_versions(source, manifest, prepared_folder(source, config["data_dir"]))
        songs["files"] = hashlib.sha256("\n".join(v or "" for v in versions.to_pylist()).encode()).hexdigest()
    names = config["names"]
    config = _with_lists(config)
    if is_baseline(config):
        config, songs["features"] = baseline_config(config), feature_digest()
        parts = [names["baseline"]]
    else:
        config = _without(config, ("baseline",))  # null, or not there at all: the same run
        if config["init_from"] is not None:
            songs["weights"] = digest(config["init_from"])
        parts = [names["model"]] if names["model"] else [names["frontend"], names["backend"]]
        parts += [names["probe"]] if names["probe"] else []
        if "trainer" in config and batch_norm_shares(config["trainer"]) is None:
            raise MusictagError(
                "with trainer.sync_batchnorm=false every process has its own batch norms, so their number changes the "
                f"network, and trainer.devices={config['trainer'].get('devices')} leaves it to the machine; type a "
                "number, such as trainer.devices=2, or trainer.sync_batchnorm=true"
            )
    decides = deciding(config, source.locations)
    if versions := code_versions(decides):
        songs["code"] = versions
    identity = json.dumps(_canonical(decides) | songs, sort_keys=True)
    end = hashlib.sha256(identity.encode()).hexdigest()[:8]
    place = Path(config["runs_dir"]) / source.name
    # a model spelt out in settings of its parts is the same run, under the name that it was first made with
    there = sorted(place.glob(f"*-{end}"))
    return there[0] if there else place / "-".join([*parts, end])


def deciding(config: dict[str, Any], locations: Collection[str]) -> dict[str, Any]:
    """What of the configuration can change the result; ``trainer.batch_norm_shares`` is added where it is not one.

    ``locations``: of the source.
    """
    kept = _without(config, (*INDIFFERENT_KEYS, *CONDITIONAL_KEYS, *(f"data.{name}" for name in locations)))
    trainer = config.get("trainer")
    if trainer is None:  # a baseline
        return kept
    kept["callbacks"] = {name: spec for name, spec in kept["callbacks"].items() if spec is not None}
    if config["lr_scaling"]["rule"] == "none":
        kept.pop("lr_scaling")
    else:
        kept["lr_scaling"]["reference_batch_size"] = config["lr_scaling"]["reference_batch_size"]
    if (shares := batch_norm_shares(trainer)) != 1:
        kept["trainer"]["batch_norm_shares"] = shares
    return kept


def batch_norm_shares(trainer: dict[str, Any]) -> int | None:
    """In how many shares of a batch batch norm takes its statistics: one, or without ``sync_batchnorm`` one a process.

    None where ``trainer.devices`` leaves that to the machine.
    """
    if trainer.get("sync_batchnorm") or trainer.get("strategy", "auto") == "auto":  # which stands for a single process
        return 1
    devices = _number_of_devices(trainer.get("devices", "auto"))
    return devices and devices * trainer.get("num_nodes", 1)


def _number_of_devices(devices: Any) -> int | None:
    """As Lightning reads it: a number, a list of devices, or either as text; None: however many there are."""
    if isinstance(devices, str):
        listed = [word for word in devices.split(",") if word.strip()]
        if len(listed) > 1 or devices.strip().endswith(","):
            return len(listed)
        devices = int(devices) if devices.strip().isdecimal() else None
    if isinstance(devices, list | tuple):
        return len(devices)
    return devices if isinstance(devices, int) and devices > 0 else None


def _with_lists(config: dict[str, Any]) -> dict[str, Any]:
    """``config`` with lists where its parts have them: data.tags=rock and data.tags=[rock] are one experiment."""
    from musictag.models.baselines import FeatureModel  # which imports this module, for the number of cores

    contracts = {"data": Source, "frontend": FrontEnd, "backend": BackEnd, "baseline": FeatureModel}
    return config | {
        group: with_lists(config[group], contract) for group, contract in contracts.items() if config.get(group)
    }


def _canonical(value: Any) -> Any:
    """``value`` with whole numbers as integers: data.patch_seconds=3 and 3.0 are one experiment."""
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _without(config: dict[str, Any], keys: Collection[str], prefix: str = "") -> dict[str, Any]:
    """``config`` without the dotted ``keys``."""
    return {
        key: _without(value, keys, f"{prefix}{key}.") if isinstance(value, dict) else value
        for key, value in config.items()
        if f"{prefix}{key}" not in keys
    }


def system_label(config: Mapping[str, Any]) -> str:
    """What competes, in a word or two: a baseline, a model, or front-end and back-end; and what it began with."""
    names = config["names"]
    label = names["baseline"] or names["model"] or f"{names['frontend']}+{names['backend']}"
    if config.get("init_from"):
        how = f"{names['probe']} probe" if names.get("probe") else f"{config['freeze'] or 'nothing'} frozen"
        label += f" from {Path(config['init_from']).name} ({how})"
    return label
