"""Helpers for tests of `musictag tag`: a tagger, a few songs, and an event at one of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from musictag import cli
from musictag.inference.tagger import Tagger
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
    """Call ``act`` while the song with this ``number`` (from 1) is tagged."""
    whole, numbers = Tagger.tag, iter(range(1, 1000))

    def tag_song(tagger: Tagger, path: str) -> dict[str, float]:
        if next(numbers) == number:
            act()
        return whole(tagger, path)

    monkeypatch.setattr(Tagger, "tag", tag_song)


def fail_with(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act
