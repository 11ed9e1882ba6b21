"""How fast the models train and tag."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch

from musictag.benchmarks.figures import Figure, median_seconds
from musictag.objective import Objective
from musictag.tagger import Tagger

_PATCH_SECONDS = 3.0
#: Front-end and back-end of the shipped configuration, with its numbers.
_MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "waveform": (
        {"_target_": "musictag.frontends.waveform.SampleLevel"},
        {"_target_": "musictag.backends.residual.Residual"},
    ),
    "spectrogram": (
        {"_target_": "musictag.frontends.spectrogram.MusicallyMotivated", "normalise": "none"},
        {"_target_": "musictag.backends.residual.Residual"},
    ),
    "spectrogram, small": (
        {
            "_target_": "musictag.frontends.spectrogram.MusicallyMotivated",
            "normalise": "none",
            "num_filters": 8,
            "n_fft": 1024,
            "hop_samples": 512,
            "num_mels": 64,
        },
        {
            "_target_": "musictag.backends.residual.Residual",
            "filters": 128,
            "dense_units": 200,
            "batch_norm": "per_channel",
        },
    ),
}
_MODEL_BATCH = 16
_MODEL_TAGS = 50


def benchmark() -> Iterator[Figure]:
    """How much audio the models train on and tag in a second, on one thread of this machine's processor."""
    context = multiprocessing.get_context("spawn")
    for name in _MODELS:
        # each in its own process: what one model leaves in the allocator and the caches shall not favour the next
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            training, tagging = pool.submit(_model_speeds, name).result()
        yield Figure(f"{name}: training, batches of {_MODEL_BATCH} x {_PATCH_SECONDS:g} s", training, "s of audio / s")
        yield Figure(f"{name}: tagging", tagging, "s of audio / s")


def _model_speeds(name: str) -> tuple[float, float]:
    """Seconds of audio a second: forward and backward, forward alone."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    frontend, backend = _MODELS[name]
    tags = [{"name": f"tag {number}"} for number in range(_MODEL_TAGS)]
    tagger = Tagger(frontend, backend, tags, _PATCH_SECONDS)
    waveform = 0.1 * torch.randn(_MODEL_BATCH, tagger.input_samples)
    targets = torch.zeros(_MODEL_BATCH, _MODEL_TAGS)
    objective = Objective("bce")
    audio_seconds = _MODEL_BATCH * _PATCH_SECONDS

    def train() -> None:
        tagger.zero_grad()
        objective(tagger(waveform), targets).backward()

    def tag() -> None:
        with torch.inference_mode():
            tagger(waveform)

    training = audio_seconds / median_seconds(train)
    tagger.eval()
    return training, audio_seconds / median_seconds(tag)
