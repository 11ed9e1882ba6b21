"""Batches of stored features in place of audio, where everything before the head of a network is frozen.

Legend: B patches, H features.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset

from musictag.data.features.patch_features import PatchFeatures
from musictag.data.loading.patch_datasets import CompactTargets, labels
from musictag.data.loading.samplers import EvaluationBatch, TrainBatch
from musictag.data.manifest import Manifest
from musictag.data.random_draws import patch_starts_of_epoch, song_keys


class StoredTrainPatches(Dataset):
    """As TrainPatches, with ``features``, float16 B×H, in place of ``audio``: of a patch drawn among the song's
    consecutive ones."""

    def __init__(self, features: PatchFeatures, songs: Manifest, seed: int) -> None:
        self._features = features
        self._keys = song_keys(songs.song_ids)
        self._targets = CompactTargets(songs)
        self._seed = seed

    def __getitems__(self, batch: TrainBatch) -> dict[str, Tensor]:
        songs, first = batch.songs, self._features.first
        number = first[songs + 1] - first[songs]
        drawn = patch_starts_of_epoch(self._keys[songs], batch.draws, number, 1, self._seed, batch.epoch)
        values = self._features.values[first[songs] + drawn]
        return {"features": torch.from_numpy(values), **labels(batch, self._targets)}


class StoredEvaluationPatches(Dataset):
    """As EvaluationPatches, with ``features``, float16 B×H, in place of ``audio``."""

    def __init__(self, features: PatchFeatures) -> None:
        self._features = features

    def __getitems__(self, batch: EvaluationBatch) -> dict[str, Tensor]:
        number = -(-batch.starts // batch.patch_samples)  # the last patch, aligned to the end, counts as a whole one
        values = self._features.values[self._features.first[batch.songs] + number]
        return {"features": torch.from_numpy(values), "song": torch.from_numpy(batch.songs)}
