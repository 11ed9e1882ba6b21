"""Data sources fulfil their contract, as musictag.testing has it for those of plug-ins, too."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from musictag import testing
from musictag.data.datasets.catalogue import CatalogueFile
from musictag.data.datasets.songbook import Songbook


def test_a_catalogue(tiny_catalogue: Path) -> None:
    testing.check_source(CatalogueFile(tiny_catalogue))


def test_songbook(songbook_folder: Path) -> None:
    testing.check_source(Songbook(songbook_folder, num_songs=4, validation_songs=2, test_songs=2, seconds=3.0), songs=1)


def _quiet(song_id: str, path: str) -> np.ndarray:
    return np.zeros(16000, dtype=np.float32)


def _new_each_time(song_id: str, path: str) -> np.ndarray:
    return np.random.default_rng().integers(-9, 9, 16000).astype(np.int16)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("reader", lambda: partial(_quiet), "is read as float32, not int16"),
        ("reader", lambda: partial(_new_each_time), "is another one when it is read again"),
        ("locations", ("nowhere",), "locations names nowhere"),
        ("versions", lambda manifest: ["1"], "1 versions of 24 songs"),
        ("fingerprint", lambda: {"of": object()}, "not JSON serializable"),
    ],
)
def test_what_is_wrong_is_named(tiny_catalogue: Path, name: str, value: object, message: str) -> None:
    source = CatalogueFile(tiny_catalogue)
    setattr(source, name, value)
    with pytest.raises((AssertionError, TypeError), match=message):
        testing.check_source(source)
