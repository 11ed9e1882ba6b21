"""The front-end with one shape of vertical filters (section 2 of the paper).

Legend: B patches, F mel bands, C channels, T frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from musictag.common.errors import MusictagError
from musictag.models.frontends.image_base import ImageFrontEnd, Step, check_filters
from musictag.models.layers import initialise, scaled


class SingleVertical(ImageFrontEnd):
    """Filters that span all mel bands and a few frames: a convolution over time whose channels are the bands.

    Dieleman & Schrauwen 2014, *End-to-end learning for music audio*, their model on mel spectrograms. Every layer is a
    convolution of ``kernel_frames`` without padding, ReLU and a max-pooling by ``pool_frames``; no batch norm. Their
    dense layer of 100 units is the back-end ``dense``. C is the last of ``filters``. They compare windows and hops from
    1024 down to 256 samples; here they are 1024 and 512, which leaves none of the 128 bands empty. Deviations: the
    spectrogram is normalised over the data set, and the initialiser is He's.
    """

    def __init__(
        self,
        filters: Sequence[int] = (32, 32),
        kernel_frames: int = 8,
        pool_frames: int = 4,
        filter_multiplier: float = 1.0,
        n_fft: int = 1024,
        hop_samples: int = 512,
        num_mels: int = 128,
        **spectrogram,
    ):
        super().__init__(n_fft=n_fft, hop_samples=hop_samples, num_mels=num_mels, **spectrogram)
        check_filters(filters)
        if min(kernel_frames, pool_frames) < 1:
            raise MusictagError(
                f"must be positive: frontend.kernel_frames={kernel_frames} frontend.pool_frames={pool_frames}"
            )
        channels = (num_mels, *scaled(filters, filter_multiplier))
        self.layers = nn.Sequential(
            *(
                nn.Sequential(nn.Conv1d(wide_in, wide_out, kernel_frames), nn.ReLU(), nn.MaxPool1d(pool_frames))
                for wide_in, wide_out in pairwise(channels)
            )
        )
        self.time_steps = (Step(kernel_frames), Step(pool_frames, pool_frames)) * len(filters)
        self.out_channels = channels[-1]
        initialise(self)

    def features(self, spectrogram: Tensor) -> Tensor:
        return self.layers(spectrogram)
