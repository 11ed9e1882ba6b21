"""Random draws for training as pure functions of a seed: stateless, so a resumed run draws the same.

Numbers come from a counter-based hash (the finaliser of SplitMix64, Steele et al. 2014) of 64-bit integers, vectorised,
the same on every machine and under every version of NumPy. Legend: S songs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

# one stream of numbers per purpose
_ORDER, _START, _SUBSET, _NOISE, _AUGMENTATION = 1, 2, 3, 4, 16


def song_keys(song_ids: Iterable[str]) -> np.ndarray:
    """One uint64 per song, from its identifier alone: a song's draws do not depend on the other songs."""
    digests = b"".join(hashlib.blake2b(str(song_id).encode(), digest_size=8).digest() for song_id in song_ids)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def epoch_order(num_items: int, seed: int, epoch: int) -> np.ndarray:
    """The order of ``num_items`` items in an epoch: a permutation, int64."""
    return np.argsort(_hash(_ORDER, seed, epoch, np.arange(num_items, dtype=np.uint64)), kind="stable")


def endless_order(num_items: int, seed: int, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The places ``first`` ... ``first + count - 1`` of an endless row of permutations of ``num_items`` items.

    The item at each place, and the number of its permutation: both int64. Permutation p is ``epoch_order`` of epoch p.
    """
    permutations = np.arange(first // num_items, (first + count - 1) // num_items + 1)
    hashes = _hash(_ORDER, seed, permutations[:, None], np.arange(num_items, dtype=np.uint64))
    items, start = np.argsort(hashes, kind="stable").ravel(), first - permutations[0] * num_items
    return items[start : start + count], np.repeat(permutations, num_items)[start : start + count]


def patch_starts_of_epoch(
    keys: np.ndarray, draws: np.ndarray, num_samples: np.ndarray, patch_samples: int, seed: int, epoch: int
) -> np.ndarray:
    """First sample of the patch for each song's (``keys``, uint64 S) ``draws``-th occurrence in an epoch.

    int64 S, uniform over 0 ... num_samples - patch_samples, both included; 0 in songs shorter than a patch.
    """
    choices = np.maximum(np.asarray(num_samples, dtype=np.int64) - patch_samples, 0) + 1
    # the upper 53 bits as a fraction in [0, 1), exact in float64
    fraction = (_hash(_START, seed, epoch, keys, draws) >> np.uint64(11)) * 2.0**-53
    return (fraction * choices).astype(np.int64)


def subset_order(keys: np.ndarray, seed: int) -> np.ndarray:
    """Rows of the songs (``keys``, uint64 S) in the order in which growing subsets include them: int64 S.

    The first n are the subset of n songs: it is part of every larger one with the same seed, and adding or removing a
    song changes no other songs' order. The scaling study needs both.
    """
    # on equal hashes the key itself decides, whatever the order of the rows
    return np.lexsort((keys, _hash(_SUBSET, seed, keys)))


def augmentation_draws(name: str, keys: np.ndarray, draws: np.ndarray, seed: int, epoch: int, count: int) -> np.ndarray:
    """``count`` numbers, uniform in [0, 1), for each patch of a batch: float32 B×count, multiples of 2⁻²⁴.

    ``keys`` (uint64 B) and ``draws`` (B) as for ``patch_starts_of_epoch``: a patch has the same numbers in any batch.
    ``name``: of the augmentation that uses them; two augmentations have different numbers.
    """
    parts = song_keys([name]), keys[:, None], draws[:, None], np.arange(count)
    return (_hash(_AUGMENTATION, seed, epoch, *parts) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def noise_seed(seed: int, epoch: int, batch: int, rank: int) -> int:
    """Seeds torch's generator for one batch of one process, so that dropout is the same in a resumed epoch."""
    return _hash(_NOISE, seed, epoch, batch, rank).item() >> 1


def _hash(*parts: int | np.ndarray) -> np.ndarray:
    """uint64, one for each element of the parts broadcast together; every part changes all bits."""
    state = np.zeros(1, dtype=np.uint64)
    for part in parts:
        value = np.asarray(part if isinstance(part, np.ndarray) else part % 2**64).astype(np.uint64)
        state = _mix((state ^ value) + np.uint64(0x9E3779B97F4A7C15))
    return state


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
