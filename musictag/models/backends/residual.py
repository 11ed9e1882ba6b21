"""The paper's back-end. Legend: B patches, C channels, T frames, K tags."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from musictag.models.backends import BackEnd
from musictag.models.inference_form import Chain
from musictag.models.layers import BATCH_NORM_MOMENTUM, check_choice, initialise
from musictag.models.layers import batch_norm as normalise

KERNEL_FRAMES = 7
POOL_FRAMES = 2


class Residual(BackEnd):
    """Three convolutions in time, two of them residual, summarised by maximum and mean over time.

    Variable length: ``in_frames`` is not used. ``filters`` is the number of filters per convolution, ``dense_units``
    the number of hidden units before the output; ``dropout`` is applied before both dense layers.

    ``batch_norm="reference"`` follows the paper's code: after the second and third convolution all filters share one
    scale, shift, mean and variance. ``"per_channel"`` has one of each per filter.
    """

    # the first convolution is not padded, and its output is pooled by two
    min_frames = KERNEL_FRAMES - 1 + POOL_FRAMES
    fixed_length = False

    def __init__(
        self,
        in_channels: int,
        in_frames: int,
        num_tags: int,
        filters: int = 512,
        dense_units: int = 500,
        dropout: float = 0.5,
        batch_norm: str = "reference",
        norm_momentum: float = BATCH_NORM_MOMENTUM,
    ):
        super().__init__()
        check_choice("backend.batch_norm", batch_norm, ("reference", "per_channel"))
        scalar = batch_norm == "reference"
        self.conv1 = nn.Conv1d(in_channels, filters, KERNEL_FRAMES)
        self.norm1 = normalise(filters, norm_momentum)
        self.conv2 = nn.Conv1d(filters, filters, KERNEL_FRAMES, padding="same")
        self.norm2 = normalise(1 if scalar else filters, norm_momentum)
        self.conv3 = nn.Conv1d(filters, filters, KERNEL_FRAMES, padding="same")
        self.norm3 = normalise(1 if scalar else filters, norm_momentum)
        self.pool = nn.MaxPool1d(POOL_FRAMES)
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(2 * filters, dense_units)
        self.norm4 = normalise(dense_units, norm_momentum)
        self.output = nn.Linear(dense_units, num_tags)
        initialise(self)

    def forward(self, features: Tensor) -> Tensor:
        first = self._layer(1, features)
        second = self.pool(first + self._layer(2, first))
        third = second + self._layer(3, second)
        # maximum and mean of a filter are adjacent, as the reference flattens them
        summary = torch.stack([third.amax(-1), third.mean(-1)], dim=-1).flatten(1)
        hidden = self.norm4(self.dense(self.dropout(summary)).relu())
        return self.output(self.dropout(hidden))

    def _layer(self, number: int, features: Tensor) -> Tensor:
        conv, norm = self.get_submodule(f"conv{number}"), self.get_submodule(f"norm{number}")
        return _normalised(norm, conv(features).relu())

    def inference_form(self) -> nn.Module:
        form = super().inference_form()
        layers = nn.ModuleList(
            Chain(nn.Sequential(conv, nn.ReLU(), norm))
            for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2), (self.conv3, self.norm3))
        )
        form.layers = layers  # so that they are found
        form._layer = lambda number, features: layers[number - 1](features)
        return form


def _normalised(norm: nn.Module, features: Tensor) -> Tensor:
    """B×C×T after a batch norm over C channels, or over a single one with all filters and frames together.

    The single one is an ordinary layer with reshaped input, not a layer class of our own: code that replaces a model's
    batch norms (synchronised ones, for several GPUs) must find it.
    """
    if norm.num_features > 1:
        return norm(features)
    if features.is_cuda and norm.training and type(norm) is nn.BatchNorm1d:
        return normalised_over_all(norm, features)
    return norm(features.flatten(1).unsqueeze(1)).view_as(features)


def normalised_over_all(norm: nn.BatchNorm1d, features: Tensor) -> Tensor:
    """A batch norm with one channel, in training: its CUDA kernel would sum the whole map on a single processor."""
    values = features.to(norm.weight.dtype)
    var, mean = torch.var_mean(values, correction=0)
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(var * (values.numel() / (values.numel() - 1)), norm.momentum)
    return ((values - mean) * ((var + norm.eps).rsqrt() * norm.weight) + norm.bias).to(features.dtype)
