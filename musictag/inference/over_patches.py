"""A song goes through a network patch by patch: the same cutting for tagging, taggrams and embeddings.

Legend: B patches, N samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from musictag.common.errors import MusictagError
from musictag.data.audio.patches import fit_length, patch_starts
from musictag.models.network import TaggingNetwork

BATCH_SECONDS = 64  # audio that goes through the network at once; bounds the memory


@torch.inference_mode()
def over_patches(
    network: TaggingNetwork, compute: Callable[[Tensor], Tensor], audio: np.ndarray, hop_samples: int
) -> tuple[np.ndarray, np.ndarray]:
    """First samples (B) of the patches of a song, mono int16 (N), and what ``compute`` makes of them, a row each.

    ``compute`` gets B×N float32 with the margins, a batch of patches at a time, with ``network`` in evaluation mode.
    A song shorter than a patch is repeated to its length. Raises MusictagError where the memory does not suffice.
    """
    starts = patch_starts(len(audio), network.patch_samples, hop_samples)
    audio = np.pad(fit_length(audio, network.patch_samples), network.frontend.margin_samples)
    patches = np.lib.stride_tricks.sliding_window_view(audio, network.input_samples)
    device = next(network.parameters()).device
    at_once = max(1, int(BATCH_SECONDS * network.sample_rate / network.input_samples))
    rows = []
    with evaluating(network):
        for first in range(0, len(starts), at_once):
            block = torch.from_numpy(patches[starts[first : first + at_once]]).to(device)
            try:
                rows.append(compute(block.float() / 32768).cpu().numpy())
            except (RuntimeError, MemoryError) as error:
                if isinstance(error, RuntimeError) and "memory" not in str(error):
                    raise
                raise MusictagError("this network needs more memory than there is") from error
    return starts, np.concatenate(rows)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; every layer as it was afterwards."""
    training = [layer for layer in module.modules() if layer.training]
    module.eval()
    try:
        yield
    finally:
        for layer in training:
            layer.training = True
