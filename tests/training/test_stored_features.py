"""Training on stored features, where everything before the head is frozen: the same tagger, sooner."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import musictag
from musictag.common.errors import MusictagError
from musictag.data.audio.decode import read_song
from musictag.data.features.patch_features import RELATIVE_ERROR
from musictag.experiment import run as experiment
from musictag.models.network import TaggingNetwork
from musictag.training.module import TaggingModule
from musictag.training.signals import Stopped
from tests.helpers.embeddings import save
from tests.helpers.experiments import TINY, compose_config, folders, run
from tests.helpers.models import as_trained
from tests.helpers.processes import TWO_PROCESSES, program


@pytest.fixture
def tiny(tiny_catalogue: Path, tmp_path: Path) -> list[str]:
    return ["data=catalogue", f"data.path={tiny_catalogue}", *TINY, *folders(tmp_path)]


def beginning(words: list[str], tmp_path: Path) -> str:
    """A tagger for ``init_from`` with the architecture of ``words`` and other tags."""
    config = compose_config(*words)
    network = TaggingNetwork(config["frontend"], config["backend"], [{"name": "rock"}], config["data"]["patch_seconds"])
    as_trained(network)
    return save(tmp_path / "beginning.safetensors", network)


@pytest.fixture
def probe(tiny: list[str], tmp_path: Path) -> list[str]:
    return [*tiny, f"init_from={beginning(tiny, tmp_path)}", "probe=mlp", "probe.norm_momentum=0.1"]


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of patches that the whole network computes, batch by batch."""
    sizes = []
    forward = TaggingNetwork.forward

    def noted(network: TaggingNetwork, waveform: Any) -> Any:
        if waveform.device.type != "meta":  # where operations are only counted
            sizes.append(len(waveform))
        return forward(network, waveform)

    monkeypatch.setattr(TaggingNetwork, "forward", noted)
    return sizes


def test_a_probe_from_stored_features_is_a_tagger_with_the_scores_of_its_network(
    probe: list[str], tmp_path: Path, computed: list[int]
) -> None:
    folder, metrics = run(*probe)
    assert not computed
    tagger = musictag.load(folder)
    with np.load(folder / "predictions.npz") as found:
        for song, scores in zip(found["song_ids"], found["scores"], strict=True):
            whole = tagger.predict_song(read_song(tmp_path / "music" / "audio" / f"{song}.wav"))
            np.testing.assert_allclose(scores, whole, atol=4 * RELATIVE_ERROR)
            assert scores.tolist() != whole.tolist()  # they come from float16
    assert metrics["seconds"]["features"] > 0
    assert 0 < metrics["compute"]["train_flop"] < 1e12
    assert metrics["epochs"] == 2
    (cache,) = (tmp_path / "data").glob("*/patch-features-*")
    # a second probe finds them, and one with another length of patches computes its own
    before = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    run(*probe, "probe=linear", "seed=1")
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == before
    run(*probe, "data.patch_seconds=0.6")
    assert len(list((tmp_path / "data").glob("*/patch-features-*"))) == 2


def test_what_draws_patches_computes_them(probe: list[str], tmp_path: Path, computed: list[int]) -> None:
    for number, words in enumerate((["cached_features=false"], ["recipe=gain"], ["evaluation.mode=whole"]), start=1):
        run(*probe, *words, "trainer.max_epochs=1")
        assert computed[:3] == [4, 4, 4]
        assert len(list((tmp_path / "runs").glob("*/*/metrics.json"))) == number
        computed.clear()
    assert not list((tmp_path / "data").glob("*/patch-features-*"))


@pytest.mark.parametrize(("dropout", "stored"), [(0, True), (0.5, False)])
def test_a_frozen_front_end_with_a_last_layer_only(
    tiny: list[str], tmp_path: Path, computed: list[int], dropout: float, stored: bool
) -> None:
    """Dropout before the last layer is another function in every step."""
    words = [word for word in tiny if not word.startswith("backend")]
    words += ["backend=dense", "backend.hidden_units=[]", f"backend.dropout={dropout}", "trainer.max_epochs=1"]
    folder, metrics = run(*words, f"init_from={beginning(words, tmp_path)}", "freeze=frontend")
    assert (not computed) == stored == bool(list((tmp_path / "data").glob("*/patch-features-*")))
    assert metrics["parameters_trained"] == sum(p.numel() for p in musictag.load(folder).network.backend.parameters())


def test_a_stopped_training_ends_as_one_never_stopped(
    probe: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = experiment.run(compose_config(*probe))
    config = compose_config(*probe, f"runs_dir={tmp_path / 'stopped'}")
    steps, step = [], TaggingModule.training_step

    def stopping(module: TaggingModule, batch: Any, batch_idx: int) -> Any:
        steps.append(batch_idx)
        if len(steps) == 5:  # in the second epoch of three batches
            signal.raise_signal(signal.SIGTERM)
        return step(module, batch, batch_idx)

    monkeypatch.setattr(TaggingModule, "training_step", stopping)
    with pytest.raises(Stopped):
        experiment.run(config)
    again = experiment.run(config)
    assert steps == [0, 1, 2, 0, 1, 2]
    assert again["test"] == whole["test"]
    assert again["validation"]["train_loss"] == whole["validation"]["train_loss"]


@pytest.mark.slow
def test_two_processes_share_the_features(probe: list[str], tmp_path: Path) -> None:
    """What one computes the other reads; nothing is learnt, so that both test the same weights."""
    still = [*probe, "optimizer.lr=0", "trainer.max_epochs=1", "probe.norm_momentum=0"]
    _, one = run(*still)
    done = program("train.py", *TWO_PROCESSES, *still, f"runs_dir={tmp_path / 'two'}", f"data_dir={tmp_path / 'other'}")
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (tmp_path / "two").glob("*/*/metrics.json")
    two = json.loads(path.read_text())
    assert two["validation"]["val_loss"] == pytest.approx(one["validation"]["val_loss"], abs=1e-6)
    assert two["test"]["roc_auc"]["value"] == pytest.approx(one["test"]["roc_auc"]["value"], abs=1e-6)


def test_features_of_other_weights_stop_the_run_before_training(probe: list[str], tmp_path: Path) -> None:
    run(*probe)
    (cache,) = (tmp_path / "data").glob("*/patch-features-*")
    save(tmp_path / "beginning.safetensors", as_other(tmp_path / "beginning.safetensors"))
    run(*probe)
    other = next(folder for folder in (tmp_path / "data").glob("*/patch-features-*") if folder != cache)
    for block in cache.glob("*.parquet"):
        (other / block.name).write_bytes(block.read_bytes())
    with pytest.raises(MusictagError, match=r"holds other features than this network computes"):
        experiment.run(compose_config(*probe, "seed=1"))


def as_other(path: Path) -> TaggingNetwork:
    network = musictag.load(path).network
    for parameter in network.frontend.parameters():
        parameter.data *= 1.5
    return network
