"""``trainer.precision=auto``: float32 or bfloat16, whichever trains this network faster on this device."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch

from musictag.models.inference_form import has_bfloat16
from musictag.models.network import TaggingNetwork
from musictag.training.losses import Loss

#: The loss in bfloat16 may differ by this share, about ten times its rounding.
LOSS_TOLERANCE = 0.02
_REPETITIONS = 3
_CPU_PATCHES = 4  # enough to fill a processor, where a whole batch could take a minute


def choose_precision(
    network: TaggingNetwork, loss: Loss, batch_size: int, device: torch.device, seed: int
) -> tuple[str, str]:
    """``32-true`` or ``bf16-mixed`` for training ``network``, and the reason.

    A device without bfloat16 gets float32 at once. Otherwise a few training steps on noise are timed in turn (a copy of
    the network, not compiled; four patches on a CPU), and bfloat16 is chosen if it is faster and its loss is within
    LOSS_TOLERANCE of the float32 loss. ``16-mixed`` is never chosen. The global random state does not change.
    """
    if not has_bfloat16(device):
        return "32-true", f"this {device.type} has no instructions for bfloat16"
    patches = batch_size if device.type == "cuda" else min(batch_size, _CPU_PATCHES)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        waveform = 0.1 * torch.randn(patches, network.input_samples)
        trial = TaggingNetwork(**network.spec)
        trial.fit_normalisation([waveform])
        waveform, trial = waveform.to(device), trial.to(device)
        targets = (torch.rand(patches, len(network.tag_names)) < 0.1).float().to(device)

        def step(bfloat16: bool) -> tuple[float, float]:
            torch.manual_seed(seed)  # the same dropout
            trial.zero_grad()
            began = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                value = loss(trial(waveform), targets)
            value.backward()
            said = float(value.detach())  # waits for the forward pass ...
            if device.type == "cuda":
                torch.cuda.synchronize(device)  # ... and this for the backward pass
            return said, time.perf_counter() - began

        (full, _), (half, _) = step(False), step(True)
        timed: list[Any] = [(step(False)[1], step(True)[1]) for _ in range(_REPETITIONS)]
    seconds, half_seconds = (statistics.median(column) for column in zip(*timed, strict=True))
    measured = f"a step takes {half_seconds:.3g} s in bfloat16, {seconds:.3g} s in float32"
    if abs(half - full) > LOSS_TOLERANCE * abs(full):
        return "32-true", f"the loss is {half:.4g} in bfloat16, {full:.4g} in float32"
    return ("bf16-mixed" if half_seconds < seconds else "32-true"), measured
