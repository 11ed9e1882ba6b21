"""The training loss, over tags of both kinds and with unknown targets. Legend: B patches, S songs, K tags."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musictag.errors import MusictagError

KINDS = ("bce", "mse")


class Objective(nn.Module):
    """Mean loss over the entries whose target is known.

    ``"bce"``: cross-entropy through sigmoids, the paper's loss on MagnaTagATune and the Million Song Dataset; a
    regression tag's target in [0, 1] is a soft label, and the loss is least at the target. ``"mse"``: squared error of
    the sigmoid, the paper's loss on 1.2M songs, where both kinds of tags stand side by side (section 4).

    Raises MusictagError for any other ``kind``.
    """

    def __init__(self, kind: str = "bce") -> None:
        super().__init__()
        if kind not in KINDS:
            raise MusictagError(f"there is no objective {kind!r}: choose one of {', '.join(KINDS)}")
        self.kind = kind

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Loss (scalar, float32) of ``logits`` (B×K) against ``targets`` (B×K in [0, 1], NaN where unknown).

        A batch without any known target costs 0 and moves nothing, but stays connected to the graph, so that every rank
        of a distributed run has a backward pass. Raises ValueError where the shapes differ.
        """
        return self._mean_over_known(logits, targets, probabilities=False)

    def of_probabilities(self, probabilities: Tensor, targets: Tensor) -> Tensor:
        """The same loss of what already is a probability: song scores (S×K), averaged over patches."""
        return self._mean_over_known(probabilities, targets, probabilities=True)

    def _mean_over_known(self, predictions: Tensor, targets: Tensor, probabilities: bool) -> Tensor:
        if predictions.shape != targets.shape:
            raise ValueError(
                f"predictions {tuple(predictions.shape)} and targets {tuple(targets.shape)} differ in shape"
            )
        with torch.autocast(predictions.device.type, enabled=False):
            known = ~targets.isnan()
            # Emptied before the loss, not after it: the gradient of a NaN times zero is still a NaN.
            predictions = predictions.float().where(known, 0.0)
            targets = targets.float().where(known, 0.0)
            if self.kind == "mse":
                loss = ((predictions if probabilities else predictions.sigmoid()) - targets).square()
            elif probabilities:
                loss = F.binary_cross_entropy(predictions, targets, reduction="none")
            else:
                loss = F.binary_cross_entropy_with_logits(predictions, targets, reduction="none")
            return loss.where(known, 0.0).sum() / known.sum().clamp(min=1)

    def extra_repr(self) -> str:
        return f"kind={self.kind!r}"
