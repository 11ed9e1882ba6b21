"""Sampling that shows songs with rare tags more often."""

from __future__ import annotations

from typing import Any

import numpy as np

from musictag.common.errors import MusictagError
from musictag.data.loading.samplers import TrainBatches
from musictag.data.random_draws import epoch_order


class BalancedBatches(TrainBatches):
    """Each song as often as its rarest tag asks for: in proportion to (songs / songs with that tag) to the ``power``.

    Only positives of classification tags count; songs without any appear as often as those with the commonest tag
    alone. An epoch has as many patches as without balance. A song's number of patches in an epoch is its expectation,
    rounded up or down at random. ``power``: 0 (no balance) to 1, where songs of a tag appear equally often for any tag
    if each song has a single tag. Raises MusictagError for another ``power``, and if no tag has a positive.
    """

    def __init__(self, *, power: float = 0.5, **batches: Any) -> None:
        if not 0 <= power <= 1:
            raise MusictagError(f"data.sampler.power={power} must be from 0 to 1")
        super().__init__(**batches)
        classes = [tag.name for tag in self.songs.tags if tag.kind == "classification"]
        weights = np.zeros(len(self.songs))
        for name in classes:
            positive = self.songs.values(name) == 1
            weights[positive] = np.maximum(weights[positive], (len(positive) / max(positive.sum(), 1)) ** power)
        if not weights.any():
            raise MusictagError("BalancedBatches balances classification tags, and no song has one; omit data.sampler")
        weights[weights == 0] = weights[weights > 0].min()
        self._expected = weights / weights.sum() * self.num_patches

    def draw(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        # Systematic sampling: the songs in a random order as intervals of their expected numbers, one after the other;
        # a song gets the whole numbers in its interval.
        order = epoch_order(len(self.songs), self.seed, epoch)
        ends = np.floor(np.cumsum(self._expected[order]) + 1e-6).astype(np.int64)
        ends[-1] = self.num_patches
        counts = np.diff(ends, prepend=0)
        songs = np.repeat(order, counts)
        draws = np.arange(self.num_patches) - np.repeat(ends - counts, counts)
        mixed = epoch_order(self.num_patches, self.seed, epoch)
        return songs[mixed], draws[mixed]
