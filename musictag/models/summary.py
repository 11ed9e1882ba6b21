"""Parameters and cost of a network, counted on PyTorch's meta device, where nothing is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from musictag.models.frontends.encoder import described
from musictag.models.network import TaggingNetwork

_LOOKS_AT_VALUES = (NotImplementedError, RuntimeError)
_PATCHES = 2  # of a batch that is counted: with one, batch norms have no statistics


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
    tags = [{"name": f"tag {number}"} for number in range(num_tags)]
    parts = {"frontend": described(config["frontend"]), "backend": config["backend"]}
    spec = _unmeasured(parts | {"tags": tags, "patch_seconds": config["data"]["patch_seconds"]})
    network = _on_meta(spec).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, network.input_samples, device="meta"))
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


def training_flops(network: TaggingNetwork) -> int | None:
    """Operations of a training step per patch, forward and backward, counted as in Sketch; what is frozen has no
    gradients. None if a part cannot compute on the meta device, because it looks at values."""
    with FlopCounterMode(display=False) as counter:
        try:
            _scores_in_training(network).sum().backward()
        except _LOOKS_AT_VALUES:
            return None
    return counter.get_total_flops() // _PATCHES


def head_flops(network: TaggingNetwork, size: int) -> int:
    """The part of ``training_flops`` in the head of the back-end, for vectors of this ``size`` before it."""
    on_meta = _on_meta(_unmeasured(network.spec)).train()
    with FlopCounterMode(display=False) as counter:
        on_meta.head(torch.zeros(_PATCHES, size, device="meta")).sum().backward()
    return counter.get_total_flops() // _PATCHES


def training_bytes(network: TaggingNetwork) -> int | None:
    """Memory per patch in a training step of plain layers in float32: what the forward pass keeps for the backward
    pass, which is most of a step's memory where batches are large. None as above."""
    kept: dict[int, torch.UntypedStorage] = {}  # the storages themselves, so that no address occurs twice

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        try:
            _scores_in_training(network)
        except _LOOKS_AT_VALUES:
            return None
    weights = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    return max(sum(storage.nbytes() for storage in kept.values()) - weights, 0) // _PATCHES


def _scores_in_training(network: TaggingNetwork) -> torch.Tensor:
    on_meta = _on_meta(_unmeasured(network.spec)).train()
    for parameter, trained in zip(on_meta.parameters(), network.parameters(), strict=True):
        parameter.requires_grad_(trained.requires_grad)
    return on_meta(torch.zeros(_PATCHES, network.input_samples, device="meta"))


def _unmeasured(spec: dict[str, Any]) -> dict[str, Any]:
    """``spec`` without what is measured before training, which is not a parameter."""
    frontend = spec["frontend"]
    return spec | {"frontend": frontend | {"normalise": "none"}} if frontend.get("normalise") == "dataset" else spec


def _on_meta(spec: dict[str, Any]) -> TaggingNetwork:
    with torch.device("meta"):
        network = TaggingNetwork(**spec)
    return network.to("meta")  # also its constants
