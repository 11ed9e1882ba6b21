"""Layers shared by several parts, as in the paper's TensorFlow code.

Legend: B patches, C channels, T frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musictag.common.errors import MusictagError

BATCH_NORM_EPS = 1e-3  # TensorFlow's default, where torch has 1e-5

#: Weight of a batch in the running statistics; TensorFlow's momentum of 0.99.
BATCH_NORM_MOMENTUM = 0.01


def batch_norm(
    channels: int, momentum: float, dimensions: int = 1, eps: float = BATCH_NORM_EPS
) -> nn.BatchNorm1d | nn.BatchNorm2d:
    """Batch norm over ``channels`` for maps with one (time) or two (frequency, time) dimensions."""
    layer = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}[dimensions]
    return layer(channels, eps=eps, momentum=momentum)


class SameConv1d(nn.Conv1d):
    """Convolution that keeps the number of frames; an even kernel pads one more on the right, as TensorFlow does."""

    def __init__(self, in_channels: int, out_channels: int, kernel_frames: int):
        self._even = kernel_frames % 2 == 0
        padding = 0 if self._even else kernel_frames // 2
        super().__init__(in_channels, out_channels, kernel_frames, padding=padding)

    def forward(self, features: Tensor) -> Tensor:
        if self._even:
            half = self.kernel_size[0] // 2
            features = F.pad(features, (half - 1, half))
        return super().forward(features)


def check_choice(key: str, value: Any, allowed: Iterable[str]) -> None:
    """Raise MusictagError unless the setting ``key`` has one of the ``allowed`` values."""
    if value not in (names := tuple(allowed)):
        raise MusictagError(f"{key} is {value!r}; allowed: {', '.join(names)}")


def scaled(filters: Sequence[int], multiplier: float) -> tuple[int, ...]:
    """Numbers of filters times ``multiplier``, at least one each: the capacity study (section 4 of the paper)."""
    if multiplier <= 0:
        raise MusictagError(f"frontend.filter_multiplier={multiplier} must be positive; use for example 0.5")
    return tuple(max(1, round(number * multiplier)) for number in filters)


def conv_relu_norm(conv: nn.Conv1d | nn.Conv2d, momentum: float, eps: float = BATCH_NORM_EPS) -> nn.Sequential:
    """``conv``, ReLU, batch norm, in the order of the paper's code."""
    return nn.Sequential(conv, nn.ReLU(), batch_norm(conv.out_channels, momentum, len(conv.kernel_size), eps))


def conv_norm_relu(conv: nn.Conv1d | nn.Conv2d, momentum: float, eps: float = BATCH_NORM_EPS) -> nn.Sequential:
    """``conv``, batch norm, ReLU, in the order of most other papers."""
    return nn.Sequential(conv, batch_norm(conv.out_channels, momentum, len(conv.kernel_size), eps), nn.ReLU())


def channels_innermost(layers: nn.Sequential, waveform: Tensor) -> Tensor:
    """``layers``, the first of which is a convolution without overlap, as a GPU trains them fastest, and a CPU those of
    few channels, compiled: B×N -> B×C×T.

    That one is a product of matrices: the gradient of its weight takes cuDNN a quarter of a training step. The others
    work with the channels innermost, as images of height 1: otherwise cuDNN transposes around every convolution, and
    PyTorch's batch norm of bfloat16 gives each channel to one of the GPU's many processors. torch.compile chooses its
    own layouts, which are better here.
    """
    first, *others = (layer for layer in layers.modules() if not isinstance(layer, nn.Sequential))
    frames = waveform[:, : waveform.shape[1] // first.stride[0] * first.stride[0]].unflatten(1, (-1, first.stride[0]))
    features = F.linear(frames, first.weight[:, 0], first.bias).transpose(1, 2)
    if torch.compiler.is_compiling() and waveform.is_cuda:
        for layer in others:
            features = layer(features)
        return features
    x = features.unsqueeze(2)
    for layer in others:
        if isinstance(layer, nn.Conv1d):
            x = F.conv2d(x, layer.weight.unsqueeze(2), layer.bias, (1, *layer.stride), (0, *layer.padding))
        elif isinstance(layer, nn.BatchNorm1d):
            layer.num_batches_tracked.add_(1)
            moments, scales = (layer.running_mean, layer.running_var), (layer.weight, layer.bias)
            x = F.batch_norm(x, *moments, *scales, True, layer.momentum, layer.eps)
        elif isinstance(layer, nn.MaxPool1d):
            x = F.max_pool2d(x, (1, layer.kernel_size), (1, layer.stride))
        else:
            x = layer(x)
    return x.squeeze(2)


def initialise(module: nn.Module) -> None:
    """He's initialiser (fan-in, truncated normal) for every kernel inside ``module``, and zero biases."""
    # a normal distribution truncated at two standard deviations keeps 0.8796 of its standard deviation
    for layer in module.modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear):
            fan_in = layer.weight[0].numel()
            std = math.sqrt(2.0 / fan_in) / 0.87962566
            nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class Step(NamedTuple):
    """A convolution or a max-pooling along one axis, with ``padding`` on both sides."""

    window: int
    stride: int = 1
    padding: int = 0


def size_after(steps: Sequence[Step], size: int) -> int:
    """The size that ``steps`` leave of an axis of ``size``; 0 if it is too short."""
    for window, stride, padding in steps:
        size = max(size + 2 * padding - window, -stride) // stride + 1
    return size


def smallest_size(steps: Sequence[Step]) -> int:
    """The shortest axis of which ``steps`` leave anything."""
    size = 1
    for window, stride, padding in reversed(steps):
        size = max(1, (size - 1) * stride + window - 2 * padding)
    return size


def stride_of(steps: Sequence[Step]) -> int:
    """The stride of all ``steps`` together, in positions of their input."""
    return prod(step.stride for step in steps)


def receptive_field(steps: Sequence[Step]) -> int:
    """The receptive field of all ``steps`` together, in positions of their input, without padding."""
    field, jump = 1, 1
    for window, stride, _ in steps:
        field += (window - 1) * jump
        jump *= stride
    return field


def full_precision(tensor: Tensor) -> torch.autocast:
    """Context without autocast on the device of ``tensor``."""
    # nothing is computed on the meta device, so there is nothing to cast
    device = "cpu" if tensor.is_meta else tensor.device.type
    return torch.autocast(device, enabled=False)
