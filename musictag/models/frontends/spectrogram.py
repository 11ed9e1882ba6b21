"""The spectrogram front-end of the paper: vertical and horizontal filters of many shapes (section 3.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musictag.common.errors import MusictagError
from musictag.models.frontends.spectrogram_base import SpectrogramFrontEnd
from musictag.models.fused import Window, conv_relu_norm_pool, fusible
from musictag.models.inference_form import Chain, MaxOverBands
from musictag.models.layers import BATCH_NORM_MOMENTUM, SameConv1d, check_choice, conv_relu_norm, initialise, scaled

VERTICAL_FRAMES = (7, 3, 1)
HORIZONTAL_FRAMES = (165, 128, 64, 32)
#: Filters and weights of a layer from which a fused step takes less time than oneDNN's convolution and the plain layers
#: after it.
FEWEST_FUSED = (32, 1) if torch.backends.cpu.get_cpu_capability() == "AVX512" else (1, 1000)


class MusicallyMotivated(SpectrogramFrontEnd):
    """Many vertical and horizontal filter shapes in one layer: the paper's spectrogram model.

    Timbral branch: filters of height int(0.9 F) and int(0.4 F), widths 7, 3, 1 with n, 2n, 4n of each, padded in time,
    max-pooled over the whole frequency axis. Temporal branch: the mean over frequency, then filters of length
    165, 128, 64, 32 with n, 2n, 4n, 8n of each. ``num_filters`` is n, and ``filter_multiplier`` multiplies it (the
    capacity study); C = 29 n. ``branches``: ``both``, or only the ``timbral`` (14 n) or the ``temporal`` one (15 n).
    """

    def __init__(
        self,
        num_filters: int = 16,
        filter_multiplier: float = 1.0,
        branches: str = "both",
        norm_momentum: float = BATCH_NORM_MOMENTUM,
        **spectrogram,
    ):
        super().__init__(norm_momentum=norm_momentum, **spectrogram)
        num_mels = self.log_mel.num_mels
        if num_filters < 1 or num_mels < 3:
            raise MusictagError(f"frontend.num_filters={num_filters} frontend.num_mels={num_mels}: at least 1 and 3")
        check_choice("frontend.branches", branches, ("both", "timbral", "temporal"))
        (n,) = scaled((num_filters,), filter_multiplier)
        timbral = [
            conv_relu_norm(nn.Conv2d(1, filters, (height, width), padding=(0, width // 2)), norm_momentum)
            for height in (int(0.9 * num_mels), int(0.4 * num_mels))
            for width, filters in zip(VERTICAL_FRAMES, (n, 2 * n, 4 * n), strict=True)
        ]
        temporal = [
            conv_relu_norm(SameConv1d(1, filters, length), norm_momentum)
            for length, filters in zip(HORIZONTAL_FRAMES, (n, 2 * n, 4 * n, 8 * n), strict=True)
        ]
        self.timbral = nn.ModuleList(timbral if branches != "temporal" else [])
        self.temporal = nn.ModuleList(temporal if branches != "timbral" else [])
        self.out_channels = {"both": 29, "timbral": 14, "temporal": 15}[branches] * n
        self.receptive_samples = self.samples_under(
            (VERTICAL_FRAMES if branches == "timbral" else HORIZONTAL_FRAMES)[0]
        )
        initialise(self)

    def features(self, spectrogram: Tensor) -> Tensor:
        timbral = [timbral_features(spectrogram, layer) for layer in self.timbral]
        loudness = spectrogram.mean(1, keepdim=True)
        temporal = [layer(loudness) for layer in self.temporal]
        return torch.cat(timbral + temporal, dim=1)

    def inference_form(self) -> nn.Module:
        form, bands = super().inference_form(), self.log_mel.num_mels
        # the maximum over the bands comes before the ReLU
        form.timbral = nn.ModuleList(Chain(nn.Sequential(layer, MaxOverBands(bands))) for layer in self.timbral)
        return form


def timbral_features(spectrogram: Tensor, layer: nn.Sequential) -> Tensor:
    """Log-mel B×F×T -> B×C×T: a ``conv_relu_norm`` of vertical filters, then the maximum over all bands."""
    if isinstance(layer, Chain):  # of the inference form
        return layer(spectrogram.unsqueeze(1)).squeeze(2)
    if (
        not fusible(spectrogram, layer)
        or layer[0].weight.shape[0] < FEWEST_FUSED[0]
        or layer[0].weight.numel() < FEWEST_FUSED[1]
    ):
        maps = layer[0](spectrogram.unsqueeze(1))
        if maps.is_cuda and layer.training and not torch.compiler.is_compiling():
            maps = maps.contiguous(memory_format=torch.channels_last)  # see layers.channels_innermost
        # max stores the position; amax searches for it again in the backward pass: a fifth more training time
        return layer[1:](maps).max(dim=2).values
    (batch, bands, _), (height, width) = spectrogram.shape, layer[0].kernel_size
    # a convolution over the bands of each frame, whose channels are the frames under the filter
    padded = F.pad(spectrogram, (width // 2, width // 2))
    frames_BTFC = padded.unfold(2, width, 1).permute(0, 2, 1, 3).contiguous()
    window = Window(bands, height, 1, bands - height + 1)
    weight_KO = layer[0].weight.squeeze(1).flatten(1).t()
    pooled = conv_relu_norm_pool(frames_BTFC.flatten(0, 1), layer, weight_KO, window, pad_to=1)
    return pooled.view(batch, -1, pooled.shape[-1]).transpose(1, 2)
