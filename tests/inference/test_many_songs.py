"""Many songs: in order, read ahead within bounds, and an error costs one of them."""

from __future__ import annotations

import io
import signal
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import musictag
from musictag.common.errors import MusictagError, PassingSongError, SongError, SongWarning
from musictag.data.audio.patches import patch_starts
from musictag.inference import many_songs, over_patches
from musictag.inference.many_songs import Work, each_result
from musictag.inference.network_tagger import NetworkTagger
from musictag.inference.over_patches import Patches, side_by_side
from tests.helpers.embeddings import CONNECTED, LINEAR, MUSICNN, RATE, make_network, save, write_song


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
            assert song.tags == pytest.approx(tagger.tag(song.source), abs=1e-6)
        else:
            assert song.tags == {}
    errors = [song.error for song in songs if song.error is not None]
    assert [type(error) for error in errors] == [PassingSongError, SongError, MusictagError]
    assert [list(song.tags) for song in tagger.tag_many(paths, top=1)] == [
        list(tagger.tag(path, top=1)) for path in paths
    ]
    for wrong in ({"top": 0}, {"workers": 0}):
        with pytest.raises(MusictagError, match="at least 1"):
            tagger.tag_many(paths, **wrong)


def test_it_reads_ahead_but_not_far(paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    whole = many_songs.source_blocks

    def read(source: str, *how: Any) -> str:
        started.append(source)
        return whole(source, *how)

    monkeypatch.setattr(many_songs, "source_blocks", read)
    results = each_result(Work(len), paths, RATE, workers=2)
    assert started == []
    next(results)
    assert 1 <= len(started) <= 4  # two that are read, one that waits, and the one that is finished
    results.close()


def test_of_a_long_song_little_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it is: its reader waits, and ends when nobody wants the rest."""
    sent: list[int] = []

    def read(source: str, rate: int, take: Callable[[np.ndarray], None], restart: Callable[[], None]) -> str:
        try:
            while True:
                take(np.zeros(10, np.int16))
                sent.append(1)
        finally:
            ended.set()

    ended = threading.Event()
    monkeypatch.setattr(many_songs, "source_blocks", read)
    monkeypatch.setattr(many_songs, "_WAITING_BLOCKS", 5)

    class Stops(many_songs.Work[int]):
        def begin(self) -> many_songs.Song[int]:
            song = super().begin()
            song.add = fail  # type: ignore[method-assign]
            return song

    def fail(block: np.ndarray) -> None:
        raise SongError("no more")

    assert [str(error) for _, error in each_result(Stops(len), ["endless"], RATE, workers=1)] == ["no more"]
    assert ended.wait(5)
    assert len(sent) <= 7


def test_another_decoder_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(source: str, rate: int, take: Callable[[np.ndarray], None], restart: Callable[[], None]) -> str:
        take(np.zeros(100, np.int16))
        restart()
        take(np.zeros(7, np.int16))
        return ""

    monkeypatch.setattr(many_songs, "source_blocks", read)
    assert list(each_result(Work(len), ["a"], RATE)) == [("a", 7)]
    assert many_songs.one_result(Work(len), "a", RATE) == 7


def test_what_was_left_out_is_said_in_order(paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def read(source: str, rate: int, take: Callable[[np.ndarray], None], restart: Callable[[], None]) -> str:
        take(np.zeros(rate, np.int16))
        return "3 s are missing"

    monkeypatch.setattr(many_songs, "source_blocks", read)
    results = each_result(Work(len), paths[:2], RATE)
    for path in paths[:2]:
        with pytest.warns(SongWarning, match=f"{path}: 3 s are missing"):
            assert next(results) == (path, RATE)


def test_a_batch_holds_patches_of_several_songs_and_an_error_costs_one(paths: list[str]) -> None:
    network = make_network()
    sizes: list[int] = []

    def compute(waveform: torch.Tensor) -> torch.Tensor:
        sizes.append(len(waveform))
        if (waveform.abs().amax(dim=1) > 0.9).any():
            raise RuntimeError("too loud")
        return waveform.abs().amax(dim=1, keepdim=True)

    patches = Patches(network, compute, network.patch_samples, lambda starts, rows: rows.max())
    songs = [patches.begin() for _ in range(3)]
    for song, peak in zip(songs, (0.25, 0.95, 0.5), strict=True):
        for _ in range(3):
            song.add(np.full(RATE // 2, round(peak * 32768), np.int16))
        song.end()
    assert not any(song.is_complete for song in songs)
    patches.run()
    assert sizes == [9, 3, 3, 3]
    assert songs[0].result() == 0.25
    assert songs[2].result() == 0.5
    with pytest.raises(RuntimeError, match="too loud"):
        songs[1].result()


@pytest.fixture
def torch_threads() -> Iterator[Callable[[int], None]]:
    threads = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(threads)


def test_batches_are_scored_side_by_side(torch_threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    torch_threads(2)
    monkeypatch.setattr(over_patches, "BATCH_SECONDS", 1)
    network, both = make_network(), threading.Barrier(2, timeout=20)

    def compute(waveform: torch.Tensor) -> torch.Tensor:
        if (waveform.abs().amax(dim=1) > 0.9).any():
            raise RuntimeError("too loud")
        both.wait()  # fails unless two batches wait at once
        return waveform.abs().amax(dim=1, keepdim=True)

    peaks = [0.125, 0.25, 0.95, 0.5, 0.75]
    with side_by_side():  # when they are made counts
        patches = Patches(network, compute, network.patch_samples, lambda starts, rows: rows.ravel().tolist())
    work = [(np.full(RATE, round(peak * 32768), np.int16), RATE) for peak in peaks]
    found = [result for _, result in each_result(patches, work, RATE)]
    assert str(found.pop(2)) == "too loud"
    assert found == [[0.125] * 2, [0.25] * 2, [0.5] * 2, [0.75] * 2]


def test_a_short_song_keeps_all_threads_busy(torch_threads: Callable[[int], None]) -> None:
    torch_threads(2)
    network, both = make_network(), threading.Barrier(2, timeout=5)

    def compute(waveform: torch.Tensor) -> torch.Tensor:
        both.wait()
        return waveform.abs().amax(dim=1, keepdim=True)

    with side_by_side():
        patches = Patches(network, compute, network.patch_samples, lambda starts, rows: len(rows))
    assert over_patches.in_memory(patches, np.ones(RATE, np.int16)) == 2


def test_ctrl_c_leaves_batches_that_have_not_begun(
    torch_threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch_threads(1)
    monkeypatch.setattr(over_patches, "BATCH_SECONDS", 1)
    network, stopped, sizes = make_network(), threading.Event(), []

    def compute(waveform: torch.Tensor) -> torch.Tensor:
        sizes.append(len(waveform))
        while not patches._pool._work_queue.qsize():  # until the next batch waits
            time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        assert stopped.wait(20)
        return waveform

    with side_by_side():
        patches = Patches(network, compute, network.patch_samples, lambda starts, rows: rows)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest's workers ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            list(each_result(patches, [(np.full(3 * RATE, 0.5, np.float32), RATE)], RATE))
    finally:
        signal.signal(signal.SIGINT, before)
        stopped.set()
        patches._pool.shutdown()
    assert sizes == [2]


@pytest.mark.parametrize(("threads", "batches", "each"), [(1, 1, 1), (2, 2, 1), (20, 8, 2)])
def test_side_by_side_divides_the_threads(
    threads: int, batches: int, each: int, torch_threads: Callable[[int], None]
) -> None:
    torch_threads(threads)
    with side_by_side():
        assert (Patches.threads, torch.get_num_threads()) == (batches, each)
    assert (Patches.threads, torch.get_num_threads()) == (0, threads)


@pytest.mark.parametrize("seconds", [0.2, 0.5, 1.3, 3.0])
@pytest.mark.parametrize("hop", [2000, 8000, 11000])
def test_blocks_make_no_difference(seconds: float, hop: int) -> None:
    network = make_network(MUSICNN, CONNECTED)
    audio = np.random.default_rng(0).integers(-9000, 9000, round(seconds * RATE)).astype(np.int16)
    patches = Patches(network, lambda waveform: waveform, hop, lambda starts, rows: (starts, rows))
    song = patches.begin()
    for block in np.array_split(audio, [1, 17, 4000, 20_000]):
        song.add(block)
    song.end()
    patches.run()
    starts, rows = song.result()
    whole = np.pad(np.resize(audio, max(len(audio), network.patch_samples)), network.frontend.margin_samples)
    assert starts.tolist() == patch_starts(len(audio), network.patch_samples, hop).tolist()
    expected = [whole[start : start + network.input_samples] / 32768 for start in starts]
    np.testing.assert_array_equal(rows, np.array(expected, np.float32))


def test_threads_share_a_tagger(paths: list[str]) -> None:
    tagger = NetworkTagger(make_network())
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(tagger.tag, paths))
    assert found == [tagger.tag(path) for path in paths]


def test_threads_share_everything_of_a_tagger(paths: list[str], tmp_path: Path) -> None:
    tagger = musictag.load(save(tmp_path / "tagger.safetensors", make_network()))

    def work(path: str) -> list[np.ndarray]:
        (many,) = tagger.tag_many([path])
        scores = np.array(list(tagger.tag(path).values()))
        return [
            scores,
            np.array(list(many.tags.values())),
            tagger.taggram(path).scores,
            tagger.embed(path, "backend.dense"),
        ]

    expected = [work(path) for path in paths]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for found, alone in zip(pool.map(work, paths), expected, strict=True):
                for one, other in zip(found, alone, strict=True):
                    np.testing.assert_array_equal(one, other)


def test_open_files(paths: list[str]) -> None:
    tagger = NetworkTagger(make_network())
    with open(paths[0], "rb") as file:
        assert tagger.tag(file) == tagger.tag(paths[0])
    assert tagger.tag(io.BytesIO(Path(paths[1]).read_bytes())) == tagger.tag(paths[1])
    with pytest.raises(SongError, match="cannot be read as audio"):
        tagger.tag(io.BytesIO(b"no music"))
    with open(paths[0], encoding="latin-1") as file, pytest.raises(MusictagError, match="must be open for bytes"):
        tagger.tag(file)


def test_an_hour_takes_no_more_memory_than_minutes(tmp_path: Path) -> None:
    network = make_network(backend=LINEAR)
    tagger = NetworkTagger(network)
    tagger.tag((np.random.default_rng(0).standard_normal(RATE).astype(np.float32) * 0.1, RATE))
    path = write_song(tmp_path / "long.wav", 900.0)  # 29 MB of int16
    for work in (tagger.tag, lambda path: list(tagger.tag_many([path])), tagger.taggram):
        tracemalloc.start()
        try:
            work(path)
            assert tracemalloc.get_traced_memory()[1] < 25e6
        finally:
            tracemalloc.stop()
