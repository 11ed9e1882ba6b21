"""A new head on a frozen network. Legend: B patches, C channels, T frames, K tags, H features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from musictag.models.backends import BackEnd
from musictag.models.backends.dense import hidden_layers
from musictag.models.factory import build
from musictag.models.layers import BATCH_NORM_MOMENTUM, initialise


class Probe(BackEnd):
    """The frozen penultimate features of another back-end, and a small classifier on them.

    ``body`` is the specification of that back-end, whose own last layer is not used. The features are normalised
    without learned parameters (batch norm without scale and shift), followed by ``hidden_units`` (none: a linear probe)
    and the output. A probe measures what the features contain, as in linear evaluation of self-supervised models.
    """

    head: ClassVar[tuple[str, ...]] = ("norm", "hidden", "output")

    def __init__(
        self,
        in_channels: int,
        in_frames: int,
        num_tags: int,
        body: Mapping[str, Any],
        hidden_units: Sequence[int] = (),
        dropout: float = 0.0,
        norm_momentum: float = BATCH_NORM_MOMENTUM,
    ):
        super().__init__()
        self.body: BackEnd = build(body, BackEnd, in_channels=in_channels, in_frames=in_frames, num_tags=1)
        width = self.body.output.in_features
        self.body.output = nn.Identity()
        self.body.requires_grad_(False).eval()
        self.min_frames, self.fixed_length = self.body.min_frames, self.body.fixed_length
        self.norm = nn.BatchNorm1d(width, momentum=norm_momentum, affine=False)
        self.hidden, width = hidden_layers(width, hidden_units, bool(hidden_units), dropout, norm_momentum)
        self.output = nn.Linear(width, num_tags)
        initialise(self.hidden), initialise(self.output)

    def forward(self, features: Tensor) -> Tensor:
        return self.output(self.hidden(self.norm(self.body(features))))

    def before_head(self) -> nn.Module:
        return self.body

    def train(self, mode: bool = True) -> Probe:
        """Training mode for the probe only: the body's batch norms and dropout stay in evaluation mode."""
        super().train(mode)
        self.body.eval()
        return self
