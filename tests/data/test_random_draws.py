"""Random draws for training: the same on every machine, uniform, and nested."""

from __future__ import annotations

import itertools

import numpy as np

from musictag.data.random_draws import epoch_order, patch_starts_of_epoch, song_keys, subset_order


def test_hashes_are_the_same_on_every_machine() -> None:
    keys = song_keys(["a", "b"])
    assert keys.tolist() == [3405396810240292928, 8453121595177857668]
    assert epoch_order(8, seed=1, epoch=2).tolist() == [0, 5, 3, 6, 2, 1, 4, 7]
    starts = patch_starts_of_epoch(keys, np.array([0, 1]), np.array([100000, 50000]), 8000, seed=3, epoch=4)
    assert starts.tolist() == [85727, 1333]


def test_starts_are_uniform_and_reach_both_ends() -> None:
    keys = song_keys(map(str, range(50_000)))
    zeros = np.zeros(len(keys), dtype=np.int64)
    starts = patch_starts_of_epoch(keys, zeros, np.full(len(keys), 149), 100, seed=0, epoch=0)
    counts = np.bincount(starts)
    assert len(counts) == 50
    assert ((counts - 1000) ** 2 / 1000).sum() < 94  # chi-squared with 49 degrees of freedom: exceeded once in 10,000
    assert not patch_starts_of_epoch(keys, zeros, np.full(len(keys), 60), 100, seed=0, epoch=0).any()
    others = [
        patch_starts_of_epoch(keys, zeros + draw, np.full(len(keys), 10**6), 100, seed, epoch)
        for draw, seed, epoch in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    ]
    assert np.abs(np.corrcoef(others) - np.eye(4)).max() < 0.02


def test_every_epoch_has_its_own_order() -> None:
    orders = np.array([epoch_order(500, seed, epoch) for seed in (0, 1) for epoch in range(3)])
    assert (np.sort(orders, axis=1) == np.arange(500)).all()
    assert np.abs(np.corrcoef(orders) - np.eye(6)).max() < 0.2


def test_subsets_are_nested_and_independent_of_other_songs() -> None:
    ids = np.array([f"song {i}" for i in range(300)])
    keys = song_keys(ids)
    for seed in (0, 1):
        subsets = [set(ids[subset_order(keys, seed)[:size]]) for size in (10, 50, 100, 300)]
        assert [len(subset) for subset in subsets] == [10, 50, 100, 300]
        assert all(small < large for small, large in itertools.pairwise(subsets))
    assert set(subset_order(keys, 0)[:50]) != set(subset_order(keys, 1)[:50])
    shuffled = np.random.default_rng(0).permutation(300)[:200]
    order = ids[subset_order(keys, 0)]
    kept = set(ids[shuffled])
    assert ids[shuffled][subset_order(keys[shuffled], 0)].tolist() == [song for song in order if song in kept]


# training
