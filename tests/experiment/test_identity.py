"""What makes two runs the same one: every key of the shipped configuration, changed one at a time."""

from __future__ import annotations

import copy
import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning

from musictag.common.errors import MusictagError
from musictag.data.datasets import Source
from musictag.evaluation.metrics import METRICS
from musictag.experiment import run as experiment
from musictag.experiment.identity import CONDITIONAL_KEYS, INDIFFERENT_KEYS
from musictag.experiment.results.files import results_as_asked
from musictag.models.factory import accepted, find_class
from tests.conf.test_conf import NEEDED
from tests.experiment.test_baseline_identity import FixedSongs
from tests.helpers.encoders import make
from tests.helpers.experiments import ROOT, SMALL_TREES, TINY, compose_config, folders
from tests.helpers.studies import write_run

#: Every file of every group but the presets, which only choose among these.
FILES = sorted(
    (path.parent.name, path.stem)
    for group in (
        "frontend",
        "backend",
        "data",
        "loss",
        "optimizer",
        "scheduler",
        "trainer",
        "callbacks",
        "logger",
        "probe",
        "baseline",
        "recipe",
    )
    for path in (ROOT / "conf" / group).glob("[!_]*.yaml")
)
#: For each key that counts under some settings only: settings and a change that make a difference, and others that do
#: not.
FROZEN = {"probe": {"hidden_units": []}}
DDP = {"trainer.strategy": "ddp", "trainer.devices": 2, "data.batch_size": 32}
CONDITIONS: dict[str, tuple[dict[str, Any], dict[str, Any], Any]] = {
    "trainer.devices": (DDP | {"trainer.sync_batchnorm": False}, DDP | {"trainer.sync_batchnorm": True}, 4),
    "trainer.num_nodes": (DDP | {"trainer.sync_batchnorm": False}, DDP | {"trainer.sync_batchnorm": True}, 2),
    "trainer.strategy": (DDP | {"trainer.sync_batchnorm": False}, DDP | {"trainer.sync_batchnorm": True}, "auto"),
    "trainer.sync_batchnorm": (DDP, {"trainer.strategy": "ddp", "trainer.devices": 1}, True),
    "compile": (FROZEN, {}, True),
    "cached_features": (FROZEN, {}, False),
    "lr_scaling.reference_batch_size": (
        {"lr_scaling.rule": "sqrt"},
        {"lr_scaling.rule": "none"},
        64,
    ),
}


@cache
def composed(group: str, name: str) -> dict[str, Any]:
    needed = NEEDED.get(name, []) if group == "data" else []
    return compose_config(f"{group}={name}", *needed)


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def changed(config: dict[str, Any], **values: Any) -> dict[str, Any]:
    """``config`` with other values of dotted keys."""
    config = copy.deepcopy(config)
    for key, value in values.items():
        *groups, last = key.split(".")
        place = config
        for name in groups:
            place = place[name]
        place[last] = value
    return config


#: Two classes of each group that has classes.
CLASSES = {
    "frontend": ("musictag.models.frontends.waveform.SampleLevel", "musictag.models.frontends.harmonic.Harmonic"),
    "backend": ("musictag.models.backends.dense.Dense", "musictag.models.backends.recurrent.Recurrent"),
    "data": ("musictag.data.datasets.songbook.Songbook", "musictag.data.datasets.jamendo.Jamendo"),
    "baseline": ("musictag.models.baselines.trees.Trees", "musictag.models.baselines.linear.Linear"),
}


def another(value: Any, key: str = "") -> Any:
    group, _, name = key.partition(".")
    if name == "_target_" and group in CLASSES:
        return next(target for target in CLASSES[group] if target != value)
    if value is None and name in ("split_fractions", "strides"):  # lists of numbers
        return [7]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value * 2 + 3
    return [*value, 7] if isinstance(value, list) else f"{value}-changed"


def identity_of(config: dict[str, Any]) -> str:
    source = FixedSongs()
    source.locations = locations(config)
    return experiment.make_run(config).folder(source).name.rpartition("-")[2]


def locations(config: dict[str, Any]) -> tuple[str, ...]:
    return find_class(config["data"]["_target_"].removesuffix("-changed"), Source).locations


def among(key: str, keys: dict[str, str]) -> bool:
    """Whether the key, or the group that it is in, is one of them."""
    parts = key.split(".")
    return any(".".join(parts[: end + 1]) in keys for end in range(len(parts)))


def test_no_augmentation_and_none_left_are_the_same_run() -> None:
    plain, gain = compose_config(), compose_config("recipe=gain")
    assert identity_of(changed(gain, **{"augmentation.gain": None})) == identity_of(plain)
    assert identity_of(plain | {"augmentation": {}}) == identity_of(plain)
    assert identity_of(gain) != identity_of(plain)


@pytest.mark.parametrize(("group", "name"), FILES, ids=lambda value: value)
def test_every_key_is_in_the_identity_or_known_to_change_nothing(group: str, name: str, tmp_path: Path) -> None:
    weights, copied = tmp_path / "weights.ckpt", tmp_path / "copy.ckpt"
    weights.write_bytes(b"weights")
    shutil.copy(weights, copied)
    files = {"init_from": str(weights), "teacher": str(weights)}
    config = changed(composed(group, name), **files, **({"freeze": None} if group == "probe" else {}))
    if group == "baseline":
        config["baseline"]["features"] = str(weights)
    places = {f"data.{name}": "a place" for name in locations(config)}
    if name == "huggingface":
        encoder, elsewhere = tmp_path / "encoder", tmp_path / "elsewhere"
        make("hubert", encoder)
        shutil.copytree(encoder, elsewhere)
        config["frontend"]["name"] = str(encoder)
        assert identity_of(changed(config, **{"frontend.name": str(elsewhere)})) == identity_of(config)
        make("hubert", elsewhere, num_hidden_layers=1)
        assert identity_of(changed(config, **{"frontend.name": str(elsewhere)})) != identity_of(config)
    read = set(flat(experiment.make_run(config).config))
    plain = identity_of(config)
    indifferent = INDIFFERENT_KEYS | places
    for key, value in flat(config).items():
        if key == "frontend.name":
            continue
        if among(key, CONDITIONAL_KEYS):
            assert not among(key, indifferent), key
            continue
        other = identity_of(changed(config, **{key: str(copied) if value == str(weights) else another(value, key)}))
        is_in_identity = key in read and not among(key, indifferent)
        assert (other != plain) == is_in_identity, key


def test_no_key_is_listed_that_there_is_not_and_every_one_has_its_reason() -> None:
    there = set().union(*(flat(composed(*file)) for file in FILES))
    groups = {key.partition(".")[0] for key in there}
    listed = INDIFFERENT_KEYS | CONDITIONAL_KEYS
    assert len(listed) == len(INDIFFERENT_KEYS) + len(CONDITIONAL_KEYS)
    flags = {f"trainer.{flag}" for flag in accepted(pytorch_lightning.Trainer)[0]}  # for a + on the command line
    assert set(listed) <= there | groups | flags | {"callbacks.checkpoint"}
    assert all(len(reason) > 10 for reason in listed.values())
    # what trains the network, scores it or chooses the songs is never on the list, whoever edits it
    for key in (
        "trainer.gradient_clip_val", "data.batch_size", "optimizer.weight_decay", "trainer.precision",
        "monitor", "evaluation.mode", "loss._target_", "scheduler.patience",
        "callbacks.early_stopping.patience", "seeds.subset", "seeds.initialisation", "seeds.order", "freeze",
        "data.train_songs", "data.patch_seconds", "data.unlabelled", "distillation.weight",
        "data.max_seconds", "baseline.num_leaves", "baseline.penalties", "backend.dropout", "frontend.norm_momentum",
    ):  # fmt: skip
        assert key in there
        assert not among(key, listed)


@pytest.mark.parametrize("key", CONDITIONAL_KEYS)
def test_a_key_that_counts_under_some_settings_counts_under_these_alone(key: str) -> None:
    counts, does_not, value = CONDITIONS[key]
    for settings, differs in ((counts, True), (does_not, False)):
        config = changed(composed("trainer", "default"), **settings)
        assert (identity_of(changed(config, **{key: value})) != identity_of(config)) is differs, settings


def test_a_frozen_front_end_is_another_run_compiled_as_its_features_are_not_stored() -> None:
    frozen = changed(composed("trainer", "default"), freeze="frontend")
    compiled = changed(frozen, compile=True)
    assert identity_of(compiled) != identity_of(frozen)
    assert identity_of(compiled) == identity_of(changed(frozen, cached_features=False))
    whole = {"evaluation.mode": "whole"}  # with which they are not stored in any case
    assert identity_of(changed(compiled, **whole)) == identity_of(changed(frozen, **whole))


def test_a_network_of_one_process_is_one_run_however_it_is_said() -> None:
    one = identity_of(composed("trainer", "default"))
    alone = {"trainer.devices": 1, "data.batch_size": 32}
    assert identity_of(changed(composed("trainer", "ddp"), **alone)) == one
    assert identity_of(changed(composed("trainer", "ddp"), **alone, **{"trainer.sync_batchnorm": False})) == one
    # two machines of two are four processes
    apart = {"trainer.strategy": "ddp", "trainer.sync_batchnorm": False}
    found = {
        identity_of(changed(composed("trainer", "default"), **apart, **{"trainer.devices": d, "trainer.num_nodes": n}))
        for d, n in ((4, 1), (2, 2), ([0, 1], 2), ("2", 2), ("0,1,2,3", 1))
    }
    assert len(found) == 1
    assert one not in found


@pytest.mark.parametrize("devices", ["auto", -1, "-1", "many"])
def test_a_number_of_processes_that_decides_must_be_said(devices: Any) -> None:
    ddp = changed(composed("trainer", "ddp"), **{"trainer.devices": devices})
    assert identity_of(ddp) == identity_of(composed("trainer", "default"))
    with pytest.raises(MusictagError, match=rf"trainer.devices={devices} leaves it to the machine; use a number"):
        identity_of(changed(ddp, **{"trainer.sync_batchnorm": False}))


# intervals


@pytest.fixture
def tiny(tiny_catalogue: Path, tmp_path: Path) -> list[str]:
    return ["data=catalogue", f"data.path={tiny_catalogue}", *TINY, "trainer.max_epochs=1", *folders(tmp_path)]


def without_intervals(metrics: dict[str, Any]) -> dict[str, Any]:
    kept = copy.deepcopy(metrics)
    for name in METRICS:
        if kept["test"][name]:
            kept["test"][name] = kept["test"][name]["value"]
    del kept["test"]["resamples"], kept["test"]["confidence"]
    for name in ("bootstrap_resamples", "confidence"):
        del kept["config"]["evaluation"][name]
    return kept


def written(run_dir: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in run_dir.iterdir()}


@pytest.mark.parametrize("kind", ["network", pytest.param("baseline", marks=pytest.mark.slow)])
def test_other_intervals_are_computed_without_a_training(
    tiny: list[str], tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = tiny if kind == "network" else [*(w for w in tiny if w.startswith(("data", "runs"))), *SMALL_TREES]
    words = [word for word in words if not word.startswith(("data.patch", "data.num"))] if kind == "baseline" else words
    first = experiment.run(compose_config(*words))
    run_dir = experiment.results_folder(compose_config(*words))
    before = written(run_dir)
    capsys.readouterr()
    asked = compose_config(*words, "evaluation.confidence=0.5", "evaluation.bootstrap_resamples=300")
    assert experiment.results_folder(asked) == run_dir
    second = experiment.run(asked)
    said = capsys.readouterr().out
    assert "its intervals are recomputed from its predictions" in said
    assert "epoch" not in said
    assert {name for name, time in written(run_dir).items() if time != before[name]} == {
        "metrics.json", "config.json", "tags.png",
    }  # fmt: skip
    assert second == experiment.results(asked)
    assert without_intervals(second) == without_intervals(first)
    assert (second["test"]["confidence"], second["test"]["resamples"]) == (0.5, 300)
    assert second["config"]["evaluation"]["confidence"] == 0.5
    one, other = first["test"]["rmse"], second["test"]["rmse"]
    assert one["low"] < other["low"] < other["value"] < other["high"] < one["high"]
    # as if it had been asked for in the first place
    fresh = experiment.run(asked | {"runs_dir": str(tmp_path / "fresh")})
    assert fresh["test"] == second["test"]
    # once they are there, nothing is done
    before = written(run_dir)
    experiment.run(asked)
    assert "nothing to do" in capsys.readouterr().out
    assert written(run_dir) == before


def test_a_finished_run_takes_another_label_over_and_keeps_everything_else(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path, "waveform_small", "waveform", 0.7, songs=40, tags=4)
    before = json.loads((run_dir / "metrics.json").read_text())
    config = before["config"]
    config["evaluation"] |= {"bootstrap_resamples": before["test"]["resamples"]}
    labelled = config | {"label": "narrow"}
    assert experiment.make_run(labelled).deciding([]) == experiment.make_run(config).deciding([])
    assert results_as_asked(run_dir, labelled) == json.loads((run_dir / "metrics.json").read_text())
    for file in ("metrics.json", "config.json"):
        content = json.loads((run_dir / file).read_text())
        assert content.get("config", content)["label"] == "narrow"
    assert content["optimizer"] == config["optimizer"]
    assert results_as_asked(run_dir, config)["config"]["label"] == "narrow"  # null asks for nothing


def test_predictions_of_another_run_give_no_intervals(tiny: list[str]) -> None:
    config = compose_config(*tiny)
    experiment.run(config)
    path = experiment.results_folder(config) / "predictions.npz"
    with np.load(path) as found:
        arrays = dict(found)
    np.savez(path, **(arrays | {"scores": 1 - arrays["scores"]}))
    before = experiment.results(config)
    asked = compose_config(*tiny, "evaluation.confidence=0.5")
    with pytest.raises(
        MusictagError, match=r"predictions\.npz and metrics\.json in the same folder do not belong together"
    ):
        experiment.run(asked)
    path.write_bytes(b"damaged")
    with pytest.raises(MusictagError, match=r"predictions\.npz cannot be read"):
        experiment.run(asked)
    assert experiment.results(config) == before


@pytest.mark.parametrize(
    "override",
    ["evaluation.confidence=1", "evaluation.confidence=95", "evaluation.bootstrap_resamples=-1",
     "evaluation.bootstrap_resamples=0.5", "evaluation.confidence=high"],
)  # fmt: skip
def test_intervals_that_cannot_be_are_refused_before_any_work(tiny: list[str], tmp_path: Path, override: str) -> None:
    with pytest.raises(MusictagError, match=override.split("=")[0]):
        experiment.run(compose_config(*tiny, override))
    assert not (tmp_path / "runs").exists()
