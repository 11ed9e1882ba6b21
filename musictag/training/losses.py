"""Training losses for tags of both kinds and with unknown targets. Legend: B patches, S songs, K tags."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Loss(nn.Module, ABC):
    """The mean loss over the entries with a known target; a subclass defines the loss of one entry.

    Targets are in [0, 1]: 0 or 1 for a classification tag, any value for a regression tag.
    """

    @abstractmethod
    def of_probability(self, probabilities: Tensor, targets: Tensor) -> Tensor:
        """The loss of each entry, in the shape of both arguments."""

    def of_logit(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The same from logits; override it if that is more accurate than through a sigmoid."""
        return self.of_probability(logits.sigmoid(), targets)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Loss (scalar, float32) of ``logits`` (B×K) against ``targets`` (B×K in [0, 1], NaN where unknown).

        A batch without any known target has loss 0 and zero gradients, but stays connected to the graph, so that every
        rank of a distributed run has a backward pass. Raises ValueError if the shapes differ.
        """
        return self._mean_over_known(logits, targets, self.of_logit)

    def of_probabilities(self, probabilities: Tensor, targets: Tensor) -> Tensor:
        """The same loss from probabilities: song scores (S×K), averaged over patches."""
        return self._mean_over_known(probabilities, targets, self.of_probability)

    def _mean_over_known(
        self, predictions: Tensor, targets: Tensor, cost: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        if predictions.shape != targets.shape:
            raise ValueError(
                f"predictions {tuple(predictions.shape)} and targets {tuple(targets.shape)} differ in shape"
            )
        with torch.autocast(predictions.device.type, enabled=False):
            known = ~targets.isnan()
            # Masked before the loss, not after it: the gradient of NaN times zero is NaN.
            predictions = predictions.float().where(known, 0.0)
            targets = targets.float().where(known, 0.0)
            return cost(predictions, targets).where(known, 0.0).sum() / known.sum().clamp(min=1)


class BCE(Loss):
    """Cross-entropy through sigmoids, the paper's loss on MagnaTagATune and the Million Song Dataset.

    A regression tag's target is a soft label, and the loss is minimal at the target.
    """

    def of_probability(self, probabilities: Tensor, targets: Tensor) -> Tensor:
        return F.binary_cross_entropy(probabilities, targets, reduction="none")

    def of_logit(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="none")


class MSE(Loss):
    """Squared error of the sigmoid, the paper's loss on 1.2M songs, which has both kinds of tags (section 4)."""

    def of_probability(self, probabilities: Tensor, targets: Tensor) -> Tensor:
        return (probabilities - targets).square()
