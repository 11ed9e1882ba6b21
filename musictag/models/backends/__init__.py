"""Back-ends predict the tags from a front-end's features (section 2 of the paper). One file per family.

A new one needs a subclass of ``BackEnd`` and a file in conf/backend, where the tests find it.
Legend: B patches, C channels, T frames, K tags.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from musictag.common.errors import MusictagError
from musictag.models.inference_form import rearranged

#: Layers are created one by one, however few weights they have, and settings may come from untrusted files.
MAX_LAYERS = 1_000


class BackEnd(nn.Module, ABC):
    """``__init__(in_channels, in_frames, num_tags, ...)``; forward(features: B×C×T) -> logits: B×K.

    The TaggingNetwork computes the three sizes. Must be constructible on torch's ``meta`` device.
    """

    min_frames: int  #: the smallest allowed T
    fixed_length: bool  #: whether T must equal ``in_frames``
    output: nn.Linear  #: the last layer; its input, B×H, are the penultimate features

    #: the layers at its end that are trained where everything before them is frozen, by name and in their order: each
    #: takes what the one before returns, the first of them vectors, B×H
    head: ClassVar[tuple[str, ...]] = ("output",)

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor: ...

    def before_head(self) -> nn.Module:
        """This back-end without its head, as a module that shares everything: B×C×T -> B×H."""
        part = copy.copy(self)
        part._modules = self._modules | {name: nn.Identity() for name in self.head}
        return part

    def inference_form(self) -> nn.Module:
        """As for front-ends; ``output`` remains the last layer."""
        return rearranged(self)


def check_layers(num_layers: int) -> None:
    """Raise MusictagError unless ``num_layers`` lies between 1 and MAX_LAYERS."""
    if not 1 <= num_layers <= MAX_LAYERS:
        raise MusictagError(f"backend.num_layers={num_layers} must lie between 1 and {MAX_LAYERS:,}")
