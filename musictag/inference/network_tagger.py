"""Inference with a trained network: songs are cut into patches, and a song's score is the mean over them.

Legend: B patches, N samples, K tags.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from torch import Tensor

from musictag.common.errors import MusictagError
from musictag.data.audio.read import AudioSource
from musictag.inference.embedding import PENULTIMATE, Embedder, layers
from musictag.inference.hub import save_pretrained
from musictag.inference.layers import Layer
from musictag.inference.over_patches import over_patches
from musictag.inference.tagger import Tagger, Taggram
from musictag.models.inference_form import InferenceForm, check_precision
from musictag.models.network import TaggingNetwork


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
        self.network, self.precision = network, precision
        self._lock, self._made = Lock(), None

    @property
    def _form(self) -> InferenceForm:
        """The network's inference form, with the weights that it has when it is first used."""
        with self._lock:
            if self._made is None:
                self._made = self.network.inference_form(self.precision)
            return self._made

    def predict_song(self, audio: np.ndarray) -> np.ndarray:
        return over_patches(self.network, self._scores, audio, self.network.patch_samples)[1].mean(axis=0)

    def taggram(self, source: AudioSource, hop_seconds: float | None = None) -> Taggram:
        hop_seconds = self.network.patch_seconds if hop_seconds is None else hop_seconds
        hop_samples = round(hop_seconds * self.sample_rate) if math.isfinite(hop_seconds) else 0
        if hop_samples < 1:
            raise MusictagError(f"hop_seconds={hop_seconds}; it must be at least one sample, {1 / self.sample_rate} s")
        starts, scores = over_patches(self.network, self._scores, self.read(source), hop_samples)
        return Taggram(times=starts / self.sample_rate, tags=self.tag_names, scores=scores)

    def save_pretrained(self, folder: str | Path, licence: str | None = None) -> None:
        save_pretrained(self.network, self.facts, self.path, Path(folder), licence)

    def embedder(self, layer: str | None = None) -> Embedder:
        return Embedder(self.network, PENULTIMATE if layer is None else layer, self.precision)

    def layers(self) -> dict[str, Layer]:
        return layers(self.network)[0]

    def _scores(self, waveform: Tensor) -> Tensor:
        return self.network.probabilities(self._form(waveform))
