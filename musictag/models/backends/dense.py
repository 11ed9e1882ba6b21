"""A back-end of dense layers for patches of one length. Legend: B patches, C channels, T frames, K tags, H units."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from musictag.common.errors import MusictagError
from musictag.models.backends import BackEnd
from musictag.models.layers import BATCH_NORM_EPS, BATCH_NORM_MOMENTUM, initialise
from musictag.models.layers import batch_norm as normalise


class Dense(BackEnd):
    """All channels of all frames as one vector of C·T numbers, then dense layers: the paper's feed-forward back-end.

    By default 100 rectified units, neither batch norm nor dropout, as in Dieleman & Schrauwen 2014, "End-to-end
    learning for music audio". Without hidden units the output layer sees the features directly: the end of musicnn's
    vgg and of Choi et al. 2016 (without dropout there). With 512 normalised units it is the last layer of SampleCNN
    (Lee et al. 2017), a convolution of width 1 on its only frame. He's initialiser, as in other back-ends.

    Fixed length: T must be ``in_frames``. Raises MusictagError for hidden units that are not a list of numbers.
    """

    min_frames = 1
    fixed_length = True

    def __init__(
        self,
        in_channels: int,
        in_frames: int,
        num_tags: int,
        hidden_units: Sequence[int] = (100,),
        batch_norm: bool = False,
        dropout: float = 0.0,
        norm_momentum: float = BATCH_NORM_MOMENTUM,
    ):
        super().__init__()
        self.hidden, width = hidden_layers(in_channels * in_frames, hidden_units, batch_norm, dropout, norm_momentum)
        self.output = nn.Linear(width, num_tags)
        initialise(self)

    def forward(self, features: Tensor) -> Tensor:
        return self.output(self.hidden(features.flatten(1)))


def hidden_layers(
    in_units: int,
    hidden_units: Sequence[int],
    batch_norm: bool,
    dropout: float,
    norm_momentum: float,
    norm_eps: float = BATCH_NORM_EPS,
) -> tuple[nn.Sequential, int]:
    """The layers between a vector and the output, B×in_units -> B×H, and H.

    For each of ``hidden_units``: dense, batch norm (optional), ReLU, dropout. Without any, only dropout, so that there
    is dropout before the output in either case. Raises MusictagError for settings of another kind.
    """
    if not isinstance(hidden_units, list | tuple) or not all(_is_count(units) for units in hidden_units):
        raise MusictagError(
            f"backend.hidden_units={hidden_units} must be a list of numbers from 1 on, one per layer; use for example "
            f"backend.hidden_units=[512], or backend.hidden_units=[] for none"
        )
    if not isinstance(batch_norm, bool):
        raise MusictagError(f"backend.batch_norm is {batch_norm!r}; allowed: true, false")
    layers: list[nn.Module] = []
    for units in hidden_units:
        layers.append(nn.Linear(in_units, units))
        if batch_norm:
            layers.append(normalise(units, norm_momentum, eps=norm_eps))
        layers += [nn.ReLU(), nn.Dropout(dropout)]
        in_units = units
    return nn.Sequential(*(layers or [nn.Dropout(dropout)])), in_units


def _is_count(units: object) -> bool:
    return isinstance(units, int) and not isinstance(units, bool) and units >= 1
