"""Epochs of a fixed number of patches: every song equally often, a pure function of seed and epoch."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from musictag.common.errors import MusictagError
from musictag.data.loading.samplers import TrainBatch, TrainBatches
from tests.helpers.catalogues import ready, song_data
from tests.helpers.experiments import compose_config


def epoch_of(songs: int, patches: int, epoch: int, batch_size: int = 4, seed: int = 5, **more: int) -> list[TrainBatch]:
    return list(TrainBatches(range(songs), 1, batch_size, seed, lambda: epoch, patches_per_epoch=patches, **more))


def drawn(batches: list[TrainBatch]) -> list[tuple[int, int]]:
    return [(song, draw) for batch in batches for song, draw in zip(batch.songs, batch.draws, strict=True)]


@pytest.mark.parametrize(("songs", "patches"), [(7, 16), (50, 16), (16, 16), (1, 4), (3, 256)])
def test_every_song_is_seen_equally_often(songs: int, patches: int) -> None:
    shown: list[int] = []
    for epoch in range(40):
        patches_of_epoch = drawn(epoch_of(songs, patches, epoch))
        assert len(set(patches_of_epoch)) == patches  # draws of a song within an epoch are different patches
        shown += [song for song, _ in patches_of_epoch]
        counts = np.bincount(shown, minlength=songs)
        assert counts.max() - counts.min() <= 1
    assert len(shown) == 40 * patches
    if songs > 1:  # each pass in an order of its own
        assert shown[:songs] != shown[songs : 2 * songs]
        assert sorted(shown[:songs]) == sorted(shown[songs : 2 * songs])


def test_an_epoch_is_a_function_of_seed_and_epoch_alone() -> None:
    first = drawn(epoch_of(50, 16, 3))
    assert drawn(epoch_of(50, 16, 3)) == first
    assert drawn(epoch_of(50, 16, 4)) != first
    assert drawn(epoch_of(50, 16, 3, seed=6)) != first
    assert drawn(epoch_of(50, 16, 3, first_batch=lambda epoch: 2)) == first[8:]  # resumed after two batches


def test_as_many_patches_as_songs_are_one_patch_of_each() -> None:
    for epoch in (0, 3):
        as_ever = list(TrainBatches(range(24), 1, 4, 5, lambda: epoch))  # noqa: B023
        assert drawn(epoch_of(24, 24, epoch)) == drawn(as_ever)


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_the_batches_of_one(world: int) -> None:
    alone, shares = epoch_of(7, 32, 2, 8), [epoch_of(7, 32, 2, 8, rank=rank, world=world) for rank in range(world)]
    for number, batch in enumerate(alone):
        assert sorted(drawn([batch])) == sorted(drawn([share[number] for share in shares]))


def test_a_step_has_as_many_patches_with_any_number_of_songs(tiny_catalogue: Path) -> None:
    for songs in (3, 12):
        batches = list(ready(tiny_catalogue, train_songs=songs, patches_per_epoch=20).train_dataloader())
        assert [len(batch["song"]) for batch in batches] == [4] * 5
        patches = {bytes(audio.numpy()) for batch in batches for audio in batch["audio"]}
        assert len(patches) == 20


class Favourite(TrainBatches):
    def draw(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        return np.full(self.num_patches, 3), np.arange(self.num_patches)


def test_a_sampler_of_ones_own_draws_as_many(tiny_catalogue: Path) -> None:
    data = ready(tiny_catalogue, patches_per_epoch=20, sampler=partial(Favourite))
    assert [batch["song"].tolist() for batch in data.train_dataloader()] == [[3] * 4] * 5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"patches_per_epoch": 20, "patches_per_song": 2}, "both say how many patches .* data.patches_per_song=1 with"),
        (
            {"patches_per_epoch": 22},
            "not a number of whole batches of batch_size=4; use .*=20 or 24",
        ),
        ({"patches_per_epoch": 3}, "use data.patches_per_epoch=4$"),
        ({"patches_per_epoch": 0}, "patches_per_epoch: too small"),
    ],
)
def test_numbers_that_exclude_each_other_are_refused(tiny_catalogue: Path, words: dict, message: str) -> None:
    with pytest.raises(MusictagError, match=message):
        song_data(tiny_catalogue, **words)


def test_the_budget_says_what_is_equal() -> None:
    epochs, steps = compose_config(), compose_config("budget=steps")
    assert epochs["data"]["patches_per_epoch"] is None
    assert steps["data"]["patches_per_epoch"] == 4096
    assert all(steps["data"]["patches_per_epoch"] % size == 0 for size in (8, 16, 32, 64, 128, 256))
