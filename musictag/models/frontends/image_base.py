"""Base of front-ends that treat the log-mel as an image: the sizes of layers that stride through it.

Legend: B patches, N samples, F mel bands, C channels, T frames.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from musictag.common.errors import MusictagError
from musictag.models.frontends.spectrogram_base import SpectrogramFrontEnd
from musictag.models.layers import (
    Step,
    batch_norm,
    conv_norm_relu,
    receptive_field,
    size_after,
    smallest_size,
    stride_of,
)

TORCH_EPS = 1e-5  # epsilon of batch norm in models published in torch
TORCH_MOMENTUM = 0.1


class ImageFrontEnd(SpectrogramFrontEnd):
    """A spectrogram front-end whose layers also stride in time. Subclasses set ``time_steps``."""

    time_steps: tuple[Step, ...]

    def num_frames(self, num_samples: int) -> int:
        return size_after(self.time_steps, self.log_mel.num_frames(num_samples))

    @property
    def hop_samples(self) -> int:
        return self.log_mel.hop_samples * stride_of(self.time_steps)

    @property
    def receptive_samples(self) -> int:
        return self.samples_under(receptive_field(self.time_steps))

    def bands_after(self, steps: Sequence[Step], setting: str) -> int:
        """The mel bands that ``steps`` leave. Raises MusictagError, naming ``setting``, if none."""
        num_mels, needed = self.log_mel.num_mels, smallest_size(steps)
        if num_mels < needed:
            raise MusictagError(
                f"frontend.num_mels={num_mels} are too few bands for frontend.{setting}, which needs {needed}; "
                f"use frontend.num_mels={needed}, or smaller or fewer frontend.{setting}"
            )
        return size_after(steps, num_mels)


def check_filters(filters: Sequence[int]) -> None:
    """Raises MusictagError unless ``filters`` holds a positive number for each layer."""
    if not filters or min(filters) < 1:
        raise MusictagError(f"frontend.filters is {list(filters)}; it needs one positive number per layer")


def check_pairs(setting: str, pairs: Sequence[Sequence[int]], layers: int) -> list[tuple[int, int]]:
    """``pairs`` of bands and frames, one per layer. Raises MusictagError, naming ``setting``, for anything else."""
    if len(pairs) != layers or any(len(pair) != 2 or min(pair) < 1 for pair in pairs):
        raise MusictagError(
            f"frontend.{setting} is {[list(pair) for pair in pairs]}; it needs [bands, frames], at least 1 each, for "
            f"each of the {layers} layers that frontend.filters has, such as [{', '.join(['[2, 2]'] * layers)}]"
        )
    return [(bands, frames) for bands, frames in pairs]


class ResidualBlock(nn.Module):
    """B×C×F×T -> B×C'×F'×T': two 3×3 convolutions with batch norm, plus a shortcut; ReLU of their sum.

    The first convolution has the stride. The shortcut is the input itself or, if the size changes, a 3×3 convolution
    with batch norm (He et al. 2016, *Deep residual learning for image recognition*, use 1×1 there; Won et al. use 3×3).
    """

    any_layout = True

    def __init__(self, wide_in: int, wide_out: int, momentum: float, stride: tuple[int, int] = (1, 1)):
        super().__init__()
        self.layers = nn.Sequential(
            conv_norm_relu(nn.Conv2d(wide_in, wide_out, 3, stride, padding=1), momentum, TORCH_EPS),
            nn.Conv2d(wide_out, wide_out, 3, padding=1),
            batch_norm(wide_out, momentum, 2, TORCH_EPS),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != (1, 1) or wide_in != wide_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(wide_in, wide_out, 3, stride, padding=1), batch_norm(wide_out, momentum, 2, TORCH_EPS)
            )

    def forward(self, image: Tensor) -> Tensor:
        return (self.shortcut(image) + self.layers(image)).relu()
