"""Speed of training and tagging with the models."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch

from musictag.common.timing import median_seconds
from musictag.models.network import TaggingNetwork
from musictag.training.losses import BCE
from tests.benchmarks.figures import Figure

_PATCH_SECONDS = 3.0
#: Front-end and back-end of the shipped configuration, with its numbers.
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "waveform": (
        {"_target_": "musictag.models.frontends.waveform.SampleLevel"},
        {"_target_": "musictag.models.backends.residual.Residual"},
    ),
    "spectrogram": (
        {"_target_": "musictag.models.frontends.spectrogram.MusicallyMotivated", "normalise": "none"},
        {"_target_": "musictag.models.backends.residual.Residual"},
    ),
    "spectrogram, small": (
        {
            "_target_": "musictag.models.frontends.spectrogram.MusicallyMotivated",
            "normalise": "none",
            "num_filters": 8,
            "n_fft": 1024,
            "hop_samples": 512,
            "num_mels": 64,
        },
        {
            "_target_": "musictag.models.backends.residual.Residual",
            "filters": 128,
            "dense_units": 200,
            "batch_norm": "per_channel",
        },
    ),
}
_MODEL_BATCH = 16
_MODEL_TAGS = 50


def benchmark() -> Iterator[Figure]:
    """How much audio per second the models train on and tag, on one CPU thread of this machine."""
    for name, (frontend, backend) in MODELS.items():
        training, tagging = speeds(frontend, backend, _PATCH_SECONDS, _MODEL_BATCH)
        yield Figure(f"{name}: training, batches of {_MODEL_BATCH} x {_PATCH_SECONDS:g} s", training, "s of audio / s")
        yield Figure(f"{name}: tagging", tagging, "s of audio / s")


def speeds(
    frontend: dict[str, Any], backend: dict[str, Any], patch_seconds: float, batch_size: int
) -> tuple[float, float]:
    """Seconds of audio per second: forward and backward, forward alone; on one thread of a fresh process."""
    # one process each, so that the allocator and caches of one model do not affect the next
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_speeds, frontend, backend, patch_seconds, batch_size).result()


def _speeds(
    frontend: dict[str, Any], backend: dict[str, Any], patch_seconds: float, batch_size: int
) -> tuple[float, float]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tags = [{"name": f"tag {number}"} for number in range(_MODEL_TAGS)]
    network = TaggingNetwork(frontend, backend, tags, patch_seconds)
    waveform = 0.1 * torch.randn(batch_size, network.input_samples)
    network.fit_normalisation([waveform])
    targets = torch.zeros(batch_size, _MODEL_TAGS)
    loss = BCE()
    audio_seconds = batch_size * patch_seconds

    def train() -> None:
        network.zero_grad()
        loss(network(waveform), targets).backward()

    def tag() -> None:
        with torch.inference_mode():
            network(waveform)

    training = audio_seconds / median_seconds(train)
    network.eval()
    return training, audio_seconds / median_seconds(tag)
