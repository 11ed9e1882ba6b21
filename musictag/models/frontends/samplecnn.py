"""SampleCNN, on which the paper's waveform model is based, and its successors.

Legend: B patches, N samples, C channels, T frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from musictag.common.errors import MusictagError
from musictag.models.frontends import FrontEnd
from musictag.models.inference_form import Chain
from musictag.models.layers import BATCH_NORM_MOMENTUM, batch_norm, check_choice, conv_norm_relu, scaled

BLOCKS = ("basic", "se", "res", "rese")
NUM_LEVELS = 3


class SampleCNN(FrontEnd):
    """A convolution with stride 3, then nine blocks that each pool by 3: 59,049 samples per frame.

    Lee, Park, Kim & Nam 2017, *Sample-level deep convolutional neural networks for music auto-tagging using raw
    waveforms* (the model 3^9): every layer is a convolution of length 3, padded except for the first, then batch norm
    and ReLU. ``channels`` holds the filters of the first convolution and of each block. Kim, Lee & Nam 2018,
    *Sample-level CNN architectures for music auto-tagging using raw waveforms*, extend the ``block``:

    * ``basic``: convolution, batch norm, ReLU, max-pooling;
    * ``se``: basic, then squeeze-and-excitation, with ``amplifying_ratio`` hidden units per channel;
    * ``res``: two convolutions with ``dropout`` between them, and a shortcut around both before the pooling;
    * ``rese``: res, with squeeze-and-excitation before the shortcut is added.

    ``multi_level`` concatenates the outputs of the last three blocks, C = 1024, the earlier two max-pooled to the
    frames of the last: for a patch of one frame that is their maximum over time. The last convolution of 2017, one
    frame wide, and the hidden layer of 2018 belong to the back-end. A frame is 3.7 s at 16 kHz, 2.7 s at
    the papers' 22,050 Hz.
    """

    family = "waveform"

    def __init__(
        self,
        channels: Sequence[int] = (128, 128, 128, 256, 256, 256, 256, 256, 256, 512),
        block: str = "basic",
        multi_level: bool = False,
        amplifying_ratio: int = 16,
        dropout: float = 0.2,
        filter_multiplier: float = 1.0,
        norm_momentum: float = BATCH_NORM_MOMENTUM,
        sample_rate: int = 16000,
    ):
        super().__init__()
        check_choice("frontend.block", block, BLOCKS)
        if not channels or min(channels) < 1:
            raise MusictagError(f"frontend.channels is {list(channels)}; it needs one positive number per layer")
        if multi_level and len(channels) <= NUM_LEVELS:
            raise MusictagError(
                f"frontend.multi_level=true takes {NUM_LEVELS} blocks, and frontend.channels={list(channels)} has "
                f"{len(channels) - 1}; use more channels, or frontend.multi_level=false"
            )
        if amplifying_ratio < 1 or not 0 <= dropout < 1:
            raise MusictagError(
                f"frontend.amplifying_ratio={amplifying_ratio} frontend.dropout={dropout}: "
                "needs amplifying_ratio >= 1 and 0 <= dropout < 1"
            )
        channels = scaled(channels, filter_multiplier)
        gated, residual = block in ("se", "rese"), block in ("res", "rese")
        ratio = amplifying_ratio if gated else None
        self.sample_rate = sample_rate
        self.first = conv_norm_relu(nn.Conv1d(1, channels[0], 3, stride=3), norm_momentum)
        self.blocks = nn.ModuleList(
            ResidualBlock(*wide, ratio, dropout, norm_momentum) if residual else BasicBlock(*wide, ratio, norm_momentum)
            for wide in pairwise(channels)
        )
        levels = channels[-NUM_LEVELS:] if multi_level else channels[-1:]
        self.level_pools = nn.ModuleList(nn.MaxPool1d(3**after) for after in reversed(range(len(levels))))
        self.out_channels = sum(levels)
        receptive = self.hop_samples = 3
        for _ in self.blocks:
            receptive += (6 if residual else 4) * self.hop_samples  # two for each convolution, two for the pooling
            self.hop_samples *= 3
        self.receptive_samples = None if gated and self.blocks else receptive
        _initialise(self)

    def forward(self, waveform: Tensor) -> Tensor:
        features = self.first(waveform.unsqueeze(1))
        levels = [features]
        for block in self.blocks:
            features = block(features)
            levels = [*levels, features][-len(self.level_pools) :]
        return torch.cat([pool(level) for pool, level in zip(self.level_pools, levels, strict=True)], dim=1)

    def num_frames(self, num_samples: int) -> int:
        return num_samples // self.hop_samples

    def inference_form(self) -> nn.Module:
        form = super().inference_form()
        form.first = Chain(self.first, contiguous=False)
        return form


class BasicBlock(nn.Module):
    """Convolution, batch norm, ReLU, max-pooling by 3, and a gate if there is a ``ratio``: B×C×T -> B×C'×T/3."""

    def __init__(self, wide_in: int, wide_out: int, ratio: int | None, norm_momentum: float):
        super().__init__()
        self.conv = conv_norm_relu(nn.Conv1d(wide_in, wide_out, 3, padding=1), norm_momentum)
        self.pool = nn.MaxPool1d(3)
        self.gate = nn.Identity() if ratio is None else SqueezeAndExcitation(wide_out, ratio)

    def forward(self, features: Tensor) -> Tensor:
        return self.gate(self.pool(self.conv(features)))

    def inference_form(self) -> nn.Module:
        return Chain(nn.Sequential(self.conv, self.pool, self.gate))


class ResidualBlock(nn.Module):
    """Two convolutions, a gate if there is a ``ratio``, plus the shortcut, ReLU, max-pooling: B×C×T -> B×C'×T/3."""

    any_layout = True

    def __init__(self, wide_in: int, wide_out: int, ratio: int | None, dropout: float, norm_momentum: float):
        super().__init__()
        self.shortcut = (
            nn.Identity()
            if wide_in == wide_out
            else nn.Sequential(nn.Conv1d(wide_in, wide_out, 1), batch_norm(wide_out, norm_momentum))
        )
        self.convs = nn.Sequential(
            conv_norm_relu(nn.Conv1d(wide_in, wide_out, 3, padding=1), norm_momentum),
            nn.Dropout(dropout),
            nn.Conv1d(wide_out, wide_out, 3, padding=1),
            batch_norm(wide_out, norm_momentum),
        )
        self.gate = nn.Identity() if ratio is None else SqueezeAndExcitation(wide_out, ratio)
        self.pool = nn.MaxPool1d(3)

    def forward(self, features: Tensor) -> Tensor:
        return self.pool((self.shortcut(features) + self.gate(self.convs(features))).relu())


class SqueezeAndExcitation(nn.Module):
    """Scales every channel by a number in [0, 1] that depends on all channels' means over time: B×C×T -> B×C×T.

    Hu et al. 2018 make the hidden layer narrower than the channels; Kim et al. 2018 make it ``ratio`` times as wide.
    """

    any_layout = True

    def __init__(self, channels: int, ratio: int):
        super().__init__()
        self.excite = nn.Sequential(
            nn.Linear(channels, ratio * channels), nn.ReLU(), nn.Linear(ratio * channels, channels), nn.Sigmoid()
        )

    def forward(self, features: Tensor) -> Tensor:
        return features * self.excite(features.mean(dim=-1)).unsqueeze(-1)


def _initialise(module: nn.Module) -> None:
    """As published: He's uniform initialiser for the convolutions of length 3, Glorot's for the rest, biases zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv1d | nn.Linear):
            if isinstance(layer, nn.Conv1d) and layer.kernel_size == (3,):
                nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
            else:
                nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
