from __future__ import annotations

from torch import Tensor

from musictag.training.losses import Loss


class Focal(Loss):
    """Cross-entropy that counts what is nearly right less (Lin et al. 2017); ``gamma=0`` is plain cross-entropy."""

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        self.gamma = gamma

    def of_probability(self, probabilities: Tensor, targets: Tensor) -> Tensor:
        p = probabilities.clamp(1e-7, 1 - 1e-7)
        return -((targets - p).abs() ** self.gamma) * (targets * p.log() + (1 - targets) * (1 - p).log())
