"""Running a network over the patches of a song: the same cutting for tagging, taggrams and embeddings.

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

BATCH_SECONDS = 64  # audio per batch; bounds the memory


@torch.inference_mode()
def over_patches(
    network: TaggingNetwork, compute: Callable[[Tensor], Tensor], audio: np.ndarray, hop_samples: int
) -> tuple[np.ndarray, np.ndarray]:
    """Start samples (B) of the patches of a song, mono int16 (N), and the output of ``compute``, one row per patch.

    ``compute`` gets batches of patches, B×N float32 including margins, with ``network`` in evaluation mode. A song
    shorter than a patch is repeated to fill it. Raises MusictagError if there is not enough memory.
    """
    starts, patches = cut(audio, network.patch_samples, network.frontend.margin_samples, hop_samples)
    device = next(network.parameters()).device
    at_once = max(1, int(BATCH_SECONDS * network.sample_rate / network.input_samples))
    rows = []
    with evaluating(network):
        for first in range(0, len(starts), at_once):
            block = torch.from_numpy(patches(first, at_once)).to(device)
            try:
                rows.append(compute(block.float() / 32768).cpu().numpy())
            except (RuntimeError, MemoryError) as error:
                if isinstance(error, RuntimeError) and "memory" not in str(error):
                    raise
                raise MusictagError("this network needs more memory than is available") from error
    return starts, np.concatenate(rows)


def cut(
    audio: np.ndarray, patch_samples: int, margin_samples: tuple[int, int], hop_samples: int
) -> tuple[np.ndarray, Callable[[int, int], np.ndarray]]:
    """Start samples (B) of the patches of a song, mono int16 (N), and a function of the number of the first patch and
    how many there are to be, at most, that returns them with margins, int16."""
    starts = patch_starts(len(audio), patch_samples, hop_samples)
    audio = np.pad(fit_length(audio, patch_samples), margin_samples)
    windows = np.lib.stride_tricks.sliding_window_view(audio, patch_samples + sum(margin_samples))
    return starts, lambda first, number: windows[starts[first : first + number]]


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the context; every layer's mode is restored afterwards."""
    training = [layer for layer in module.modules() if layer.training]
    module.eval()
    try:
        yield
    finally:
        for layer in training:
            layer.training = True
