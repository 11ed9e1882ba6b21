"""Deep stacks of small square filters without wide poolings, for short patches.

Legend: B patches, F mel bands, C channels, T frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from musictag.models.frontends.image_base import (
    TORCH_EPS,
    TORCH_MOMENTUM,
    ImageFrontEnd,
    ResidualBlock,
    Step,
    check_filters,
    check_pairs,
)
from musictag.models.layers import conv_norm_relu, scaled


class ShortChunk(ImageFrontEnd):
    """Seven layers of 3×3 filters that halve bands and frames: the short-chunk CNN, for patches of 59,049 samples.

    Won, Ferraro, Bogdanov & Serra 2020, *Evaluation of CNN-based automatic music tagging models*. A layer is a
    convolution, batch norm, ReLU and a max-pooling by its entry in ``strides``, [bands, frames]; with ``residual``, a
    residual block whose first convolution has that stride, and which keeps frames at the end that do not fill a stride.
    The remaining bands are flattened into channels: C is the last of ``filters`` times their number, one by default.
    Global max-pooling and the dense layer of 512 units are the back-end ``pooling``.
    conf/model/self_attention_2020.yaml has the stack below the Transformer of Won, Chun & Serra 2019, *Toward
    interpretable music tagging with self-attention*, as in the study of 2020: time is not reduced after the third
    layer.

    As published, the lowest of the 128 bands is narrower than a bin of the FFT and is always silent.
    """

    def __init__(
        self,
        filters: Sequence[int] = (128, 128, 256, 256, 256, 256, 512),
        strides: Sequence[Sequence[int]] = ((2, 2),) * 7,
        residual: bool = False,
        filter_multiplier: float = 1.0,
        normalise: str = "batch_norm",
        norm_momentum: float = TORCH_MOMENTUM,
        num_mels: int = 128,
        pad_mode: str = "reflect",
        mel: str = "htk",
        compression: str = "decibel",
        **spectrogram,
    ):
        super().__init__(
            normalise=normalise,
            norm_momentum=norm_momentum,
            num_mels=num_mels,
            pad_mode=pad_mode,
            mel=mel,
            compression=compression,
            **spectrogram,
        )
        check_filters(filters)
        hops = check_pairs("strides", strides, len(filters))
        channels = (1, *scaled(filters, filter_multiplier))
        self.layers = nn.Sequential(
            *(
                ResidualBlock(wide_in, wide_out, norm_momentum, hop)
                if residual
                else _conv_pool(wide_in, wide_out, norm_momentum, hop)
                for (wide_in, wide_out), hop in zip(pairwise(channels), hops, strict=True)
            )
        )
        band_steps, self.time_steps = (
            tuple(step for hop in hops for step in _steps(hop[axis], residual)) for axis in (0, 1)
        )
        self.out_channels = channels[-1] * self.bands_after(band_steps, "strides")

    def features(self, spectrogram: Tensor) -> Tensor:
        return self.layers(spectrogram.unsqueeze(1)).flatten(1, 2)


def _conv_pool(wide_in: int, wide_out: int, momentum: float, pooling: tuple[int, int]) -> nn.Sequential:
    conv = nn.Conv2d(wide_in, wide_out, 3, padding=1)
    return nn.Sequential(conv_norm_relu(conv, momentum, TORCH_EPS), nn.MaxPool2d(pooling))


def _steps(stride: int, residual: bool) -> tuple[Step, Step]:
    if residual:
        return Step(3, stride, padding=1), Step(3, padding=1)
    return Step(3, padding=1), Step(stride, stride)
