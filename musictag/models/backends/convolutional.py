"""A back-end of convolutions only, for patches of one length. Legend: B patches, C channels, T frames, K tags."""

from __future__ import annotations

from torch import Tensor, nn

from musictag.common.errors import MusictagError
from musictag.models.backends import BackEnd
from musictag.models.layers import BATCH_NORM_MOMENTUM, conv_norm_relu, initialise

KERNEL_FRAMES = 3


class FullyConvolutional(BackEnd):
    """Convolutions over three frames and max-pooling, repeated until one frame is left; then the output.

    The paper's fully convolutional back-end, after Choi et al. 2016, "Automatic tagging using deep convolutional neural
    networks", and Lee et al. 2017, "Sample-level deep convolutional neural networks", whose layers these are:
    convolution, batch norm, ReLU, max-pooling by three, and dropout before the output. The length of the patches
    decides their number: the smallest n with ``pool_frames``^n >= T, at least one.

    If the frames cannot be divided evenly, the incomplete last group is pooled as well, so that no frame is ignored;
    the two published models use lengths that can. Fixed length: T must be ``in_frames``, else RuntimeError.
    """

    min_frames = 1
    fixed_length = True

    def __init__(
        self,
        in_channels: int,
        in_frames: int,
        num_tags: int,
        filters: int = 512,
        pool_frames: int = 3,
        dropout: float = 0.5,
        norm_momentum: float = BATCH_NORM_MOMENTUM,
    ):
        super().__init__()
        if pool_frames < 2:
            raise MusictagError(f"backend.pool_frames={pool_frames} must be at least 2, to reduce the number of frames")
        self.in_frames = in_frames
        num_layers = 1
        while pool_frames**num_layers < in_frames:
            num_layers += 1
        self.layers = nn.Sequential()
        for wide in [in_channels] + [filters] * (num_layers - 1):
            conv = nn.Conv1d(wide, filters, KERNEL_FRAMES, padding=KERNEL_FRAMES // 2)
            self.layers.append(conv_norm_relu(conv, norm_momentum))
            self.layers.append(nn.MaxPool1d(pool_frames, ceil_mode=True))
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(filters, num_tags)
        initialise(self)

    def forward(self, features: Tensor) -> Tensor:
        if features.shape[-1] != self.in_frames:  # fewer frames would pass through unnoticed
            raise RuntimeError(f"{features.shape[-1]} frames, but this back-end is made for {self.in_frames}")
        return self.output(self.dropout(self.layers(features).squeeze(-1)))
