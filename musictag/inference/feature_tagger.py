"""Inference with a fitted baseline: features of the whole song, and one model per tag.

Legend: S songs, N samples, K tags, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musictag.common.errors import MusictagError
from musictag.common.files import write_json
from musictag.data.audio.decode import to_float
from musictag.data.audio.read import AudioSource
from musictag.data.features.descriptors import SAMPLE_RATE, feature_names, song_features
from musictag.inference.layers import Layer
from musictag.inference.tagger import SongEmbedder, Tagger, Taggram
from musictag.models.baselines import FeatureModel, check_scores, constant_predictor, read_models
from musictag.models.factory import build, check_targets

_WHAT = "musictag baseline 1"
_LAYER = "features"


class FeatureTagger(Tagger):
    """Tags songs from their audio features.

    ``model`` predicts; ``spec`` is the plain dictionary that it was built from. ``fitted`` holds a fitted model for
    each tag, with its ``name`` and ``kind``.
    """

    def __init__(
        self,
        model: FeatureModel,
        spec: Mapping[str, Any],
        fitted: Sequence[dict[str, Any]],
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(fitted, SAMPLE_RATE, facts)
        self.model = model
        self.spec = dict(spec)
        self.fitted = list(fitted)
        self._predictors = [
            constant_predictor(tag) if "constant" in tag else model.predictor(tag, tag["kind"]) for tag in fitted
        ]

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Scores in [0, 1], float32 S×K, of songs with these features, S×D."""
        return np.stack([predict(features) for predict in self._predictors], axis=1).astype(np.float32)

    def predict_song(self, audio: np.ndarray) -> np.ndarray:
        return self.scores(_features(audio)[None])[0]

    def taggram(self, source: AudioSource, hop_seconds: float | None = None) -> Taggram:
        raise MusictagError("a baseline has no taggram: its features describe whole songs. Use tag, or a network")

    def embedder(self, layer: str | None = None) -> SongEmbedder:
        if layer not in (None, _LAYER):
            raise MusictagError(f"a baseline has no layer {layer}; its only layer is {_LAYER}")
        return _FeatureEmbedder(self)

    def layers(self) -> dict[str, Layer]:
        return {_LAYER: Layer(_LAYER, "features of the whole song", (len(feature_names()),))}

    def save(self, path: str | Path) -> None:
        """Write everything as JSON, atomically: without pickle, so that reading it executes nothing."""
        content = {"what": _WHAT, "features": list(feature_names()), "baseline": self.spec, "tags": self.fitted}
        write_json(path, content | {"facts": self.facts})


class _FeatureEmbedder(SongEmbedder):
    """The features of songs; each song is a single patch."""

    patch_seconds = None

    def __init__(self, tagger: FeatureTagger) -> None:
        self.layer = tagger.layers()[_LAYER]
        self.sample_rate = tagger.sample_rate

    def embed_patches(self, audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(1), _features(audio)[None].astype(np.float32)


def _features(audio: np.ndarray) -> np.ndarray:
    return song_features(to_float(audio), SAMPLE_RATE)


def read_feature_tagger(path: Path, trust: Sequence[str] = ()) -> FeatureTagger:
    """The tagger in the model.json of a finished baseline run; ``trust`` as for ``musictag.load``.

    Raises MusictagError for anything else, and for a model whose features differ from those of this version.
    """
    try:
        content = read_models(path)
    except (OSError, ValueError) as error:
        raise MusictagError(f"{path} is not a model of a baseline, or is damaged: {error}") from error
    if content["what"] != _WHAT:
        raise MusictagError(f"{path} is not a model of a baseline: it was not written by this version of musictag")
    if content["features"] != list(feature_names()):
        raise MusictagError(
            f"{path} was fitted to other features than those of this version of musictag: run the baseline again, or "
            "use the version that fitted it"
        )
    try:
        check_targets(content["baseline"], trust)
        model, facts = build(content["baseline"], FeatureModel), content.get("facts", {})
        tagger = FeatureTagger(model, content["baseline"], content["tags"], facts)
        check_scores(tagger.scores, len(feature_names()))
        return tagger
    except MusictagError as error:
        raise MusictagError(f"{path}: {error}") from error
