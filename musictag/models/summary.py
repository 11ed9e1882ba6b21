"""Parameters and cost of a network, counted on PyTorch's meta device, where nothing is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from musictag.models.network import TaggingNetwork


@dataclass(frozen=True)
class Sketch:
    """A network as `python train.py` would train it.

    ``parameters``: all are trained · ``batch_norms``: number of layers · ``flops``: per patch, forward, with
    multiplications and additions counted separately, of convolutions and matrix products (not the FFT) · ``spec``: of
    the network · ``network``: on the meta device, with shapes but no values.
    """

    name: str
    parameters: int
    batch_norms: int
    flops: int
    patch_seconds: float
    spec: dict[str, Any]
    network: TaggingNetwork


def sketch(config: dict[str, Any], num_tags: int) -> Sketch:
    """The network of ``config`` for ``num_tags`` tags; raises MusictagError if its parts do not fit together."""
    frontend = dict(config["frontend"])
    if frontend.get("normalise") == "dataset":
        frontend["normalise"] = "none"  # what is measured before training is not a parameter
    tags = [{"name": f"tag {number}"} for number in range(num_tags)]
    spec = {
        "frontend": frontend,
        "backend": config["backend"],
        "tags": tags,
        "patch_seconds": config["data"]["patch_seconds"],
    }
    with torch.device("meta"):
        network = TaggingNetwork(**spec)
        waveform = torch.zeros(1, network.input_samples)
    network.to("meta").eval()  # also its constants
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(waveform)
    names = config["names"]
    return Sketch(
        name=names["model"] or f"{names['frontend']} + {names['backend']}",
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        batch_norms=sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()),
        flops=counter.get_total_flops(),
        patch_seconds=network.patch_seconds,
        spec=spec,
        network=network,
    )
