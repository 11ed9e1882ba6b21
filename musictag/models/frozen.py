"""What a network computes before its head: whether training leaves it as it is, and what identifies it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from musictag.models.backends import BackEnd
from musictag.models.factory import find_class, settings
from musictag.models.frontends import FrontEnd
from musictag.models.network import TaggingNetwork

#: Settings that matter in training only: weights that were trained with others still fit.
TRAINING_SETTINGS = ("dropout", "dropouts", "encoder_dropout", "attention_dropout", "norm_momentum")


def only_head_learns(network: TaggingNetwork) -> bool:
    """Whether everything before the head is the same in every step of training, in the mode that ``network`` is in: no
    parameter is trained there, and no batch norm or dropout is in training mode."""
    layers = [*network.frontend.modules(), *network.backend.before_head().modules()]
    return not any(
        (layer.training and (isinstance(layer, _BatchNorm) or (isinstance(layer, _DropoutNd) and layer.p > 0)))
        or any(parameter.requires_grad for parameter in layer.parameters(recurse=False))
        for layer in layers
    )


def layer_digest(network: TaggingNetwork, layer: str | None) -> str:
    """Identifies what ``layer`` returns for consecutive patches; None: the vectors that the head gets, the same for a
    tagger and a probe on it, whatever the tags."""
    spec, part = network.spec, network.backend
    backend = spec["backend"]
    if layer is None:
        part, layer = network.backend.before_head(), "penultimate"
        if part is getattr(network.backend, "body", None):
            backend = backend["body"]
    parts = [filled(spec["frontend"], FrontEnd), filled(backend, BackEnd)]
    for one in parts:
        for name in TRAINING_SETTINGS:
            one.pop(name, None)
    state = {f"frontend.{name}": value for name, value in network.frontend.state_dict().items()}
    state |= {f"backend.{name}": value for name, value in part.state_dict().items() if not name.startswith("output.")}
    digest = hashlib.sha256(json.dumps([*parts, network.patch_samples, layer], sort_keys=True).encode())
    for name, value in sorted(state.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def filled(spec: Mapping[str, Any], contract: type) -> dict[str, Any]:
    """``spec`` with the defaults of its class, and with lists in place of tuples, as in specifications."""
    parameters = settings(find_class(spec["_target_"], contract)).items()
    defaults = {name: parameter.default for name, parameter in parameters if parameter.default is not parameter.empty}
    return json.loads(json.dumps(defaults | dict(spec)))
