"""Features of whole songs, for models without audio input: descriptors, or the mean of what a trained network computes.

Legend: S songs, N samples, D features.
"""

from __future__ import annotations

import os
import re
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musictag.common.errors import MusictagError
from musictag.common.files import atomic_write
from musictag.common.text import excerpt
from musictag.data.audio.decode import to_float
from musictag.data.features.cache import stored_features
from musictag.data.features.descriptors import SAMPLE_RATE, feature_digest, feature_names, song_features
from musictag.data.features.patch_features import PatchFeatures, rounded, stored_patch_features
from musictag.data.store.store import Store
from musictag.inference.embedding import PENULTIMATE, Embedder
from musictag.inference.network_tagger import load_network
from musictag.inference.tagger import Layer, SongEmbedder
from musictag.models.pretrained import PRETRAINED, cached, digest, locate

FEATURES = "features"  #: the only layer of a baseline


class SongFeatures(SongEmbedder):
    """Songs -> D numbers for the whole of each, with ``names``."""

    patch_seconds = None
    names: tuple[str, ...]

    @property
    def layer(self) -> Layer:
        return Layer(FEATURES, "features of the whole song", (len(self.names),))

    @abstractmethod
    def of(self, audio: np.ndarray) -> np.ndarray:
        """A song, mono int16 N at ``sample_rate`` -> D float32."""

    def embed_patches(self, audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(1), self.of(audio)[None]

    @abstractmethod
    def stored(self, store: Store, song_ids: np.ndarray, workers: int) -> np.ndarray:
        """The same of prepared songs, S×D, computed once and kept beside their audio."""

    def save(self, folder: Path) -> dict[str, Any]:
        """What a model must say of its features, ready for JSON; what else they need is put into ``folder``."""
        return {}


class Descriptors(SongFeatures):
    """The descriptors of musictag/data/features/descriptors.py."""

    def __init__(self) -> None:
        self.names, self.sample_rate = feature_names(), SAMPLE_RATE

    def of(self, audio: np.ndarray) -> np.ndarray:
        return song_features(to_float(audio), SAMPLE_RATE)

    def stored(self, store: Store, song_ids: np.ndarray, workers: int) -> np.ndarray:
        return stored_features(store, song_ids, workers)


class NetworkFeatures(SongFeatures):
    """The mean over a song's patches of what ``layer`` of ``model`` (see ``musictag.load``; a network) returns.

    Raises MusictagError for other models, and for a layer that it does not have.
    """

    def __init__(
        self, model: str | Path, layer: str | None = None, device: str = "cpu", trust: Sequence[str] = ()
    ) -> None:
        self._model, self._path = str(model), network_file(model)
        self._embedder = Embedder(load_network(self._path, device, trust), layer or PENULTIMATE)
        self.sample_rate, found = self._embedder.sample_rate, self._embedder.layer
        self.names = tuple(f"{found.name} {number}" for number in range(found.size))

    def of(self, audio: np.ndarray) -> np.ndarray:
        values = rounded(self._embedder.embed_patches(audio)[1])  # as it is stored: trees compare numbers
        return PatchFeatures(values, np.array([0, len(values)])).song_means()[0]

    def stored(self, store: Store, song_ids: np.ndarray, workers: int) -> np.ndarray:
        return stored_patch_features(store, song_ids, self._embedder).song_means()

    def save(self, folder: Path) -> dict[str, Any]:
        known = {"model": self._model, "sha256": digest(self._path), "layer": self._embedder.layer.name}
        with atomic_write(folder / file_beside(known["sha256"])) as file:
            file.write(self._path.read_bytes())
        return {"network": known}


def network_file(model: str | Path) -> Path:
    """The file of ``model``; raises MusictagError unless it is that of a network."""
    path = locate(os.path.expanduser(model))
    if path.suffix == ".json":
        raise MusictagError(f"baseline.features={model} is no network; use the tagger.safetensors of a run, or a name")
    return path


def features_digest(model: str | None) -> str:
    """Identifies the features of a baseline with ``baseline.features=model``."""
    return feature_digest() if model is None else digest(network_file(model))


def file_beside(sha256: str) -> str:
    """The name of the network's file beside the models that need its features."""
    return f"features-{sha256[:8]}.safetensors"


def find_features(content: dict[str, Any], folder: Path, device: str, trust: Sequence[str]) -> SongFeatures:
    """The features that a model.json in ``folder`` needs, which may be untrusted: of a file beside it, or of a
    pretrained model, by name. Raises MusictagError if neither has the weights that it was fitted to."""
    if (known := content.get("network")) is None:
        return Descriptors()
    if not isinstance(known, dict) or not all(isinstance(known.get(key), str) for key in ("model", "sha256", "layer")):
        raise MusictagError(f"its features are damaged: {excerpt(known)}")
    if not re.fullmatch("[0-9a-f]{64}", wanted := known["sha256"]):
        raise MusictagError(f"its features are damaged: {excerpt(wanted)} is no SHA-256")
    name, places = excerpt(known["model"]), [folder / file_beside(wanted)]
    if known["model"] in PRETRAINED:
        places.append(cached(known["model"]))
    for place in places:
        if place.is_file() and digest(place) == wanted:
            return NetworkFeatures(place, known["layer"], device, trust)
    raise MusictagError(
        f"it needs the features of {name} with SHA-256 {wanted}, and {file_beside(wanted)} is not beside it, or is "
        "another file; copy it from the folder of the run"
        + (f", or run: musictag pretrained {known['model']}" if known["model"] in PRETRAINED else "")
    )
