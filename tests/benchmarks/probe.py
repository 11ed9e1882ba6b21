"""Probes and linear models on a frozen network: computed again in every step, and from stored features.

In processor time, which other load distorts less: everything runs on one thread.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from musictag.data.features import patch_features
from musictag.experiment import run as experiment
from musictag.experiment.compose import compose
from musictag.inference.embedding import BeforeHead, Embedder
from musictag.models.checkpoint import write_tagger
from musictag.models.network import TaggingNetwork
from musictag.training.transfer import with_probe
from tests.benchmarks.figures import Figure
from tests.benchmarks.million import write_million

#: Ten of twelve are for training, one each for validation and test; 30 s each, 11 patches.
_SONGS, _TAGS, _BATCH, _EPOCHS = 13_200, 50, 32, 4
_PATCHES, _WIDTH = 11, 200


def benchmark() -> Iterator[Figure]:
    """11,000 songs with 50 tags, and a network with the architecture of musicnn."""
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(BeforeHead, "embed_patches", _made_up),
        patch.object(Embedder, "embed_patches", _made_up),
        patch.object(patch_features, "_TOLERANCE", np.inf),
    ):
        place = Path(folder)
        tags = ",".join(f"class {number:03d}" for number in range(_TAGS))
        words = [
            "data=catalogue", f"data.path={write_million(place, _SONGS)}", f"data.tags=[{tags}]",
            f"data_dir={place / 'data'}", f"runs_dir={place / 'runs'}", "evaluation.bootstrap_resamples=0",
            "trainer.accelerator=cpu", f"data.batch_size={_BATCH}",
        ]  # fmt: skip
        network = _write_network(place / "network.safetensors")
        linear = [*words, "baseline=logistic", f"baseline.features={network}", "baseline.threads=1"]
        experiment.run(compose([*linear, "baseline.penalties=[1]"]))  # stores the features
        yield Figure(f"baseline=logistic, {_TAGS} tags, 5 penalties: the whole run", _seconds(linear), "s")
        for kind in ("linear", "mlp"):
            words = [*words, "model=musicnn", f"init_from={network}", f"probe={kind}"]
            one, more = (_seconds([*words, f"trainer.max_epochs={epochs}"]) for epochs in (1, 1 + _EPOCHS))
            stored, computed = (more - one) / _EPOCHS, _SONGS * 10 // 12 / _BATCH * _step(kind)
            yield Figure(f"{kind} probe: training steps of an epoch that compute the network", computed, "s")
            yield Figure(f"{kind} probe: an epoch on stored features, validation included", stored, "s")
            yield Figure(f"{kind} probe: stored features are faster", computed / stored, "x")
            yield Figure(f"{kind} probe: a run, apart from its epochs", one - stored, "s")


def _made_up(embedder: Any, audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features at random: the songs are silent."""
    return np.zeros(_PATCHES), np.random.default_rng().normal(0, 1, (_PATCHES, _WIDTH)).astype(np.float32)


def _write_network(path: Path) -> Path:
    config = compose(["model=musicnn"])
    tags, seconds = [{"name": "a"}], config["data"]["patch_seconds"]
    write_tagger(path, TaggingNetwork(config["frontend"], config["backend"], tags, seconds))
    return path


def _seconds(words: list[str]) -> float:
    """Processor time of a run."""
    began = time.process_time()
    experiment.run(compose(words))
    return time.process_time() - began


def _step(kind: str) -> float:
    """Processor time of a training step of a probe that computes the network for its batch."""
    config = compose(["model=musicnn", f"probe={kind}"])
    tags = [{"name": f"tag {number}"} for number in range(_TAGS)]
    backend = with_probe(config["backend"], config["probe"])
    network = TaggingNetwork(config["frontend"], backend, tags, config["data"]["patch_seconds"])
    network.frontend.requires_grad_(False)
    network.train().frontend.eval()
    optimizer = torch.optim.Adam([weight for weight in network.parameters() if weight.requires_grad])
    waveform, targets = 0.1 * torch.randn(_BATCH, network.input_samples), torch.zeros(_BATCH, _TAGS)
    for number in range(4):
        if number == 1:  # the first one is slower
            began = time.process_time()
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(network(waveform), targets).backward()
        optimizer.step()
    return (time.process_time() - began) / number
