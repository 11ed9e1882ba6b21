"""The multi-resolution front-end: parallel filter banks of several lengths.

Legend: B patches, N samples, C channels, T frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from musictag.common.errors import MusictagError
from musictag.models.frontends import FrontEnd
from musictag.models.layers import BATCH_NORM_MOMENTUM, conv_norm_relu, initialise, scaled


class MultiResolution(FrontEnd):
    """Short filters for timing, long filters for pitch: each has its own stride and is pooled to one frame rate.

    After Zhu, Engel & Hannun 2016, *Learning multiscale features directly from waveforms*, who recognise speech with
    filters of 1, 4 and 40 ms. A resolution is a convolution without padding of ``filter_samples`` and
    ``stride_samples``, batch norm, ReLU, and the maximum over ``hop_samples``; the resolutions are concatenated as
    channels, C = the sum of ``num_filters``. We chose the strides (a sixteenth of the length), the numbers of filters,
    He's initialiser, and that the frames of all resolutions are centred on the same samples.
    """

    family = "waveform"

    def __init__(
        self,
        filter_samples: Sequence[int] = (16, 64, 640),
        stride_samples: Sequence[int] = (1, 4, 40),
        num_filters: Sequence[int] = (32, 32, 96),
        hop_samples: int = 160,
        filter_multiplier: float = 1.0,
        norm_momentum: float = BATCH_NORM_MOMENTUM,
        sample_rate: int = 16000,
    ):
        super().__init__()
        settings = (filter_samples, stride_samples, num_filters)
        if len({len(setting) for setting in settings}) > 1 or not all(settings) or min(map(min, settings)) < 1:
            raise MusictagError(
                f"frontend.filter_samples={list(filter_samples)} .stride_samples={list(stride_samples)} "
                f".num_filters={list(num_filters)}: each needs one positive number per resolution"
            )
        if hop_samples < 1 or any(hop_samples % stride for stride in stride_samples):
            raise MusictagError(
                f"frontend.hop_samples={hop_samples} must be a multiple of every frontend.stride_samples="
                f"{list(stride_samples)}; use for example frontend.hop_samples={max(stride_samples) * 4}"
            )
        num_filters = scaled(num_filters, filter_multiplier)
        self.sample_rate = sample_rate
        self.out_channels = sum(num_filters)
        self.hop_samples = hop_samples
        receptive = [
            length + hop_samples - stride for length, stride in zip(filter_samples, stride_samples, strict=True)
        ]
        self.receptive_samples = max(receptive)
        shorter = [self.receptive_samples - samples for samples in receptive]
        #: samples that a resolution skips at both ends, so that its frames are centred on those of the longest
        self.left_out = [(samples // 2, samples - samples // 2) for samples in shorter]
        self.resolutions = nn.ModuleList(
            nn.Sequential(
                conv_norm_relu(nn.Conv1d(1, filters, length, stride=stride), norm_momentum),
                nn.MaxPool1d(hop_samples // stride),
            )
            for length, stride, filters in zip(filter_samples, stride_samples, num_filters, strict=True)
        )
        initialise(self)

    def forward(self, waveform: Tensor) -> Tensor:
        waveform = waveform.unsqueeze(1)
        return torch.cat(
            [
                resolution(waveform[..., before : waveform.shape[-1] - after])
                for resolution, (before, after) in zip(self.resolutions, self.left_out, strict=True)
            ],
            dim=1,
        )

    def num_frames(self, num_samples: int) -> int:
        return max(num_samples - self.receptive_samples + self.hop_samples, 0) // self.hop_samples
