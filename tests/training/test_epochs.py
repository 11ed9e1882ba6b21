"""The songs of each epoch: shuffled anew, every one as often as the others, another subset for another seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from musictag.data.loading.datamodule import SongDataModule
from musictag.data.loading.samplers import TrainBatches
from tests.helpers.catalogues import ready


def songs_of(data: SongDataModule, epoch: int) -> list[int]:
    """Rows of the training songs in the order in which they are trained on."""
    data.epoch = epoch
    return [song for batch in data.train_dataloader() for song in batch["song"].tolist()]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_every_epoch_shuffles_the_training_songs_anew(tiny_catalogue: Path, num_workers: int) -> None:
    data = ready(tiny_catalogue, patches_per_song=2, num_workers=num_workers)
    epochs = [songs_of(data, epoch) for epoch in range(4)]
    for order in epochs:
        assert sorted(order) == sorted([*range(12), *range(12)])
        assert order != sorted(order)
    assert len(set(map(tuple, epochs))) == 4
    other = ready(tiny_catalogue, patches_per_song=2, seed=1)
    assert songs_of(other, 0) not in epochs


def test_no_place_in_the_table_is_nearer_to_the_beginning_of_an_epoch() -> None:
    """What a batch holds says nothing of where its songs stand in the table, nor of each other."""
    epochs = 300
    places = np.empty((epochs, 40))
    together = np.zeros((40, 40))
    for epoch in range(epochs):
        batches = [batch.songs for batch in TrainBatches(range(40), 1, 8, 5, lambda epoch=epoch: epoch)]
        places[epoch, np.concatenate(batches)] = np.arange(40)
        for songs in batches:
            together[np.ix_(songs, songs)] += 1
    # the mean of 300 places of 40 deviates from 19.5 by 0.67
    assert np.abs(places.mean(axis=0) - 19.5).max() < 4 * 0.67
    # two songs share a batch in 7 of 39 epochs
    pairs = together[np.triu_indices(40, 1)] / epochs
    assert pairs.mean() == pytest.approx(7 / 39)
    assert pairs.max() < 0.3
    assert pairs.min() > 0.07


def test_another_seed_trains_on_other_songs_of_the_same_catalogue(tiny_catalogue: Path) -> None:
    subsets = {frozenset(ready(tiny_catalogue, train_songs=6, seed=seed).song_ids("train")) for seed in range(4)}
    assert len(subsets) == 4
