"""Helpers for tests of embeddings: small taggers with random weights, and songs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import torch

from musictag.models.checkpoint import write_tagger
from musictag.models.network import TaggingNetwork
from tests.helpers.models import as_trained

RATE = 16000
TAGS = [{"name": name} for name in ("violin", "drums", "reel")]
WAVEFORM = {"_target_": "musictag.models.frontends.waveform.SampleLevel", "channels": [8, 8, 8, 8, 8]}
RESIDUAL = {"_target_": "musictag.models.backends.residual.Residual", "filters": 8, "dense_units": 6}
MUSICNN = {"_target_": "musictag.models.frontends.musicnn.Musicnn", "timbral_filters": 5, "temporal_filters": 2}
CONNECTED = {"_target_": "musictag.models.backends.musicnn.DenselyConnected", "filters": 4, "dense_units": 6}
TRANSFORMER = {"_target_": "musictag.models.backends.self_attention.SelfAttention", "hidden_units": 4, "num_heads": 2}
RECURRENT = {"_target_": "musictag.models.backends.recurrent.Recurrent"}
LINEAR = {"_target_": "musictag.models.backends.dense.Dense", "hidden_units": []}


def make_network(frontend: dict = WAVEFORM, backend: dict = RESIDUAL) -> TaggingNetwork:
    """Random weights; batch norms as after training."""
    torch.manual_seed(0)
    network = TaggingNetwork(frontend, backend, TAGS, patch_seconds=0.5)
    as_trained(network)
    return network


def write_song(path: Path, seconds: float, seed: int = 0) -> str:
    """Noise with changing loudness, so that patches differ."""
    noise = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    soundfile.write(path, noise * np.linspace(0.02, 0.3, len(noise)), RATE, subtype="PCM_16")
    return str(path)


def save(path: Path, network: TaggingNetwork) -> str:
    """Save a file for ``musictag.load``; returns its path as a string."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tagger(path, network)
    return str(path)
