"""The frame-level front-end: one strided filter bank in place of the spectrogram.

Legend: B patches, N samples, C channels, T frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from musictag.common.errors import MusictagError
from musictag.models.frontends import FrontEnd
from musictag.models.layers import (
    BATCH_NORM_MOMENTUM,
    Step,
    check_choice,
    full_precision,
    initialise,
    receptive_field,
    scaled,
    size_after,
    stride_of,
)
from musictag.models.layers import batch_norm as normalise


class FrameLevel(FrontEnd):
    """A convolution with the length and hop of a spectrogram's window, then two small ones over time.

    After Dieleman & Schrauwen 2014, *End-to-end learning for music audio*. Every layer is a convolution without padding
    and a ReLU; the two over ``filter_frames`` frames are followed by a max-pooling by ``pool_frames``, so that a frame
    of the output corresponds to 4,096 samples (256 ms). The paper compares windows of 1024, 512 and 256 samples with
    strides as long or half as long; the shortest did best. Its dense layer of 100 units belongs to the back-end.

    ``non_linearity`` of the strided layer is ``relu``, or ``log``, which is log(10000 |x| + 1) and compresses
    amplitudes as is common for spectrograms. ``batch_norm`` adds a batch norm after each non-linearity, which the paper
    does not have; ``norm_momentum`` only matters then. The initialiser is He's.
    """

    family = "waveform"

    def __init__(
        self,
        filter_samples: int = 256,
        stride_samples: int = 256,
        strided_filters: int = 128,
        filters: Sequence[int] = (32, 32),
        filter_frames: int = 8,
        pool_frames: int = 4,
        non_linearity: str = "relu",
        batch_norm: bool = False,
        filter_multiplier: float = 1.0,
        norm_momentum: float = BATCH_NORM_MOMENTUM,
        sample_rate: int = 16000,
    ):
        super().__init__()
        if min(filter_samples, stride_samples, filter_frames, pool_frames) < 1:
            raise MusictagError(
                f"must be positive: frontend.filter_samples={filter_samples} .stride_samples={stride_samples} "
                f".filter_frames={filter_frames} .pool_frames={pool_frames}"
            )
        if min(strided_filters, *filters, 1) < 1:
            raise MusictagError(
                f"frontend.strided_filters={strided_filters} frontend.filters={list(filters)}: "
                "each layer needs at least 1 filter; use for example frontend.filters=[32,32]"
            )
        check_choice("frontend.non_linearity", non_linearity, ("relu", "log"))
        channels = scaled((strided_filters, *filters), filter_multiplier)
        self.sample_rate = sample_rate
        self.out_channels = channels[-1]
        pooled = (Step(filter_frames), Step(pool_frames, pool_frames))
        self.steps = (Step(filter_samples, stride_samples), *pooled * len(filters))
        self.hop_samples, self.receptive_samples = stride_of(self.steps), receptive_field(self.steps)

        def norm(wide: int) -> list[nn.Module]:
            return [normalise(wide, norm_momentum)] if batch_norm else []

        strided = nn.Conv1d(1, channels[0], filter_samples, stride=stride_samples)
        first = nn.ReLU() if non_linearity == "relu" else LogCompression()
        layers: list[nn.Module] = [strided, first, *norm(channels[0])]
        for wide_in, wide_out in pairwise(channels):
            layers += [nn.Conv1d(wide_in, wide_out, filter_frames), nn.ReLU(), *norm(wide_out)]
            layers += [nn.MaxPool1d(pool_frames)]
        self.layers = nn.Sequential(*layers)
        initialise(self)

    def forward(self, waveform: Tensor) -> Tensor:
        return self.layers(waveform.unsqueeze(1))

    def num_frames(self, num_samples: int) -> int:
        return size_after(self.steps, num_samples)


class LogCompression(nn.Module):
    """log(10000 |x| + 1), in float32 also under autocast: in float16 the factor of 10,000 overflows."""

    def forward(self, features: Tensor) -> Tensor:
        with full_precision(features):
            return torch.log1p(10000.0 * features.float().abs())
