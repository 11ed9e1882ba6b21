"""Helpers for tests of models: the parts and presets in conf/, at full size or small, and ways to inspect them."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musictag.experiment.compose import compose, presets
from musictag.models.backends import BackEnd
from musictag.models.factory import build
from musictag.models.frontends import FrontEnd
from musictag.models.network import TaggingNetwork

CONF = Path(__file__).resolve().parents[2] / "conf"
#: Presets of networks: baselines have no parts.
PRESETS = presets()
#: The same; those beyond one of each front-end and back-end class are slow.
VARIED_PRESETS = [
    name if name in {
        "crnn", "dieleman_spectrogram", "dieleman_waveform", "harmonic", "multi_resolution", "musicnn",
        "pons_spectrogram", "samplecnn_se", "self_attention_2020", "waveform_small",
    } else pytest.param(name, marks=pytest.mark.slow)
    for name in PRESETS
]  # fmt: skip
#: The files of both groups, one per class; without that of pretrained encoders, which need one: test_huggingface.py.
CLASSES = {
    group: sorted({path.stem for path in (CONF / group).glob("[!_]*.yaml")} - {"huggingface"})
    for group in ("frontend", "backend")
}
#: Variants of these classes from papers, named after their models; and the back-ends that only pool over time.
VARIANTS = {
    "frontend": [
        "crnn", "fcn", "pons_waveform9", "samplecnn_res", "samplecnn_rese", "samplecnn_se", "self_attention_2020",
        "short_chunk_res", "spectrogram_small", "vgg", "waveform_small",
    ],
    "backend": [
        "harmonic", "samplecnn", "samplecnn_se", "self_attention_2020", "short_chunk", "vgg", "waveform_small",
        "attention_pool", "auto_pool", "mean_pool",
    ],
}  # fmt: skip
FRONTENDS, BACKENDS = (sorted(CLASSES[group] + VARIANTS[group]) for group in ("frontend", "backend"))
#: Filters of front-ends and units of back-ends for tests in which size does not matter.
SMALL_MULTIPLIER = 1 / 32
SMALL_UNITS = 8


def spec(group: str, name: str) -> dict[str, Any]:
    """The configuration of one of FRONTENDS or BACKENDS."""
    return copy.deepcopy(_spec(group, name))


@cache
def _spec(group: str, name: str) -> dict[str, Any]:
    if name in CLASSES[group]:
        return compose([f"{group}={name}"])[group]
    if name.endswith("_pool"):
        return compose(["backend=pooling", f"backend.pooling={name.removesuffix('_pool')}"])[group]
    return preset(name)[group]


def build_frontend(name: str, **changes: Any) -> FrontEnd:
    """Front-end ``name`` with changed settings, before it has measured training songs."""
    return build(spec("frontend", name) | changes, FrontEnd)


def make_frontend(name: str, **changes: Any) -> FrontEnd:
    """Front-end ``name``, after it has measured songs as before training."""
    torch.manual_seed(0)
    frontend = build_frontend(name, **changes)
    frontend.fit_normalisation([0.1 * torch.randn(1, 16000)])
    return frontend


def make_backend(name: str, in_channels: int, in_frames: int, num_tags: int = 5, small: bool = False) -> BackEnd:
    content = spec("backend", name)
    if small:
        content = with_few_units(content)
    return build(content, BackEnd, in_channels=in_channels, in_frames=in_frames, num_tags=num_tags)


@cache
def preset(name: str) -> dict[str, Any]:
    """The configuration of ``model=name``. Do not modify it: it is cached."""
    return compose([f"model={name}"])


def make_small_network(name: str) -> TaggingNetwork:
    """Combination ``name`` with few filters and units, for three tags."""
    config = preset(name)
    frontend = config["frontend"] | {"filter_multiplier": SMALL_MULTIPLIER}
    torch.manual_seed(0)
    tags = [{"name": f"tag {i}"} for i in range(3)]
    tagger = TaggingNetwork(frontend, with_few_units(config["backend"]), tags, config["data"]["patch_seconds"])
    tagger.fit_normalisation([0.1 * torch.randn(1, 16000)])
    return tagger.eval()


def with_few_units(backend: dict[str, Any]) -> dict[str, Any]:
    """The spec of a back-end with narrow layers."""
    return backend | {key: _small(value) for key, value in backend.items() if key.endswith(("filters", "units"))}


def _small(units: Any) -> Any:
    return [_small(item) for item in units] if isinstance(units, list) else min(units, SMALL_UNITS)


def num_parameters(*modules: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(p.numel() for module in modules for p in module.parameters() if p.requires_grad)


def penultimate(backend: BackEnd, features: Tensor) -> Tensor:
    """The input of the output layer."""
    seen = []
    handle = backend.output.register_forward_pre_hook(lambda _layer, inputs: seen.append(inputs[0]))
    backend(features)
    handle.remove()
    (inputs,) = seen
    return inputs


def heard(frontend: FrontEnd, num_samples: int) -> Tensor:
    """Whether a sample is in the receptive field of a frame's channel: N×C×T. NaN spreads to all that depend on it."""
    waveforms = torch.zeros(num_samples, num_samples)
    waveforms.fill_diagonal_(torch.nan)
    with torch.inference_mode():
        return frontend.eval()(waveforms).isnan()


def as_trained(module: nn.Module) -> None:
    """Batch norms as after training: no statistic is 0 or 1."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            for values in (layer.weight.data, layer.bias.data, layer.running_mean, layer.running_var):
                values.uniform_(0.5, 1.5)


def draw(module: nn.Module, rng: np.random.Generator) -> None:
    """Draw weights and running statistics from ``rng``, in the order of the state dictionary."""
    for name, value in module.state_dict().items():
        if name.endswith(("running_var", "bandwidth_q")):
            value.copy_(torch.from_numpy(rng.uniform(0.5, 2, value.shape)))
        elif not name.endswith("num_batches_tracked"):
            value.copy_(torch.from_numpy(rng.standard_normal(value.shape)))


def normed(norm: nn.BatchNorm2d, image: Tensor) -> Tensor:
    """``image`` after ``norm`` in evaluation mode."""
    return F.batch_norm(image, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
