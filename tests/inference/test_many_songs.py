"""Many songs: in order, read ahead within bounds, and an error costs one of them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from musictag.common.errors import MusictagError, SongError, SongWarning
from musictag.data.audio.decode import Reading
from musictag.inference import many_songs
from musictag.inference.many_songs import each_result
from musictag.inference.network_tagger import NetworkTagger
from tests.helpers.embeddings import RATE, make_network, write_song


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    return [write_song(tmp_path / f"{number}.wav", 0.6 + 0.3 * number, seed=number) for number in range(6)]


@pytest.mark.parametrize("workers", [1, 3])
def test_each_song_has_the_scores_that_it_has_alone(workers: int, paths: list[str], tmp_path: Path) -> None:
    tagger = NetworkTagger(make_network())
    (tmp_path / "broken.mp3").write_text("no music")
    array = (np.random.default_rng(9).standard_normal(RATE).astype(np.float32) * 0.1, RATE)
    sources = [*paths[:2], "nowhere.wav", paths[2], tmp_path / "broken.mp3", array, *paths[3:], 7]
    songs = list(tagger.tag_many(iter(sources), workers=workers))
    assert [song.source for song in songs] == sources
    for song in songs:
        if song.error is None:
            assert song.tags == tagger.tag(song.source)
        else:
            assert song.tags == {}
    errors = [song.error for song in songs if song.error is not None]
    assert [type(error) for error in errors] == [SongError, SongError, MusictagError]
    assert [list(song.tags.items()) for song in tagger.tag_many(paths, top=1)] == [
        list(tagger.tag(path, top=1).items()) for path in paths
    ]
    for wrong in ({"top": 0}, {"workers": 0}):
        with pytest.raises(MusictagError, match="at least 1"):
            tagger.tag_many(paths, **wrong)


def test_it_reads_ahead_but_not_far(paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    whole = many_songs.read_with_note

    def read(source: str, sample_rate: int) -> Reading:
        started.append(source)
        return whole(source, sample_rate)

    monkeypatch.setattr(many_songs, "read_with_note", read)
    results = each_result(len, paths, RATE, workers=2)
    assert started == []
    next(results)
    assert 1 <= len(started) <= 4  # two that are read, one that waits, and the one that is finished
    results.close()


def test_large_files_are_read_in_their_turn(paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    threads: dict[str, str] = {}
    whole = many_songs.read_with_note

    def read(source: str, sample_rate: int) -> Reading:
        threads[source] = threading.current_thread().name
        return whole(source, sample_rate)

    monkeypatch.setattr(many_songs, "read_with_note", read)
    monkeypatch.setattr(many_songs, "LARGE_FILE_BYTES", Path(paths[3]).stat().st_size)
    lengths = [length for _, length in each_result(len, paths, RATE, workers=2)]
    assert lengths == sorted(lengths)
    here = threading.current_thread().name
    assert [threads[path] == here for path in paths] == [False] * 3 + [True] * 3


def test_what_was_left_out_is_said_in_order(paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many_songs, "read_with_note", lambda *_: Reading(np.zeros(RATE, np.int16), "3 s are missing"))
    results = each_result(len, paths[:2], RATE)
    for path in paths[:2]:
        with pytest.warns(SongWarning, match=f"{path}: 3 s are missing"):
            assert next(results) == (path, RATE)


def test_threads_share_a_tagger(paths: list[str]) -> None:
    tagger = NetworkTagger(make_network())
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(tagger.tag, paths))
    assert found == [tagger.tag(path) for path in paths]
