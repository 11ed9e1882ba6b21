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

    ``parameters``: all are trained · ``batch_norms``: layers · ``flops``: of a patch, forward, multiplications and
    additions counted apart, of convolutions and matrix products (an FFT is not counted) · ``spec``: of the network ·
    ``network``: it, on the meta device, which has shapes and no numbers.
    """

    name: str
    parameters: int
    batch_norms: int
    flops: int
    patch_seconds: float
    spec: dict[str, Any]
    network: TaggingNetwork


def sketch(config: dict[str, Any], num_tags: int) -> Sketch:
    """The network of ``config`` for ``num_tags`` tags; raises MusictagError where its parts do not fit together."""
    frontend = dict(config["frontend"])
    if frontend.get("normalise") == "dataset":
        frontend["normalise"] = "none"  # what is measured before training is no parameter
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
    network.to("meta").eval()  # its constants, too
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
