"""The network of a plan: its real parameters and cost, counted on PyTorch's meta device, where nothing is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from musictag.errors import MusictagError
from musictag.models.network import TaggingNetwork
from musictag.models_table import presets
from musictag.preparing import compose

#: Keys that say how large a part is; the others have options of their own, or change nothing in a plan.
_GROUPS = ("frontend.", "backend.")


@dataclass(frozen=True)
class Sketch:
    """A network as `python train.py` would train it.

    ``parameters``: all are trained · ``batch_norms``: layers · ``flops``: of a patch, forward, multiplications and
    additions counted apart, of convolutions and matrix products (an FFT is not counted) · ``spec``: of the network.
    """

    name: str
    parameters: int
    batch_norms: int
    flops: int
    patch_seconds: float
    spec: dict[str, Any]


def compose_model(
    model: str | None,
    frontend: str | None,
    backend: str | None,
    patch_seconds: float | None,
    words: Sequence[str],
    distributed: bool,
) -> dict[str, Any]:
    """The configuration that those choices make, with ``trainer=ddp`` where several GPUs train.

    Raises MusictagError for names that conf/ does not have, and for words that are no keys of a part.
    """
    if model is not None and model not in presets():
        raise MusictagError(f"there is no network --model {model}; choose one of {', '.join(presets())}")
    if model is not None and (frontend or backend):
        raise MusictagError("--model names front-end and back-end; leave --frontend and --backend away, or --model")
    if wrong := [word for word in words if not (word.startswith(_GROUPS) and "=" in word)]:
        raise MusictagError(
            f"{' '.join(wrong)}: only keys of the network may stand here, such as frontend.filter_multiplier=0.5; "
            "what else a plan reads has an option (musictag plan --help)"
        )
    chosen = {"model": model, "frontend": frontend, "backend": backend, "trainer": "ddp" if distributed else None}
    overrides = [f"{group}={name}" for group, name in chosen.items() if name]
    if patch_seconds is not None:
        overrides.append(f"data.patch_seconds={patch_seconds}")
    return compose([*overrides, *words])


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
        name=names["model"]
        if names.get("model") not in (None, "none")
        else f"{names['frontend']} + {names['backend']}",
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        batch_norms=sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()),
        flops=counter.get_total_flops(),
        patch_seconds=network.patch_seconds,
        spec=spec,
    )
