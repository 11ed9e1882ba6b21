"""A layer of a tagger whose output can serve as features."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Layer:
    """A module whose output can be embedded.

    ``shape`` is that of its output for one patch, ``channels`` the axis that becomes H (0: first); the others are
    averaged. ``kind`` is the module's class.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    channels: int = 0

    @property
    def size(self) -> int:
        """H."""
        return self.shape[self.channels]

    def vectors(self, output: Tensor) -> Tensor:
        """The module's output for B patches -> B×H float32, copied where a later layer could change it in place."""
        output = output.float()
        return output.clone() if output.ndim == 2 else output.movedim(self.channels + 1, 1).flatten(2).mean(-1)
