"""A layer of a tagger whose output can be taken as features."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Layer:
    """A module whose output can be embedded.

    ``shape`` is what it makes of one patch, ``channels`` says which axis of that is H (0: first); the mean is taken
    over the others. ``kind`` is the module's class.
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
        """What the module returned for B patches -> B×H float32, apart from what may still be changed in place."""
        output = output.float()
        return output.clone() if output.ndim == 2 else output.movedim(self.channels + 1, 1).flatten(2).mean(-1)
