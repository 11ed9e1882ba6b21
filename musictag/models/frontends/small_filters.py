"""Deep stacks of small square filters, as used for images (section 2 of the paper).

Legend: B patches, F mel bands, C channels, T frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from musictag.common.errors import MusictagError
from musictag.models.frontends.image_base import ImageFrontEnd, Step, check_filters, check_pairs
from musictag.models.layers import BATCH_NORM_MOMENTUM, batch_norm, check_choice, scaled

ACTIVATIONS = {"relu": nn.ReLU, "elu": nn.ELU}


class SmallFilters(ImageFrontEnd):
    """Layers of a 3×3 convolution, padded, then batch norm and activation, max-pooling and dropout.

    Each list has one entry per layer: ``filters``; ``poolings`` and ``strides``, window and stride of the max-pooling
    as [bands, frames] (``strides=None``: equal to the windows); ``dropouts``. ``norm`` places the batch norm ``before``
    or ``after`` the ``activation`` (``relu`` or ``elu``). The remaining bands are flattened into channels: C is the
    last of ``filters`` times their number. Glorot's uniform initialiser, Keras's and TensorFlow's default.

    The defaults are the four layers of Choi, Fazekas & Sandler 2016, *Automatic tagging using deep convolutional neural
    networks* (FCN-4). Other published stacks are files in conf/model: the convolutions of Choi et al. 2017 (crnn),
    *Convolutional recurrent neural networks for music classification*, and the VGG-like baseline (vgg) of Pons & Serra
    2019, *musicnn: pre-trained convolutional neural networks for music audio tagging*. Choi's models work at 12 kHz: at
    16 kHz window and hop have the same duration, and the bands end at 6 kHz, so that 29.1 s are 1366 frames as well.
    Deviations from Choi's code: one batch norm for all bands of the input instead of one for each, and no padding with
    37 frames of zeros.
    """

    def __init__(
        self,
        filters: Sequence[int] = (128, 384, 768, 2048),
        poolings: Sequence[Sequence[int]] = ((2, 4), (4, 5), (3, 8), (4, 8)),
        strides: Sequence[Sequence[int]] | None = None,
        dropouts: Sequence[float] = (0.5, 0.5, 0.5, 0.5),
        activation: str = "relu",
        norm: str = "before",
        filter_multiplier: float = 1.0,
        normalise: str = "batch_norm",
        norm_momentum: float = BATCH_NORM_MOMENTUM,
        **spectrogram,
    ):
        super().__init__(normalise=normalise, norm_momentum=norm_momentum, **spectrogram)
        check_filters(filters)
        windows = check_pairs("poolings", poolings, len(filters))
        hops = windows if strides is None else check_pairs("strides", strides, len(filters))
        if len(dropouts) != len(filters) or not all(0 <= share < 1 for share in dropouts):
            raise MusictagError(
                f"frontend.dropouts is {list(dropouts)}; it needs a number from 0 to less than 1 for each of the "
                f"{len(filters)} layers that frontend.filters has"
            )
        check_choice("frontend.activation", activation, ACTIVATIONS)
        check_choice("frontend.norm", norm, ("before", "after"))
        layers: list[nn.Module] = []
        channels = (1, *scaled(filters, filter_multiplier))
        for (wide_in, wide_out), window, hop, dropout in zip(pairwise(channels), windows, hops, dropouts, strict=True):
            conv = nn.Conv2d(wide_in, wide_out, 3, padding=1)
            nn.init.xavier_uniform_(conv.weight)
            nn.init.zeros_(conv.bias)
            after_conv = [batch_norm(wide_out, norm_momentum, dimensions=2), ACTIVATIONS[activation]()]
            if norm == "after":
                after_conv.reverse()
            layers.append(nn.Sequential(conv, *after_conv, nn.MaxPool2d(window, hop), nn.Dropout(dropout)))
        self.layers = nn.Sequential(*layers)
        band_steps, self.time_steps = (
            tuple(
                step
                for window, hop in zip(windows, hops, strict=True)
                for step in (Step(3, padding=1), Step(window[axis], hop[axis]))
            )
            for axis in (0, 1)
        )
        self.out_channels = channels[-1] * self.bands_after(band_steps, "poolings")

    def features(self, spectrogram: Tensor) -> Tensor:
        return self.layers(spectrogram.unsqueeze(1)).flatten(1, 2)
