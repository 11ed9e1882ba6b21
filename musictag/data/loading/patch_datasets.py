"""Patches for a DataLoader: the main process decides which are in a batch, and workers read their audio.

A batch sampler yields everything that defines a batch, including the epoch, so that workers keep no state that could
become stale. Legend: B patches, S songs, N samples, K tags.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from musictag.data.features.patch_features import PatchFeatures
from musictag.data.loading.prefetch import propagate_errors
from musictag.data.loading.samplers import EvaluationBatch, TrainBatch
from musictag.data.manifest import Manifest
from musictag.data.random_draws import patch_starts_of_epoch, song_keys
from musictag.data.store.store import Store

_UNKNOWN = 2
#: The values that the bytes of CompactTargets stand for.
_LABELS = np.array([0.0, 1.0, np.nan], dtype=np.float32)


class TrainPatches(Dataset):
    """Random patches with their targets: ``audio`` int16 B×N, ``target`` float32 B×K, ``song`` and ``draw`` int64 B,
    as in TrainBatch. With stored features for ``store``, these are ``features``, float16 B×H, in place of ``audio``.

    ``rows`` (int64 S) are the songs' rows in ``store``. The targets of the songs after the first ``labelled`` (default:
    all) are unknown. With ``taught``, a teacher's features and the samples of its patches, batches have ``taught``,
    float16 B×H: of the teacher's patch in which the middle of the patch is.
    """

    def __init__(
        self,
        store: Store | PatchFeatures,
        rows: np.ndarray,
        songs: Manifest,
        patch_samples: int,
        seed: int,
        margin_samples: tuple[int, int] = (0, 0),
        labelled: int | None = None,
        taught: tuple[PatchFeatures, int] | None = None,
    ) -> None:
        self._store = store
        self._rows = rows
        self._keys = song_keys(songs.song_ids)
        self._num_samples = store.num_samples[rows]
        self._targets = CompactTargets(songs, labelled)
        self._patch_samples = patch_samples
        self._seed = seed
        self._margin_samples = margin_samples
        self._taught = taught

    @propagate_errors
    def __getitems__(self, batch: TrainBatch) -> dict[str, Tensor]:
        songs = batch.songs
        starts = patch_starts_of_epoch(
            self._keys[songs], batch.draws, self._num_samples[songs], self._patch_samples, self._seed, batch.epoch
        )
        heard = self._store.patches(self._rows[songs], starts, self._patch_samples, self._margin_samples)
        made = {
            **_named(heard),
            "target": torch.from_numpy(self._targets[songs]),
            "song": torch.from_numpy(songs),
            "draw": torch.from_numpy(batch.draws),
        }
        if self._taught is not None:
            features, size = self._taught
            made["taught"] = torch.from_numpy(features.nearest(songs, starts + self._patch_samples // 2, size))
        return made


def _named(heard: np.ndarray) -> dict[str, Tensor]:
    return {"features" if heard.dtype == np.float16 else "audio": torch.from_numpy(heard)}


class CompactTargets:
    """Targets of S songs, for fast access by song: a byte per classification tag, a float32 per regression tag.

    For a million songs with 139 tags it takes 260 MB, where S×K floats would take 560. Those of the songs after the
    first ``labelled`` (None: all) are unknown.
    """

    def __init__(self, songs: Manifest, labelled: int | None = None) -> None:
        is_class = [tag.kind == "classification" for tag in songs.tags]
        self._classes, self._measures = np.flatnonzero(is_class), np.flatnonzero(np.logical_not(is_class))
        self._labels = np.empty((len(songs), len(self._classes)), dtype=np.uint8)
        self._numbers = np.empty((len(songs), len(self._measures)), dtype=np.float32)
        for number, tag in enumerate(self._classes):
            self._labels[:, number] = np.nan_to_num(songs.values(songs.tags[tag].name), nan=_UNKNOWN)
        for number, tag in enumerate(self._measures):
            self._numbers[:, number] = songs.values(songs.tags[tag].name)
        if labelled is not None:
            self._labels[labelled:], self._numbers[labelled:] = _UNKNOWN, np.nan

    def __getitem__(self, songs: np.ndarray) -> np.ndarray:
        """float32 B×K of the songs at these rows (int64 B), NaN if unknown."""
        targets = np.empty((len(songs), len(self._classes) + len(self._measures)), dtype=np.float32)
        targets[:, self._classes] = _LABELS[self._labels[songs]]
        targets[:, self._measures] = self._numbers[songs]
        return targets


class EvaluationPatches(Dataset):
    """Patches at given positions: ``audio`` int16 B×N, or ``features`` as in TrainPatches, and ``song`` int64 B.

    ``rows`` (int64 S) are the songs' rows in ``store``.
    """

    def __init__(
        self, store: Store | PatchFeatures, rows: np.ndarray, margin_samples: tuple[int, int] = (0, 0)
    ) -> None:
        self._store = store
        self._rows = rows
        self._margin_samples = margin_samples

    @propagate_errors
    def __getitems__(self, batch: EvaluationBatch) -> dict[str, Tensor]:
        heard = self._store.patches(self._rows[batch.songs], batch.starts, batch.patch_samples, self._margin_samples)
        return {**_named(heard), "song": torch.from_numpy(batch.songs)}
