"""Songs without labels in the batches of training, where a teacher takes the place of their labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from pytorch_lightning.utilities import rank_zero_warn

from musictag.common.errors import MusictagError
from musictag.common.text import some
from musictag.data.catalogue.copies import copies_of_evaluated
from musictag.data.loading.samplers import TrainBatch, TrainBatches
from musictag.data.manifest import UNLABELLED, Manifest
from musictag.data.random_draws import song_keys, subset_order

#: The songs of a training: the training songs, and after them the unlabelled ones.
TRAINED = "trained"
REST = "rest"


class Unlabelled(NamedTuple):
    """``share`` of each training batch is of unlabelled songs: those of the split ``unlabelled`` and, with
    ``which="rest"``, the training songs that a subset leaves over."""

    which: str | None
    share: float

    def check(self, train_songs: int | None, batch_size: int, world: int = 1) -> int:
        """The number of patches of unlabelled songs in the batches of ``world`` processes together. Raises
        MusictagError for other words, and for shares and batches that do not go together."""
        if self.which not in (None, REST):
            raise MusictagError(f"data.unlabelled={self.which} does not exist; allowed: {REST}, null")
        if self.which and train_songs is None:
            raise MusictagError(
                f"data.unlabelled={REST} are the training songs that data.train_songs leaves over: set it, too"
            )
        number = round(self.share * batch_size) if isinstance(self.share, int | float) else 0
        if not 0 < number < batch_size or number % world or (batch_size - number) % world:
            raise MusictagError(
                f"data.unlabelled_share={self.share} of data.batch_size={batch_size} makes {number} patches of "
                f"unlabelled songs in a batch, and {batch_size - number} of others; both must be at least 1"
                + (f", and multiples of {world}, the number of processes" if world > 1 else "")
            )
        return number

    def divided(
        self, songs: Manifest, firsts: np.ndarray, train_songs: int | None, seed: int
    ) -> tuple[Manifest, Manifest]:
        """The training songs, and all that are TRAINED on. Copies of validation and test songs, by ``firsts`` (int64
        S), are left out with a warning."""
        train, other = songs.rows("train"), songs.rows(UNLABELLED)
        if self.which:
            order = train[subset_order(song_keys(songs.song_ids[train]), seed)]
            train, other = np.sort(order[:train_songs]), np.sort([*other, *order[train_songs:]]).astype(np.int64)
            if len(order) == len(train):
                rank_zero_warn(f"data.unlabelled={REST}: data.train_songs={train_songs} leaves no training songs over")
        evaluated = copies_of_evaluated(songs, firsts)[other]
        if evaluated.any():
            rank_zero_warn(
                f"{evaluated.sum():,} unlabelled songs are left out, as they are the same recordings as validation or "
                f"test songs: {some(songs.song_ids[other[evaluated]])}"
            )
        return songs.select(train), songs.select(np.concatenate([train, other[~evaluated]]))


class MixedBatches:
    """Batches of ``batch_size`` patches for the arguments of TrainBatches, the last ``number`` of each of ``others``,
    whose songs have the rows after those of ``songs``.

    ``patches_per_epoch`` counts both kinds, ``patches_per_song`` the patches of ``songs``, which ``sampler`` draws.
    """

    def __init__(
        self, sampler: Callable[..., TrainBatches], others: Manifest, number: int, *, songs: Manifest, batch_size: int,
        patches_per_epoch: int | None, patches_per_song: int, **common: Any,
    ) -> None:  # fmt: skip
        size = batch_size - number
        own = patches_per_epoch and patches_per_epoch // batch_size * size
        self._before = len(songs)
        self._labelled = sampler(
            songs=songs, batch_size=size, patches_per_song=patches_per_song, patches_per_epoch=own, **common
        )
        self._unlabelled = TrainBatches(
            songs=others, batch_size=number, patches_per_song=1, patches_per_epoch=len(self) * number, **common
        )

    def __len__(self) -> int:
        return len(self._labelled)

    def __iter__(self) -> Iterator[TrainBatch]:
        for one, other in zip(self._labelled, self._unlabelled, strict=True):
            songs = np.concatenate([one.songs, self._before + other.songs])
            yield TrainBatch(one.epoch, songs, np.concatenate([one.draws, other.draws]))
