"""Tiny networks that teach each other."""

from __future__ import annotations

from pathlib import Path

import torch

from musictag.models.network import TaggingNetwork
from tests.helpers.embeddings import CONNECTED, MUSICNN, RESIDUAL, WAVEFORM, save
from tests.helpers.models import as_trained

TAGS = [{"name": name, "kind": "classification"} for name in ("high", "noisy", "soft", "slow")]


def network(
    *tags: int, seed: int = 0, seconds: float = 0.5, frontend: dict = WAVEFORM, backend: dict = RESIDUAL
) -> TaggingNetwork:
    """For the tags at these places of TAGS, in this order."""
    torch.manual_seed(seed)
    made = TaggingNetwork(frontend, backend, [TAGS[place] for place in tags], seconds)
    as_trained(made)
    return made.eval()


def make_teacher(folder: Path) -> tuple[TaggingNetwork, str]:
    """Of other tags than ``network(0, 3, 1)`` in another order, with patches of its length; and its file."""
    made = network(2, 1, 0, seed=1, frontend=MUSICNN, backend=CONNECTED)
    return made, save(folder / "teacher" / "tagger.safetensors", made)
