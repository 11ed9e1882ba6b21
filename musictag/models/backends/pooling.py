"""Back-ends that pool over time, for input of any length. Legend: B patches, C channels, T frames, K tags."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from musictag.models.backends import BackEnd
from musictag.models.backends.dense import hidden_layers
from musictag.models.layers import check_choice

NORM_EPS = 1e-5  # torch's default, with which the short-chunk model was trained


class Pooling(BackEnd):
    """Pools the frames of a patch into one vector, followed by dense layers: the paper's temporal aggregation.

    ``pooling`` is ``max`` or ``mean`` over time, ``max_mean`` (both), ``attention`` (a weighted mean, with weights
    learned from the frames: Raffel & Ellis 2015) or ``auto`` (between mean and maximum, learned for each channel:
    McFee, Salamon & Bello 2018). The defaults are those of the short-chunk CNN (Won et al. 2020, "Evaluation of
    CNN-based automatic music tagging models"): maximum, 512 units, batch norm, ReLU, dropout. The residual and
    squeeze-and-excitation models of Kim et al. 2018 end in the same way, with 1024 units; they use Keras's batch norm
    with an epsilon of 0.001 instead of 0.00001. Initialised by torch's defaults.

    Variable length: ``in_frames`` is not used; at least two frames if their weights are learned.
    Raises MusictagError for an unknown pooling or for hidden units that are not a list of numbers.
    """

    fixed_length = False

    def __init__(
        self,
        in_channels: int,
        in_frames: int,
        num_tags: int,
        pooling: str = "max",
        hidden_units: Sequence[int] = (512,),
        batch_norm: bool = True,
        dropout: float = 0.5,
        norm_momentum: float = 0.1,
    ):
        super().__init__()
        check_choice("backend.pooling", pooling, POOLINGS)
        self.pool = POOLINGS[pooling](in_channels)
        self.min_frames = self.pool.min_frames
        self.hidden, width = hidden_layers(
            self.pool.out_channels, hidden_units, batch_norm, dropout, norm_momentum, NORM_EPS
        )
        self.output = nn.Linear(width, num_tags)

    def forward(self, features: Tensor) -> Tensor:
        if features.shape[-1] < self.min_frames:
            raise RuntimeError(f"{features.shape[-1]} frames, but this pooling needs {self.min_frames}")
        return self.output(self.hidden(self.pool(features)))


class Max(nn.Module):
    """B×C×T -> B×C: the maximum over time."""

    min_frames = 1

    def __init__(self, channels: int):
        super().__init__()
        self.out_channels = channels

    def forward(self, features: Tensor) -> Tensor:
        return features.amax(-1)


class Mean(Max):
    """B×C×T -> B×C: the mean over time."""

    def forward(self, features: Tensor) -> Tensor:
        return features.mean(-1)


class MaxMean(nn.Module):
    """B×C×T -> B×2C: maximum and mean of each channel, adjacent as in the paper's own back-end."""

    min_frames = 1

    def __init__(self, channels: int):
        super().__init__()
        self.out_channels = 2 * channels

    def forward(self, features: Tensor) -> Tensor:
        return torch.stack([features.amax(-1), features.mean(-1)], dim=-1).flatten(1)


class Attention(nn.Module):
    """B×C×T -> B×C: a mean over time with one weight per frame, the same for all channels.

    A frame's score is tanh of a linear map of its channels; the weights are the softmax of the scores over time. Raffel
    & Ellis 2015, "Feed-forward networks with attention can solve some long-term memory problems".
    """

    min_frames = 2  # a single frame has weight 1 whatever its score: nothing to learn

    def __init__(self, channels: int):
        super().__init__()
        self.out_channels = channels
        self.score = nn.Conv1d(channels, 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        weights = self.score(features).tanh().float().softmax(-1)
        return (weights * features).sum(-1)


class Auto(nn.Module):
    """B×C×T -> B×C: a mean over time with the weights softmax(alpha x), with one learned alpha per channel.

    It starts at 0, the mean (as in the authors' code), and approaches the maximum as alpha grows. McFee, Salamon &
    Bello 2018, "Adaptive pooling operators for weakly labeled sound event detection", pool the probabilities of each
    tag; here features are pooled, so that dense layers may follow. Always float32.
    """

    min_frames = 2  # as in Attention

    def __init__(self, channels: int):
        super().__init__()
        self.out_channels = channels
        self.alpha = nn.Parameter(torch.zeros(channels, 1))

    def forward(self, features: Tensor) -> Tensor:
        features = features.float()
        return (features * (self.alpha * features).softmax(-1)).sum(-1)


POOLINGS = {"max": Max, "mean": Mean, "max_mean": MaxMean, "attention": Attention, "auto": Auto}
