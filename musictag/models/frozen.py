"""What a network computes before its head: whether training leaves it as it is, and what identifies it.

Legend: B patches, N samples, H features.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from musictag.models.backends import BackEnd
from musictag.models.factory import find_class, settings
from musictag.models.frontends import FrontEnd
from musictag.models.network import TaggingNetwork

#: Settings that matter in training only: weights that were trained with others still fit.
TRAINING_SETTINGS = ("dropout", "dropouts", "norm_momentum")


def only_head_learns(network: TaggingNetwork) -> bool:
    """Whether everything before the head is the same in every step of training, in the mode that ``network`` is in: no
    parameter is trained there, and no batch norm or dropout is in training mode."""
    layers = [*network.frontend.modules(), *network.backend.before_head().modules()]
    return not any(
        (layer.training and (isinstance(layer, _BatchNorm) or (isinstance(layer, _DropoutNd) and layer.p > 0)))
        or any(parameter.requires_grad for parameter in layer.parameters(recurse=False))
        for layer in layers
    )


def digest_before_head(network: TaggingNetwork) -> str:
    """Identifies the vectors that the head gets: the same for a tagger and a probe on it, whatever the tags."""
    spec, part = network.spec, network.backend.before_head()
    is_probe = part is getattr(network.backend, "body", None)
    state = {f"frontend.{name}": value for name, value in network.frontend.state_dict().items()}
    state |= {f"backend.{name}": value for name, value in part.state_dict().items()}
    backend = spec["backend"]["body"] if is_probe else spec["backend"]
    return _digest(spec["frontend"], backend, network.patch_samples, state, "penultimate")


def layer_digest(network: TaggingNetwork, layer: str) -> str:
    """Identifies what ``layer`` returns for consecutive patches."""
    spec = network.spec
    state = {name: value for name, value in network.state_dict().items() if not name.startswith("backend.output.")}
    return _digest(spec["frontend"], spec["backend"], network.patch_samples, state, layer)


def _digest(
    frontend: Mapping[str, Any], backend: Mapping[str, Any], patch_samples: int, state: Mapping[str, Tensor], layer: str
) -> str:
    parts = [filled(frontend, FrontEnd), filled(backend, BackEnd)]
    for part in parts:
        for name in TRAINING_SETTINGS:
            part.pop(name, None)
    digest = hashlib.sha256(json.dumps([*parts, patch_samples, layer], sort_keys=True).encode())
    for name, value in sorted(state.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def filled(spec: Mapping[str, Any], contract: type) -> dict[str, Any]:
    """``spec`` with the defaults of its class, and with lists in place of tuples, as in specifications."""
    parameters = settings(find_class(spec["_target_"], contract)).items()
    defaults = {name: parameter.default for name, parameter in parameters if parameter.default is not parameter.empty}
    return {key: _as_list(value) for key, value in (defaults | dict(spec)).items()}


def _as_list(value: Any) -> Any:
    return [_as_list(item) for item in value] if isinstance(value, list | tuple) else value
