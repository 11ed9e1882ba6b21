"""The mid- and back-end of musicnn (Pons & Serra 2019). Legend: B patches, C channels, T frames, K tags."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from musictag.models.backends import BackEnd
from musictag.models.layers import BATCH_NORM_MOMENTUM, batch_norm, conv_relu_norm, initialise

KERNEL_FRAMES = 7
NUM_LAYERS = 3


class DenselyConnected(BackEnd):
    """Three convolutions in time, two of them residual, summarised together with the front-end's features.

    Pons & Serra 2019, *musicnn: pre-trained convolutional neural networks for music audio tagging*.

    The features of the front-end and of each layer are concatenated (the dense connections of musicnn), followed by
    maximum and mean over time, batch norm, dropout, ``dense_units`` with ReLU and batch norm, dropout, and the output.
    ``filters`` is the number of filters per convolution: 64 by default; musicnn's large model has 512, with 500 dense
    units. Variable length: ``in_frames`` is not used.
    """

    min_frames = 1
    fixed_length = False

    def __init__(
        self,
        in_channels: int,
        in_frames: int,
        num_tags: int,
        filters: int = 64,
        dense_units: int = 200,
        dropout: float = 0.5,
        norm_momentum: float = BATCH_NORM_MOMENTUM,
    ):
        super().__init__()
        widths = (in_channels, filters, filters)
        self.convolutions = nn.ModuleList(
            conv_relu_norm(nn.Conv1d(wide, filters, KERNEL_FRAMES, padding=KERNEL_FRAMES // 2), norm_momentum)
            for wide in widths
        )
        summary = 2 * (in_channels + NUM_LAYERS * filters)
        self.summary_norm = batch_norm(summary, norm_momentum)
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(summary, dense_units)
        self.dense_norm = batch_norm(dense_units, norm_momentum)
        self.output = nn.Linear(dense_units, num_tags)
        initialise(self)

    def forward(self, features: Tensor) -> Tensor:
        first = self.convolutions[0](features)
        second = self.convolutions[1](first) + first
        third = self.convolutions[2](second) + second
        together = torch.cat([features, first, second, third], dim=1)
        # maximum and mean of a channel are adjacent, as the published code flattens them
        summary = torch.stack([together.amax(-1), together.mean(-1)], dim=-1).flatten(1)
        hidden = self.dense_norm(self.dense(self.dropout(self.summary_norm(summary))).relu())
        return self.output(self.dropout(hidden))
