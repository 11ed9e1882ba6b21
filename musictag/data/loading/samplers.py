"""Batch samplers: which patches of which songs make a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from musictag.common.errors import MusictagError
from musictag.data.audio.patches import patch_starts
from musictag.data.manifest import Manifest
from musictag.data.random_draws import endless_order, epoch_order


class TrainBatch(NamedTuple):
    """``songs`` (int64 B) are rows of the training split; ``draws`` (int64 B) count a song's patches in the epoch."""

    epoch: int
    songs: np.ndarray
    draws: np.ndarray


class EvaluationBatch(NamedTuple):
    """``songs`` and ``starts`` are int64 B: rows of the split, and first samples."""

    songs: np.ndarray
    starts: np.ndarray
    patch_samples: int


class TrainBatches:
    """The batches of an epoch for one of ``world`` processes, a pure function of (seed, epoch).

    Every song occurs ``patches_per_song`` times. With ``patches_per_epoch``, which excludes another number than 1 of
    these, an epoch has that many patches, however many songs there are: the songs follow one another in an endless row
    of permutations, of which each epoch takes the next part, so that all of them are seen equally often. A subclass
    decides otherwise by overriding ``draw``.

    ``batch_size`` counts the patches of all processes together: batch b of each process is its interleaved share of the
    global batch b, so that a step sees the same patches on any number of processes. An incomplete last batch is dropped
    in this epoch. If there are fewer patches than one batch, they make a single smaller batch (of equal shares).

    ``epoch`` is called whenever an epoch begins, and ``first_batch`` for its first batch: an interrupted epoch resumes
    where it was. Raises MusictagError if ``batch_size`` cannot be shared equally, if there are fewer patches than
    processes, and if ``patches_per_epoch`` is not a number of whole batches.
    """

    def __init__(
        self,
        songs: Manifest,
        patches_per_song: int,
        batch_size: int,
        seed: int,
        epoch: Callable[[], int],
        rank: int = 0,
        world: int = 1,
        first_batch: Callable[[int], int] = lambda epoch: 0,
        patches_per_epoch: int | None = None,
    ) -> None:
        check_patches(patches_per_song, patches_per_epoch, batch_size)
        if batch_size % world:
            raise MusictagError(
                f"batch_size={batch_size} is shared by {world} processes: use a multiple of {world}, "
                f"for example {max(batch_size // world, 1) * world}"
            )
        self.songs = songs
        self.seed = seed
        self.patches_per_song = patches_per_song
        self.patches_per_epoch = patches_per_epoch
        self.num_patches = patches_per_epoch or len(songs) * patches_per_song
        self._global_batch = min(batch_size, self.num_patches // world * world)
        if not self._global_batch:
            raise MusictagError(f"{self.num_patches} training patches per epoch are too few for {world} processes")
        self._epoch = epoch
        self._first_batch = first_batch
        self._rank = rank
        self._world = world

    def draw(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The ``num_patches`` patches of an epoch, of all processes, in their order: ``songs`` and ``draws`` as in
        TrainBatch. Must be a pure function of ``seed`` and ``epoch``, so that a resumed run draws the same. A song with
        the same draw twice is the same patch twice."""
        if self.patches_per_epoch is None:
            return np.divmod(epoch_order(self.num_patches, self.seed, epoch), self.patches_per_song)
        first = epoch * self.num_patches
        songs, permutations = endless_order(len(self.songs), self.seed, first, self.num_patches)
        return songs, permutations - permutations[0]  # a permutation has each song once

    def __len__(self) -> int:
        return self.num_patches // self._global_batch

    def __iter__(self) -> Iterator[TrainBatch]:
        epoch = self._epoch()
        songs, draws = self.draw(epoch)
        if not len(songs) == len(draws) == self.num_patches:
            raise MusictagError(
                f"{type(self).__qualname__}.draw must return {self.num_patches} songs and draws (num_patches); it "
                f"returned {len(songs)} and {len(draws)}"
            )
        for number in range(self._first_batch(epoch), len(self)):
            first = number * self._global_batch
            share = slice(first + self._rank, first + self._global_batch, self._world)
            yield TrainBatch(epoch, songs[share], draws[share])


def check_patches(patches_per_song: int, patches_per_epoch: int | None, batch_size: int) -> None:
    """Raise MusictagError for numbers of patches that exclude each other, and for an epoch with part of a batch."""
    if patches_per_epoch is None:
        return
    if patches_per_song != 1:
        raise MusictagError(
            f"patches_per_epoch={patches_per_epoch} and patches_per_song={patches_per_song} both say how many patches "
            "an epoch has; use data.patches_per_song=1 with the first, or data.patches_per_epoch=null with the second"
        )
    if rest := patches_per_epoch % batch_size:
        sizes = [size for size in (patches_per_epoch - rest, patches_per_epoch - rest + batch_size) if size]
        raise MusictagError(
            f"patches_per_epoch={patches_per_epoch} is not a number of whole batches of batch_size={batch_size}; use "
            f"data.patches_per_epoch={' or '.join(map(str, sizes))}"
        )


def evaluation_batches(
    num_samples: np.ndarray,
    patch_samples: int,
    batch_size: int,
    whole_songs: bool = False,
    rank: int = 0,
    world: int = 1,
) -> list[EvaluationBatch]:
    """All patches of this process's songs, each once: song s belongs to process s mod ``world``, without padding.

    ``num_samples`` (int64 S) are the songs' lengths. With ``whole_songs``, a song is one patch of its own length (at
    least ``patch_samples``); songs of equal length share a batch, of at most ``batch_size * patch_samples`` samples.

    Raises MusictagError for a process that would have no song.
    """
    if len(num_samples) < world:
        raise MusictagError(f"{len(num_samples)} songs cannot be evaluated by {world} processes: use fewer devices")
    songs = np.arange(rank, len(num_samples), world, dtype=np.int64)
    divided = _whole_songs if whole_songs else _consecutive_patches
    return divided(songs, num_samples[songs], patch_samples, batch_size)


def _consecutive_patches(
    songs: np.ndarray, num_samples: np.ndarray, patch_samples: int, batch_size: int
) -> list[EvaluationBatch]:
    starts_by_song = [patch_starts(int(length), patch_samples) for length in num_samples]
    song = np.repeat(songs, [len(starts) for starts in starts_by_song])
    starts = np.concatenate(starts_by_song)
    return [
        EvaluationBatch(song[i : i + batch_size], starts[i : i + batch_size], patch_samples)
        for i in range(0, len(song), batch_size)
    ]


def _whole_songs(
    songs: np.ndarray, num_samples: np.ndarray, patch_samples: int, batch_size: int
) -> list[EvaluationBatch]:
    batches = []
    lengths = np.maximum(num_samples, patch_samples)
    for length in np.unique(lengths).tolist():
        equal = songs[lengths == length]
        size = max(batch_size * patch_samples // length, 1)
        for i in range(0, len(equal), size):
            chunk = equal[i : i + size]
            batches.append(EvaluationBatch(chunk, np.zeros(len(chunk), dtype=np.int64), length))
    return batches
