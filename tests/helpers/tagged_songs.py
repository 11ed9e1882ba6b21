"""Helpers for tests of `musictag tag`: a tagger, a few songs, and an event at one of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from musictag import cli
from musictag.inference import many_songs, over_patches
from tests.helpers.embeddings import make_network, save, write_song


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    return save(tmp_path / "tagger.safetensors", make_network())


@pytest.fixture
def songs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of four songs in the current folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return [write_song(Path(f"{letter}.wav"), 0.6, seed=seed) for seed, letter in enumerate("abcd")]


def tag(*words: str) -> int:
    return cli.main(["tag", *words])


def at_song(number: int, act: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Call ``act`` at the end of the song with this ``number`` (from 1), after the scores of those before it."""
    monkeypatch.setattr(over_patches, "BATCH_SECONDS", 0)  # each patch by itself: no song waits for the next
    monkeypatch.setattr(over_patches, "side_by_side", nullcontext)  # nor for another thread
    end, numbers = many_songs._end, iter(range(1, 1000))

    def with_event(*given: Any) -> None:
        if next(numbers) == number:
            act()
        end(*given)

    monkeypatch.setattr(many_songs, "_end", with_event)


def fail_with(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act
