"""The front-end of musicnn (Pons & Serra 2019, *musicnn: pre-trained convolutional neural networks for music audio
tagging*), the successor of the paper's spectrogram model.

Legend: B patches, F mel bands, T frames, C channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musictag.models.frontends.spectrogram_base import SpectrogramFrontEnd
from musictag.models.inference_form import Chain, MaxOverBands
from musictag.models.layers import BATCH_NORM_MOMENTUM, conv_relu_norm, initialise, scaled

TIMBRAL_FRAMES = 7
TEMPORAL_FRAMES = (128, 64, 32)


class Musicnn(SpectrogramFrontEnd):
    """Two vertical and three horizontal filter shapes over the whole log-mel, as in musicnn's published code.

    Timbral branch: filters of height int(0.4 F) and int(0.7 F), 7 frames wide, ``timbral_filters`` of each. Temporal
    branch: filters of one band and 128, 64 and 32 frames, ``temporal_filters`` of each. Both are padded in time and
    max-pooled over the whole frequency axis, after batch norm. C = 2 · 204 + 3 · 51 = 561 by default. Unlike in the
    paper's model, the temporal filters see every band instead of the loudness.
    """

    def __init__(
        self,
        timbral_filters: int = 204,
        temporal_filters: int = 51,
        filter_multiplier: float = 1.0,
        norm_momentum: float = BATCH_NORM_MOMENTUM,
        normalise: str = "batch_norm",
        **spectrogram,
    ):
        super().__init__(normalise=normalise, norm_momentum=norm_momentum, **spectrogram)
        timbral, temporal = scaled((timbral_filters, temporal_filters), filter_multiplier)
        num_mels = self.log_mel.num_mels
        self.timbral = nn.ModuleList(
            conv_relu_norm(nn.Conv2d(1, timbral, (max(1, height), TIMBRAL_FRAMES)), norm_momentum)
            for height in (int(0.4 * num_mels), int(0.7 * num_mels))
        )
        self.temporal = nn.ModuleList(
            conv_relu_norm(nn.Conv2d(1, temporal, (1, frames)), norm_momentum) for frames in TEMPORAL_FRAMES
        )
        self.out_channels = 2 * timbral + len(TEMPORAL_FRAMES) * temporal
        self.receptive_samples = self.samples_under(TEMPORAL_FRAMES[0])
        initialise(self)

    def features(self, spectrogram: Tensor) -> Tensor:
        image = spectrogram.unsqueeze(1)
        branches = [*self.timbral, *self.temporal]
        return torch.cat([layer(_padded(image, layer[0].kernel_size[1])).max(dim=2).values for layer in branches], 1)

    def inference_form(self) -> nn.Module:
        form, bands = super().inference_form(), self.log_mel.num_mels
        for group in ("timbral", "temporal"):  # as in MusicallyMotivated
            chains = (Chain(nn.Sequential(*layer, MaxOverBands(bands))) for layer in getattr(self, group))
            setattr(form, group, nn.ModuleList(chains))
        return form


def _padded(image: Tensor, frames: int) -> Tensor:
    """``image`` padded to keep the number of frames; an even kernel pads one more on the right, as TensorFlow does."""
    return F.pad(image, ((frames - 1) // 2, frames // 2))
