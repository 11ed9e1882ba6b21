"""Front-ends on the raw waveform, which assume nothing about music.

Legend: B patches, N samples, C channels, T frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musictag.common.errors import MusictagError
from musictag.models.frontends import FrontEnd
from musictag.models.fused import Window, conv_relu_norm_pool, fusible
from musictag.models.layers import (
    BATCH_NORM_MOMENTUM,
    Step,
    channels_innermost,
    conv_relu_norm,
    initialise,
    receptive_field,
    scaled,
    size_after,
    stride_of,
)

#: Of the first layer, up to which a compiled step on a CPU takes less time with the channels innermost.
FEW_CHANNELS = 16


class SampleLevel(FrontEnd):
    """Deep stack of tiny filters: the paper's waveform model, after Lee et al. 2017.

    Every layer is a convolution of length 3 without padding, ReLU, batch norm. The first has stride 3, the others are
    followed by a max-pooling by 3. ``channels`` holds the number of filters per layer: seven layers by default; the
    paper's model for 1.2 million songs has nine, and needs at least 2.5 s (39,363 samples) per frame.
    ``filter_multiplier`` is the paper's capacity study (section 4).
    """

    family = "waveform"

    def __init__(
        self,
        channels: Sequence[int] = (64, 64, 64, 128, 128, 128, 256),
        filter_multiplier: float = 1.0,
        norm_momentum: float = BATCH_NORM_MOMENTUM,
        sample_rate: int = 16000,
    ):
        super().__init__()
        if not channels or min(channels) < 1:
            raise MusictagError(f"frontend.channels is {list(channels)}; it needs one positive number per layer")
        channels = scaled(channels, filter_multiplier)
        self.sample_rate = sample_rate
        self.out_channels = channels[-1]
        layers: list[nn.Module] = [conv_relu_norm(nn.Conv1d(1, channels[0], 3, stride=3), norm_momentum)]
        for wide_in, wide_out in pairwise(channels):
            layers += [conv_relu_norm(nn.Conv1d(wide_in, wide_out, 3), norm_momentum), nn.MaxPool1d(3)]
        self.layers = nn.Sequential(*layers)
        self.steps = (Step(3, 3), *(Step(3), Step(3, 3)) * (len(channels) - 1))
        self.hop_samples, self.receptive_samples = stride_of(self.steps), receptive_field(self.steps)
        initialise(self)

    def forward(self, waveform: Tensor) -> Tensor:
        few = torch.compiler.is_compiling() and self.layers[0][0].out_channels <= FEW_CHANNELS
        if self.training and (waveform.is_cuda or few):
            return channels_innermost(self.layers, waveform)
        blocks = [layer for layer in self.layers if not isinstance(layer, nn.MaxPool1d)]
        if fusible(waveform, *blocks):
            return self._fused(waveform, blocks)
        return self.layers(waveform.unsqueeze(1))

    def _fused(self, waveform: Tensor, blocks: list[nn.Sequential]) -> Tensor:
        """The same as ``self.layers``, in training on a CPU."""
        length, features_BTC = waveform.shape[1], F.pad(waveform, (0, -waveform.shape[1] % 3)).unsqueeze(2)
        for block in blocks:
            stride, pool = (3, 1) if block is blocks[0] else (1, 3)
            window = Window(length, 3, stride, pool)
            weight_KO = block[0].weight.permute(2, 1, 0).flatten(0, 1)
            features_BTC = conv_relu_norm_pool(features_BTC, block, weight_KO, window, pad_to=3)
            length = window.pooled
        return features_BTC[:, :length].transpose(1, 2).contiguous()

    def num_frames(self, num_samples: int) -> int:
        return size_after(self.steps, num_samples)
