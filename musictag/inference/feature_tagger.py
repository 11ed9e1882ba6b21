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
from musictag.data.audio.decode import AudioSource
from musictag.inference.song_features import FEATURES, Descriptors, SongFeatures, find_features
from musictag.inference.tagger import Layer, SongEmbedder, Tagger, Taggram
from musictag.models.baselines import FeatureModel, check_scores, constant_predictor, read_models
from musictag.models.factory import build, check_targets

_WHAT = "musictag baseline 1"


class FeatureTagger(Tagger):
    """Tags songs from their ``features``, by default the descriptors.

    ``model`` predicts; ``spec`` is the plain dictionary that it was built from. ``fitted`` holds a fitted model for
    each tag, with its ``name`` and ``kind``.
    """

    family = "baseline"

    def __init__(
        self,
        model: FeatureModel,
        spec: Mapping[str, Any],
        fitted: Sequence[dict[str, Any]],
        features: SongFeatures | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.features = features or Descriptors()
        super().__init__(fitted, self.features.sample_rate, facts)
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
        return self.scores(self.features.of(audio)[None])[0]

    def taggram(self, source: AudioSource, hop_seconds: float | None = None) -> Taggram:
        raise MusictagError("a baseline has no taggram: its features describe whole songs. Use tag, or a network")

    def embedder(self, layer: str | None = None) -> SongEmbedder:
        if layer not in (None, FEATURES):
            raise MusictagError(f"a baseline has no layer {layer}; its only layer is {FEATURES}")
        return self.features

    def layers(self) -> dict[str, Layer]:
        return {FEATURES: self.features.layer}

    def save(self, path: str | Path) -> None:
        """Write everything as JSON, atomically: without pickle, so that reading it executes nothing. The network that
        computes the features, if there is one, is copied into the same folder before."""
        content = {"what": _WHAT, "features": list(self.features.names), "baseline": self.spec, "tags": self.fitted}
        write_json(path, content | {"facts": self.facts} | self.features.save(Path(path).parent))


def read_feature_tagger(path: Path, device: str = "cpu", trust: Sequence[str] = ()) -> FeatureTagger:
    """The tagger in the model.json of a finished baseline run; arguments as for ``musictag.load``.

    Raises MusictagError for anything else, for a model whose features differ from those of this version, and for one
    whose features need a network that is not there.
    """
    try:
        content = read_models(path)
    except (OSError, ValueError) as error:
        raise MusictagError(f"{path} is not a model of a baseline, or is damaged: {error}") from error
    if content["what"] != _WHAT:
        raise MusictagError(f"{path} is not a model of a baseline: it was not written by this version of musictag")
    try:
        check_targets(content["baseline"], trust)
        features = find_features(content, path.parent, device, trust)
        if content["features"] != list(features.names):
            raise MusictagError(
                "it was fitted to other features than those of this version of musictag: run the baseline again, or "
                "use the version that fitted it"
            )
        model, facts = build(content["baseline"], FeatureModel), content.get("facts", {})
        tagger = FeatureTagger(model, content["baseline"], content["tags"], features, facts)
        check_scores(tagger.scores, len(features.names))
        return tagger
    except MusictagError as error:
        raise MusictagError(f"{path}: {error}") from error
