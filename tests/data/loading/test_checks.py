"""Songs that cannot be trained on or scored are reported before any time is spent."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from musictag.common.errors import MusictagError
from tests.helpers.catalogues import read_rows, song_data, write_table


def change(catalogue: Path, **columns: object) -> None:
    """Set columns to a value, or to a function of the row."""
    rows = read_rows(catalogue)
    for row in rows:
        row |= {name: value(row) if callable(value) else value for name, value in columns.items()}
    write_table(catalogue, rows)


def test_splits_without_songs_stop_the_run(tiny_catalogue: Path) -> None:
    change(tiny_catalogue, split=lambda row: "train" if row["split"] == "test" else row["split"])
    with pytest.raises(MusictagError, match=r"no .*song is in test \(train: 19, validation: 5, test: 0\)"):
        song_data(tiny_catalogue).prepare_data()


def test_songs_that_teach_nothing_stop_the_run_before_they_are_prepared(tiny_catalogue: Path) -> None:
    change(tiny_catalogue, brightness="")
    data = song_data(tiny_catalogue, train_songs=1)
    with pytest.raises(MusictagError, match=r"no tag can be learned from 1 training song: .*data\.train_songs"):
        data.prepare_data()
    assert not list(tiny_catalogue.parent.glob("data/*"))


def test_tags_that_cannot_be_scored_and_shared_groups_are_reported_once(tiny_catalogue: Path) -> None:
    change(tiny_catalogue, high=lambda row: "1" if row["split"] == "test" else row["high"], group="the band")
    data = song_data(tiny_catalogue)
    data.prepare_data()
    with pytest.warns(UserWarning, match="cannot score|more than one split") as caught:
        data.setup("fit")
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 2
    assert "tags that cannot be scored on the test split" in messages[0]
    assert "high (no negative song)" in messages[0]
    assert "1 groups (artists or works) are in more than one split, such as the band" in messages[1]
    assert data.overlap == {"copies": 0, "artists": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.setup("test")
