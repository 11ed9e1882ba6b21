"""Fetching ahead of the training step."""

from __future__ import annotations

import threading

import pytest
from torch.utils.data import Dataset

from musictag.common.errors import SongError
from musictag.data.loading.prefetch import PrefetchingLoader


class _Numbers(Dataset):
    def __getitem__(self, index: int) -> int:
        if index == 7:
            raise SongError("the seventh song is gone")
        return index

    def __len__(self) -> int:
        return 20


@pytest.mark.parametrize("workers", [0, 2])
def test_fetching_ahead_changes_neither_order_nor_errors(workers: int) -> None:
    loader = PrefetchingLoader(_Numbers(), sampler=[3, 1, 2, 19, 0], batch_size=None, num_workers=workers)
    assert list(loader) == [3, 1, 2, 19, 0]
    assert list(loader) == [3, 1, 2, 19, 0]
    broken = PrefetchingLoader(_Numbers(), sampler=[3, 7, 2], batch_size=None, num_workers=workers)
    batches = iter(broken)
    assert next(batches) == 3  # batches before the error are not lost
    with pytest.raises(SongError, match="the seventh song is gone"):
        next(batches)


def test_an_abandoned_epoch_leaves_no_thread() -> None:
    loader = PrefetchingLoader(_Numbers(), sampler=[0, 1, 2, 3, 4, 5] * 10, batch_size=None)
    batches = iter(loader)
    assert next(batches) == 0
    assert any(thread.name.startswith("prefetch") for thread in threading.enumerate())
    batches.close()
    assert not any(thread.name.startswith("prefetch") for thread in threading.enumerate())
