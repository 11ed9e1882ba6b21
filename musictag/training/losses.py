"""Training losses for tags of both kinds and with unknown targets. Legend: B patches, S songs, K tags."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musictag.common.errors import MusictagError


class Loss(nn.Module, ABC):
    """The mean loss over the entries with a known target; a subclass defines the loss of one entry.

    Targets are in [0, 1]: 0 or 1 for a classification tag, any value for a regression tag. A loss that is not least at
    the target of a regression tag says so by ``for_regression = False``, and is refused where there are any.
    """

    for_regression: ClassVar[bool] = True

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


class SmoothedBCE(BCE):
    """Cross-entropy with smoothed labels (Szegedy et al. 2016): targets of 0 and 1 become ``smoothing`` / 2 and
    1 - ``smoothing`` / 2, so that no logit has to grow without bound. The values of regression tags move likewise.

    Raises MusictagError for a smoothing outside [0, 1).
    """

    def __init__(self, smoothing: float = 0.1) -> None:
        super().__init__()
        if not 0 <= smoothing < 1:
            raise MusictagError(f"loss.smoothing={smoothing} must be at least 0 and below 1")
        self.smoothing = smoothing

    def of_probability(self, probabilities: Tensor, targets: Tensor) -> Tensor:
        return super().of_probability(probabilities, self._smooth(targets))

    def of_logit(self, logits: Tensor, targets: Tensor) -> Tensor:
        return super().of_logit(logits, self._smooth(targets))

    def _smooth(self, targets: Tensor) -> Tensor:
        return targets * (1 - self.smoothing) + self.smoothing / 2


class Focal(BCE):
    """Cross-entropy times the error to the power of ``gamma``: what is right already counts little (Lin et al. 2017).

    For soft targets, too, in the form of Li et al. 2020: the error is |probability - target|, and the loss is least at
    the target. Raises MusictagError for a ``gamma`` below 1, whose gradient is infinite where there is no error.
    """

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        self.gamma = _power("gamma", gamma, 1)

    def of_probability(self, probabilities: Tensor, targets: Tensor) -> Tensor:
        return (probabilities - targets).abs() ** self.gamma * super().of_probability(probabilities, targets)

    def of_logit(self, logits: Tensor, targets: Tensor) -> Tensor:
        return (logits.sigmoid() - targets).abs() ** self.gamma * super().of_logit(logits, targets)


class Asymmetric(Loss):
    """Asymmetric loss (Ridnik et al. 2021): a focal loss with a power of its own for positives and for negatives, in
    which negatives with a probability below ``margin`` cost nothing at all.

    For classification tags alone. Raises MusictagError for powers other than 0 and those from 1, and for a margin
    outside [0, 1).
    """

    for_regression = False

    def __init__(self, gamma_positive: float = 0.0, gamma_negative: float = 4.0, margin: float = 0.05) -> None:
        super().__init__()
        if not 0 <= margin < 1:
            raise MusictagError(f"loss.margin={margin} must be at least 0 and below 1")
        self.gamma_positive = _power("gamma_positive", gamma_positive, 0)
        self.gamma_negative = _power("gamma_negative", gamma_negative, 0)
        self.margin = margin

    def of_probability(self, probabilities: Tensor, targets: Tensor) -> Tensor:
        # torch's cross-entropy bounds the logarithm, and so the cost of a probability of exactly 0 or 1
        positive = F.binary_cross_entropy(input=probabilities, target=torch.ones_like(probabilities), reduction="none")
        return self._both(probabilities, targets, positive)

    def of_logit(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self._both(logits.sigmoid(), targets, -F.logsigmoid(logits))

    def _both(self, probabilities: Tensor, targets: Tensor, positive: Tensor) -> Tensor:
        """``positive``: the cross-entropy of each entry as a positive one."""
        shifted = (probabilities - self.margin).clamp(min=0)
        negative = F.binary_cross_entropy(shifted, torch.zeros_like(shifted), reduction="none")
        return targets * (1 - probabilities) ** self.gamma_positive * positive + (
            (1 - targets) * shifted**self.gamma_negative * negative
        )


def _power(name: str, value: float, least: float) -> float:
    if value < least or 0 < value < 1:
        raise MusictagError(f"loss.{name}={value} must be {'0, or ' if least == 0 else ''}at least 1")
    return value
