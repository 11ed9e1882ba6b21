"""Inference with a trained network: songs are cut into patches, and a song's score is the mean over them.

Legend: B patches, N samples, K tags.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from musictag.common.errors import MusictagError
from musictag.common.text import reason
from musictag.data.audio.read import AudioSource
from musictag.inference.embedding import PENULTIMATE, Embedder, layers
from musictag.inference.hub import save_pretrained
from musictag.inference.layers import Layer
from musictag.inference.many_songs import one_result
from musictag.inference.over_patches import Patches, over_patches
from musictag.inference.tagger import Tagger, Taggram
from musictag.models.checkpoint import StoredTagger, check_fit, read_tagger
from musictag.models.factory import check_targets
from musictag.models.inference_form import InferenceForm, check_precision
from musictag.models.network import TaggingNetwork
from musictag.models.pretrained import locate


class NetworkTagger(Tagger):
    """Tags songs with ``network``, on the network's device.

    A song's score is the mean over its patches (section 2 of the paper); a song shorter than a patch is repeated to
    fill it. ``precision`` is that of the network's inference form, which is made on first use.

    Raises MusictagError for an unknown precision, and for one that the device lacks.
    """

    def __init__(
        self, network: TaggingNetwork, precision: str = "32-true", facts: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(network.tags, network.sample_rate, facts)
        check_precision(precision, next(network.parameters()).device)
        self._network, self.precision = network, precision
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

    def predict_song(self, audio: np.ndarray) -> np.ndarray:
        return over_patches(self.network, self.scores, audio, self.network.patch_samples)[1].mean(axis=0)

    def work(self) -> Patches[np.ndarray]:
        return Patches(self.network, self.scores, self.network.patch_samples, lambda _, rows: rows.mean(axis=0))

    def taggram(self, source: AudioSource, hop_seconds: float | None = None) -> Taggram:
        hop_seconds = self.network.patch_seconds if hop_seconds is None else hop_seconds
        hop_samples = round(hop_seconds * self.sample_rate) if math.isfinite(hop_seconds) else 0
        if hop_samples < 1:
            raise MusictagError(f"hop_seconds={hop_seconds}; it must be at least one sample, {1 / self.sample_rate} s")
        patches = Patches(self.network, self.scores, hop_samples, lambda starts, rows: (starts, rows))
        starts, scores = one_result(patches, source, self.sample_rate)
        return Taggram(times=starts / self.sample_rate, tags=self.tag_names, scores=scores)

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
