"""A front-end and a back-end. Legend: B patches, N samples, C channels, T frames, K tags."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from musictag.models.backends import BackEnd
from musictag.models.frontends import FrontEnd
from musictag.models.layers import batch_norm, scaled


class Envelopes(FrontEnd):
    """Learnt filters over the waveform, rectified: one layer, two hops long."""

    family = "waveform"

    def __init__(
        self,
        filters: int = 16,
        hop_samples: int = 512,
        filter_multiplier: float = 1.0,
        norm_momentum: float = 0.1,
        sample_rate: int = 16000,
    ) -> None:
        super().__init__()
        (self.out_channels,) = scaled([filters], filter_multiplier)
        self.sample_rate, self.hop_samples, self.receptive_samples = sample_rate, hop_samples, 2 * hop_samples
        self.filters = nn.Conv1d(1, self.out_channels, self.receptive_samples, stride=hop_samples)
        self.norm = batch_norm(self.out_channels, norm_momentum)

    def forward(self, waveform: Tensor) -> Tensor:
        return self.norm(self.filters(waveform.unsqueeze(1)).abs())

    def num_frames(self, num_samples: int) -> int:
        return max(0, num_samples // self.hop_samples - 1)

    def describe_input(self) -> str:
        return "envelopes"


class MeanAndDeviation(BackEnd):
    """Mean and standard deviation over time, a hidden layer, the tags."""

    min_frames = 1
    fixed_length = False

    def __init__(self, in_channels: int, in_frames: int, num_tags: int, hidden_units: int = 16) -> None:
        super().__init__()
        self.hidden = nn.Linear(2 * in_channels, hidden_units)
        self.output = nn.Linear(hidden_units, num_tags)

    def forward(self, features: Tensor) -> Tensor:
        variance = features.var(dim=2, unbiased=False)
        statistics = torch.cat([features.mean(dim=2), (variance + 1e-5).sqrt()], dim=1)
        return self.output(self.hidden(statistics).relu())
