"""Inference with a trained network.

Legend: B patches, N samples, K tags.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from musictag.common.errors import MusictagError
from musictag.common.text import reason
from musictag.inference.embedding import PENULTIMATE, Embedder, layers
from musictag.inference.hub import save_pretrained
from musictag.inference.over_patches import Patches, PatchTagger, Result
from musictag.inference.tagger import Layer
from musictag.models.checkpoint import StoredTagger, check_fit, read_tagger
from musictag.models.factory import check_targets
from musictag.models.inference_form import InferenceForm, check_precision
from musictag.models.network import TaggingNetwork
from musictag.models.pretrained import locate


class NetworkTagger(PatchTagger):
    """Tags songs with ``network``, on the network's device.

    ``precision`` is that of the network's inference form, which is made on first use.

    Raises MusictagError for an unknown precision, and for one that the device lacks.
    """

    def __init__(
        self, network: TaggingNetwork, precision: str = "32-true", facts: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(network.tags, network.sample_rate, facts)
        check_precision(precision, next(network.parameters()).device)
        self._network, self.precision, self.family = network, precision, network.frontend.family
        self.patch_samples, self.margin_samples = network.patch_samples, network.margin_samples
        self._lock, self._made = Lock(), None

    @property
    def network(self) -> TaggingNetwork:
        return self._network

    @property
    def _form(self) -> InferenceForm:
        """The network's inference form, with the weights that it has when it is first used."""
        with self._lock:
            if self._made is None:
                self._made = self.network.inference_form(self.precision)
            return self._made

    def patches(self, hop_samples: int, finish: Callable[[np.ndarray, np.ndarray], Result]) -> Patches[Result]:
        return Patches(self.network, self.scores, hop_samples, finish)

    def save_pretrained(self, folder: str | Path, licence: str | None = None) -> None:
        save_pretrained(self.network, self.facts, self.path, Path(folder), licence)

    def embedder(self, layer: str | None = None) -> Embedder:
        return Embedder(self.network, PENULTIMATE if layer is None else layer, self.precision)

    def layers(self) -> dict[str, Layer]:
        return layers(self.network)[0]

    def scores(self, waveform: Tensor) -> Tensor:
        """Patches with margins, B×N float32 on the network's device -> B×K."""
        return self.network.probabilities(self._form(waveform))


def load_network(
    model: str | os.PathLike, device: str | torch.device = "cpu", trust: Sequence[str] = ()
) -> TaggingNetwork:
    """The network of a tagger, in evaluation mode; arguments and errors as for ``musictag.load``."""
    path = locate(model)
    return build_network(path, read_tagger(path), device, trust)


def build_network(path: Path, stored: StoredTagger, device: str | torch.device, trust: Sequence[str]) -> TaggingNetwork:
    """The network of a tagger that was read from ``path``; the rest as for ``load_network``."""
    try:
        check_targets(stored.spec, trust)
        with torch.device("meta"):  # shapes only: a wrong file must not cost memory
            expected = TaggingNetwork(**stored.spec).state_dict()
        check_fit(expected, stored.state)
        network = TaggingNetwork(**stored.spec)
        network.load_state_dict(stored.state)
    except Exception as error:  # an untrusted spec can make the parts raise almost anything
        what = error if isinstance(error, MusictagError) else f"its tagger cannot be built ({reason(error)})"
        raise MusictagError(f"{path}: {what}") from error
    try:
        return network.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        raise MusictagError(f"device={device} cannot be used here: {error}") from error
