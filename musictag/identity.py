"""What makes two experiments the same one: their keys, their data, and the folder that follows from both."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from musictag.build import build, find_class, settings
from musictag.data.prepare import prepared_folder, song_versions
from musictag.data.sources import Source
from musictag.errors import MusictagError
from musictag.features import feature_digest
from musictag.transfer import digest

#: Every key that is read, by group; those of front-end, back-end, data and logger are checked by who reads them.
KEYS = {
    "": (
        "frontend", "backend", "probe", "data", "trainer", "logger", "evaluation", "objective", "seed", "init_from",
        "freeze", "study", "names", "runs_dir", "data_dir", "baseline",
    ),
    "trainer": (
        "max_epochs", "early_stopping_patience", "monitor", "batch_size", "accumulate_batches", "patches_per_song",
        "learning_rate", "weight_decay", "schedule", "plateau_patience", "plateau_factor", "gradient_clip", "precision",
        "compile", "accelerator", "devices", "num_nodes", "strategy", "sync_batch_norm", "bucket_mb", "static_graph",
        "timeout_minutes", "checkpoint_minutes", "learning_rate_scaling", "reference_batch_size",
    ),
    "evaluation": ("mode", "batch_size", "bootstrap_resamples", "confidence"),
}  # fmt: skip
#: Of a baseline's configuration: it has no network, and hears whole songs.
BASELINE_KEYS = (
    "baseline", "data", "evaluation", "seed", "study", "names", "logger", "runs_dir", "data_dir",
)  # fmt: skip
#: Of these, what only networks read.
NETWORK_KEYS = ("data.patch_seconds", "data.num_workers", "evaluation.mode", "evaluation.batch_size")
#: Keys of ``data`` that belong to the pipeline; the others describe the source.
PIPELINE_KEYS = ("patch_seconds", "train_songs", "num_workers", "prepare_workers", "max_bad_fraction")
#: Keys that cannot change the result, and therefore not the identity of a run.
INDIFFERENT_KEYS = (
    "runs_dir", "data_dir", "logger", "init_from", "study", "names", "evaluation.batch_size",
    "data.num_workers", "data.prepare_workers", "data.max_bad_fraction", "data.path", "data.root", "data.soundfont",
    # who is in which split is the manifest's to say
    "data.split_path", "data.split_fractions", "data.split_seed",
    "data.lists", "data.cals", "data.artists", "data.paths", "data.audio",
    "trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy", "trainer.bucket_mb",
    "trainer.static_graph", "trainer.timeout_minutes", "trainer.checkpoint_minutes", "baseline.threads",
)  # fmt: skip


def check_keys(config: dict[str, Any]) -> None:
    """Raise MusictagError for a key that nothing would read."""
    for name, known in KEYS.items():
        given = config if name == "" else config[name]
        if unknown := sorted(set(given) - set(known)):
            where = f"{name} has no key" if name else "there is no key"
            raise MusictagError(
                f"{where} {', '.join(unknown)}; {'it has' if name else 'the keys are'} {', '.join(known)}"
            )


def is_baseline(config: dict[str, Any]) -> bool:
    """Whether features and a baseline are asked for, and no network."""
    return config.get("baseline") is not None


def baseline_config(config: dict[str, Any]) -> dict[str, Any]:
    """What of the configuration a baseline reads: without network, patches and training, and without their names."""
    kept = _without({key: config[key] for key in BASELINE_KEYS}, NETWORK_KEYS)
    return kept | {"names": kept["names"] | dict.fromkeys(("frontend", "backend", "probe"))}


def build_source(config: dict[str, Any]) -> Source:
    """The data set that ``config["data"]`` describes; raises MusictagError for keys that it does not know."""
    spec = {key: value for key, value in config["data"].items() if key not in PIPELINE_KEYS}
    accepted = settings(find_class(spec.get("_target_"), Source))
    place = {"data_dir": config["data_dir"], "workers": prepare_workers(config)}
    return build(spec, Source, **{key: value for key, value in place.items() if key in accepted})


def run_folder(config: dict[str, Any], source: Source) -> Path:
    """Where the run of this configuration lives: the same configuration on the same songs, the same folder."""
    manifest = source.learnable_manifest()
    songs = {"audio": source.fingerprint(), "songs": manifest.digest()}
    if hasattr(source, "versions"):  # a mended file may be another song
        versions = song_versions(source, manifest, prepared_folder(source, config["data_dir"]))
        songs["files"] = hashlib.sha256("\n".join(v or "" for v in versions.to_pylist()).encode()).hexdigest()
    names = config["names"]
    if is_baseline(config):
        config, songs["features"] = baseline_config(config), feature_digest()
        parts = [names["baseline"]]
    else:
        config = _without(config, ("baseline",))  # null, or not there at all: the same run
        if config["init_from"] is not None:
            songs["weights"] = digest(config["init_from"])
        parts = [names["frontend"], names["backend"], *([names["probe"]] if names["probe"] else [])]
        if config.get("trainer", {}).get("learning_rate_scaling") == "none":  # then nothing reads the other key
            config = _without(config, ("trainer.learning_rate_scaling", "trainer.reference_batch_size"))
    identity = json.dumps(_canonical(_without(config, INDIFFERENT_KEYS)) | songs, sort_keys=True)
    parts.append(hashlib.sha256(identity.encode()).hexdigest()[:8])
    return Path(config["runs_dir"]) / source.name / "-".join(parts)


def prepare_workers(config: dict[str, Any]) -> int:
    """How many processes prepare the audio: as many as asked for, else one a core."""
    if config["data"]["prepare_workers"]:
        return config["data"]["prepare_workers"]
    return available_cores()


def available_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _canonical(value: Any) -> Any:
    """``value`` with whole numbers as integers: data.patch_seconds=3 and 3.0 are one experiment."""
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _without(config: dict[str, Any], keys: tuple[str, ...], prefix: str = "") -> dict[str, Any]:
    """``config`` without the dotted ``keys``."""
    return {
        key: _without(value, keys, f"{prefix}{key}.") if isinstance(value, dict) else value
        for key, value in config.items()
        if f"{prefix}{key}" not in keys
    }
