"""Baselines on a network's features: fitted in seconds, and complete where they are used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import musictag
from musictag.common.errors import MusictagError
from musictag.experiment import run as experiment
from musictag.inference.ensemble import EnsembleTagger, write_members
from tests.helpers.embeddings import CONNECTED, MUSICNN, make_network, save
from tests.helpers.experiments import SMALL, SMALL_TREES, compose_config, run


@pytest.fixture
def network(tmp_path: Path) -> str:
    return save(tmp_path / "network.safetensors", make_network(MUSICNN, CONNECTED))


def songs(folder: Path, tmp_path: Path) -> list[tuple[Path, list[float]]]:
    """The test songs' files and their scores in ``predictions.npz``."""
    with np.load(folder / "predictions.npz") as found:
        paths = [tmp_path / "music" / "audio" / f"{song}.wav" for song in found["song_ids"]]
        return list(zip(paths, found["scores"].tolist(), strict=True))


def test_a_linear_model_on_a_networks_features_is_complete(place: list[str], network: str, tmp_path: Path) -> None:
    folder, metrics = run(*place, "baseline=logistic", f"baseline.features={network}", *SMALL)
    assert metrics["features"] == 6
    assert metrics["input"] == "6 features of network.safetensors"
    assert metrics["parameters"] == 3 * 7
    (beside,) = folder.glob("features-*.safetensors")
    Path(network).unlink()
    tagger = musictag.load(folder)
    for path, scores in songs(folder, tmp_path):
        assert tagger.predict_song(tagger.read(path)).tolist() == scores
    np.testing.assert_allclose(tagger.embed(path), musictag.load(beside).embed(path), rtol=1e-3, atol=1e-5)
    assert (folder / "importances.csv").read_text().splitlines()[1].split(",")[1].startswith("penultimate ")
    assert not (folder / "importances.png").exists()  # numbers of features mean nothing
    # in an ensemble, too
    write_members(tmp_path / "both", [folder / "model.json", folder / "model.json"])
    both = musictag.load(tmp_path / "both")
    assert isinstance(both, EnsembleTagger)
    assert both.tag(path) == tagger.tag(path)
    # but not without the network, nor with another one
    alone = shutil.copy(folder / "model.json", tmp_path / "model.json")
    for damage in (None, b"another file"):
        if damage:
            (tmp_path / beside.name).write_bytes(damage)
        with pytest.raises(
            MusictagError, match=rf"with SHA-256 \w+, and {beside.name} is not beside it, or is another"
        ):
            musictag.load(alone)
    content = json.loads(Path(alone).read_text())
    for change, message in (
        ({"network": {"model": 3}}, "its features are damaged"),
        ({"network": content["network"] | {"sha256": "../" * 21 + "x"}}, "is no SHA-256"),
        ({"network": None}, "fitted to other features"),
    ):
        Path(alone).write_text(json.dumps(content | change))
        with pytest.raises(MusictagError, match=message):
            musictag.load(alone)


def test_trees_take_any_layer_and_every_network_makes_another_run(
    place: list[str], network: str, tmp_path: Path
) -> None:
    words = [*place, *SMALL_TREES, f"baseline.features={network}", "baseline.layer=frontend"]
    folder, metrics = run(*words)
    assert metrics["features"] == make_network(MUSICNN, CONNECTED).frontend.out_channels
    tagger = musictag.load(folder)
    for path, scores in songs(folder, tmp_path):
        assert tagger.predict_song(tagger.read(path)).tolist() == scores
    places = {experiment.results_folder(compose_config(*words))}
    moved = shutil.copy(network, tmp_path / "moved.safetensors")
    places.add(experiment.results_folder(compose_config(*words, f"baseline.features={moved}")))
    assert places == {folder}
    save(Path(moved), make_network())
    for change in (f"baseline.features={moved}", "baseline.features=null", "baseline.layer=null"):
        places.add(experiment.results_folder(compose_config(*words, change)))
    assert len(places) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["baseline.features=musicnn"], "Pretrained models go by name"),
        (["baseline.features=JSON"], r"is no network; use the tagger\.safetensors of a run"),
        (["baseline.layer=frontend"], r"use baseline\.features=\.\.\. as well"),
        (["baseline.features=NETWORK", "baseline.layer=frontendd"], "has no layer frontendd; similar names: frontend"),
    ],
)
def test_refused_before_any_work(
    place: list[str], network: str, tmp_path: Path, words: list[str], message: str
) -> None:
    (tmp_path / "model.json").write_text("{}")
    words = [word.replace("NETWORK", network).replace("JSON", str(tmp_path / "model.json")) for word in words]
    with pytest.raises(MusictagError, match=message):
        experiment.run(compose_config(*place, "baseline=logistic", *SMALL, *words))
    assert not (tmp_path / "data").exists()
