"""Balanced sampling: rare tags appear more often, each epoch anew, and the same in a resumed one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from musictag.common.errors import MusictagError
from musictag.data.loading.balanced import BalancedBatches
from tests.helpers.catalogues import ready


class Songs:
    """A manifest of 100 songs, as far as a sampler reads one: 80 are rock, 5 are jazz as well, 20 are neither."""

    tags = tuple(type("Tag", (), {"name": name, "kind": kind}) for name, kind in (
        ("rock", "classification"), ("jazz", "classification"), ("speed", "regression"), ("none", "classification"),
    ))  # fmt: skip

    def __len__(self) -> int:
        return 100

    def values(self, name: str) -> np.ndarray:
        row = np.arange(100)
        return {"rock": row < 80, "jazz": row < 5, "speed": row / 100, "none": np.zeros(100)}[name].astype(float)


def sampler(power: float, patches_per_song: int = 2) -> BalancedBatches:
    return BalancedBatches(
        power=power, songs=Songs(), patches_per_song=patches_per_song, batch_size=10, seed=3, epoch=lambda: 0
    )


@pytest.mark.parametrize(("power", "ratio"), [(0.0, 1.0), (0.5, 4.0), (1.0, 16.0)])
def test_songs_with_rare_tags_appear_more_often(power: float, ratio: float) -> None:
    batches = sampler(power)
    counts = [np.bincount(batches.draw(epoch)[0], minlength=100) for epoch in range(100)]
    assert {count.sum() for count in counts} == {200}
    mean = np.mean(counts, axis=0)
    jazz, rock, neither = mean[:5].mean(), mean[5:80].mean(), mean[80:].mean()
    assert jazz / rock == pytest.approx(ratio, rel=0.1)
    assert neither == pytest.approx(rock, rel=0.1)
    assert np.abs(counts - mean).max() < 1.5  # rounded up or down


def test_an_epoch_is_a_pure_function_of_its_number_and_has_no_patch_twice() -> None:
    songs, draws = sampler(0.5).draw(4)
    again = sampler(0.5).draw(4)
    assert np.array_equal(songs, again[0])
    assert np.array_equal(draws, again[1])
    assert not np.array_equal(songs, sampler(0.5).draw(5)[0])
    assert len(set(zip(songs.tolist(), draws.tolist(), strict=True))) == 200
    assert len(set(songs[:20].tolist())) > 10  # mixed, not song by song


def test_real_songs(tiny_catalogue: Path) -> None:
    data = ready(tiny_catalogue, patches_per_song=2, sampler=partial(BalancedBatches, power=1.0))
    batches = list(data.train_dataloader())
    assert sum(len(batch["song"]) for batch in batches) == 24
    assert {key for batch in batches for key in batch} == {"audio", "target", "song", "draw"}


def test_what_cannot_be_balanced_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MusictagError, match=r"data.sampler.power=2 must be from 0 to 1"):
        sampler(2)
    monkeypatch.setattr(Songs, "tags", Songs.tags[2:])
    with pytest.raises(MusictagError, match="no song has one"):
        sampler(0.5)
