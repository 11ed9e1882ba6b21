"""Damaged and malicious taggers, models and pickles: each is used or refused by name, quickly, in little memory."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from torch import Tensor

from musictag.data.features.descriptors import feature_names
from musictag.models import checkpoint
from musictag.models.baselines.trees import Trees
from tests.helpers.fuzzing import damage, flip_bits, read_all, splice, write_all
from tests.helpers.models import BACKENDS, FRONTENDS, spec
from tests.inference.test_tagger import make_network

#: What a stranger may write where a number or a list was.
NASTY: tuple[Any, ...] = (
    0, -1, 1, 3, 2**16, 10**6, 10**9, 2**62, 10**300, 0.5, -0.0, 1e-300, 1e300, float("inf"), float("nan"), None, True,
    "", "x", "16000", [], [1], [10**6] * 5, [[2, 2]] * 3, [0], ["x"], {}, {"a": 1},
    "musictag.models.frontends.FrontEnd",
)  # fmt: skip


def stored(text: str, state: dict[str, Tensor] | None = None) -> bytes:
    """A tagger's file with this description, its checksum right."""
    return checkpoint._serialised(text, make_network().state_dict() if state is None else state)


def described(**changes: Any) -> str:
    """The description of a whole file, changed."""
    network = make_network()
    return json.dumps({"format": 1, **network.spec, "sample_rate": network.sample_rate, "epoch": 3} | changes)


def with_nasty_setting(rng: np.random.Generator, spec: dict[str, Any]) -> dict[str, Any]:
    """One value somewhere in the description, or a whole part of it, becomes a nasty one."""
    spec = copy.deepcopy(spec)
    place: Any = spec
    while True:
        key = list(place)[rng.integers(len(place))] if isinstance(place, dict) else int(rng.integers(len(place)))
        if not isinstance(place[key], dict | list) or not place[key] or rng.random() < 0.15:
            place[key] = copy.deepcopy(NASTY[rng.integers(len(NASTY))])
            return spec
        place = place[key]


def damaged(count: int) -> list[bytes]:
    """In turn: damaged bytes; a damaged header or description in a whole file; a nasty setting, of all parts."""
    rng = np.random.default_rng(0)
    text = described()
    whole = stored(text)
    files = [whole]
    while len(files) < count:
        turn, mutate = len(files) % 4, (flip_bits, splice)[rng.integers(2)]
        if turn == 0:
            files.append(damage(rng, whole))
        elif turn == 1:
            files.append(stored(mutate(rng, text.encode()).decode("latin1")))
        elif turn == 2:
            header = mutate(rng, header_of(whole))
            files.append(with_header(whole, header))
        else:
            made = make_network().spec | {"patch_seconds": float(rng.choice([0.5, 4.0]))}
            made["frontend"] = spec("frontend", FRONTENDS[rng.integers(len(FRONTENDS))])
            made["backend"] = spec("backend", BACKENDS[rng.integers(len(BACKENDS))])
            files.append(stored(described(**with_nasty_setting(rng, made))))
    return files


def header_of(data: bytes) -> bytes:
    return data[8 : 8 + int.from_bytes(data[:8], "little")]


def with_header(data: bytes, header: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + data[8 + len(header_of(data)) :]


def read_damaged(count: int, folder: Path) -> None:
    paths = write_all(folder / "models", damaged(count), ".safetensors")
    outcomes = read_all("tagger", paths, folder / "empty", megabytes=1024)
    outcomes.check(count)
    assert paths[0] in outcomes.used


def test_a_few_damaged_taggers(tmp_path: Path) -> None:
    read_damaged(40, tmp_path)


@pytest.mark.slow
def test_five_hundred_damaged_taggers(tmp_path: Path) -> None:
    read_damaged(500, tmp_path)


def extreme_settings() -> list[bytes]:
    """Every setting of every part, with extreme values."""
    files = []
    for group, names in (("frontend", FRONTENDS), ("backend", BACKENDS)):
        for name in names:
            part = spec(group, name)
            for key in part:
                for value in (0, -1, 2**24, 10**12, 1e-9, float("nan"), "x", [], [2**24] * 3, None):
                    changes = {group: part | {key: value}, "patch_seconds": 4.0}
                    files.append(stored(described(**changes), {}))
    return files


@pytest.mark.slow
def test_no_setting_of_any_part_costs_more_than_a_refusal(tmp_path: Path) -> None:
    files = extreme_settings()
    assert len(files) > 1500
    paths = write_all(tmp_path / "models", files, ".safetensors")
    outcomes = read_all("tagger", paths, tmp_path / "empty", megabytes=1024)
    outcomes.check(len(files))


def trees() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    songs = rng.normal(0, 1, (60, len(feature_names())))
    targets = (songs[:, 0] > 0).astype(float)
    model = Trees(threads=1, min_child_samples=5, max_rounds=4)
    fitted = model.fitter(songs, songs, 0).fit("classification", targets, targets, {"num_leaves": 7, "rounds": 3})
    return {
        "what": "musictag baseline 1",
        "features": list(feature_names()),
        "baseline": {"_target_": "musictag.models.baselines.trees.Trees"},
        "tags": [{"name": "a", "kind": "classification", **fitted}],
    }


def damaged_models(count: int) -> list[bytes]:
    """In turn: damaged bytes of the file; of the text of its trees."""
    rng = np.random.default_rng(0)
    content = trees()
    whole, text = json.dumps(content).encode(), content["tags"][0]["lightgbm"].encode()
    files = [whole]
    while len(files) < count:
        if len(files) % 4 == 0:
            files.append(damage(rng, whole))
        else:
            changed = (flip_bits, splice)[rng.integers(2)](rng, text[: text.index(b"end of trees") + 20])
            content["tags"][0]["lightgbm"] = (changed + text[text.index(b"end of trees") + 20 :]).decode("latin1")
            files.append(json.dumps(content).encode())
    return files


@pytest.mark.parametrize("count", [40, pytest.param(500, marks=pytest.mark.slow)])
def test_damaged_models_of_a_baseline(count: int, tmp_path: Path) -> None:
    paths = write_all(tmp_path / "models", damaged_models(count), ".json")
    outcomes = read_all("models", paths, tmp_path / "empty")
    outcomes.check(count)
    assert paths[0] in outcomes.used


def test_trees_that_were_checked_are_the_same_trees() -> None:
    from musictag.models.baselines.lightgbm_text import checked_trees

    rng = np.random.default_rng(1)
    songs = rng.normal(0, 1, (200, len(feature_names())))
    labels = (songs[:, 0] + rng.normal(0, 1, 200) > 0) * 1.0
    settings = {"objective": "binary", "verbosity": -1, "num_threads": 1}
    # as LightGBM writes it, with all that describes the training
    text = lightgbm.train(settings, lightgbm.Dataset(songs, labels), num_boost_round=5).model_to_string()
    assert "split_gain=" in text
    assert "split_gain=" not in checked_trees(text)
    before, after = (lightgbm.Booster(model_str=model).predict(songs) for model in (text, checked_trees(text)))
    np.testing.assert_array_equal(before, after)
    assert np.ptp(before) > 0.01


@pytest.mark.parametrize("count", [40, pytest.param(500, marks=pytest.mark.slow)])
def test_damaged_pickles(count: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    content = {f"TR{i}": np.arange(5.0) for i in range(4)} | {"names": ["x", b"y", 1.5]}
    whole = [pickle.dumps(content, protocol) for protocol in range(5)]
    files = [whole[2], *(damage(rng, whole[i % 5]) for i in range(count - 1))]
    paths = write_all(tmp_path / "lists", files, ".cP")
    outcomes = read_all("pickle", paths, tmp_path / "empty", megabytes=256)
    outcomes.check(count)
    assert paths[0] in outcomes.used
