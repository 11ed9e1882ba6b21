"""Scores of songs from those of their patches."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing

from musictag.common.errors import MusictagError
from musictag.evaluation.song_average import SongAverage

HANGS = 240  # seconds
SONGS, TAGS = 7, 3


def patches():
    """41 patches of 7 songs in random order: song rows (B), probabilities (B×K)."""
    rng = np.random.default_rng(5)
    song = np.concatenate([np.arange(SONGS), rng.integers(SONGS, size=34)])
    return torch.from_numpy(song), torch.from_numpy(rng.random((41, TAGS), dtype=np.float32))


def average_of(song, probabilities, batch=8):
    average = SongAverage(SONGS, TAGS)
    for first in range(0, len(song), batch):
        average.update(song[first : first + batch], probabilities[first : first + batch])
    return average.compute()


def test_songs_are_the_means_of_their_patches():
    song, probabilities = patches()
    scores = average_of(song, probabilities)
    assert scores.dtype == torch.float32
    for s in range(SONGS):
        assert scores[s].numpy() == pytest.approx(probabilities[song == s].double().mean(dim=0).numpy(), abs=1e-7)


def test_order_and_batches_of_patches_leave_no_trace():
    song, probabilities = patches()
    order = torch.randperm(41, generator=torch.Generator().manual_seed(0))
    assert torch.equal(average_of(song, probabilities), average_of(song[order], probabilities[order], batch=5))


def test_songs_evaluated_twice_count_once():
    song, probabilities = patches()
    twice = (song == 2) | (song == 5)
    again = average_of(torch.cat([song, song[twice]]), torch.cat([probabilities, probabilities[twice]]))
    assert torch.equal(again, average_of(song, probabilities))


def test_missing_songs_are_counted():
    average = SongAverage(SONGS, TAGS)
    average.update(torch.tensor([0, 3, 3]), torch.rand(3, TAGS))
    with pytest.raises(MusictagError, match=r"5 of 7 songs have no patch \(rows 1, 2, 4, 5, 6\)"):
        average.compute()
    average.update(torch.tensor([1, 2, 4, 5, 6]), torch.rand(5, TAGS))
    assert average.compute().shape == (SONGS, TAGS)
    average.reset()
    assert average.sum.abs().sum() == average.count.sum() == 0


def test_wrong_shapes_and_rows_are_refused():
    average = SongAverage(SONGS, TAGS)
    with pytest.raises(ValueError, match=r"\(4, 3\) expected"):
        average.update(torch.arange(4), torch.rand(4, TAGS + 1))
    with pytest.raises(RuntimeError, match="out of bounds"):
        average.update(torch.tensor([SONGS]), torch.rand(1, TAGS))


def test_sums_keep_their_precision_in_a_bfloat16_model():
    song, probabilities = patches()
    model = torch.nn.Linear(2, 2)
    model.average = SongAverage(SONGS, TAGS)
    model.to(torch.bfloat16)
    assert model.weight.dtype == torch.bfloat16
    model.average.update(song, probabilities)
    assert torch.equal(model.average.compute(), average_of(song, probabilities))


def _evaluate_rank(rank, folder):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2, timeout=timedelta(seconds=HANGS)
    )
    song, probabilities = patches()
    # Uneven, and with patches of the same songs on both ranks.
    mine = slice(0, 30) if rank == 0 else slice(30, 41)
    scores = average_of(song[mine], probabilities[mine])
    np.save(f"{folder}/scores{rank}.npy", scores.numpy())
    torch.distributed.destroy_process_group()


def test_two_processes_equal_one(tmp_path):
    song, probabilities = patches()
    assert set(song[:30].tolist()) & set(song[30:].tolist())
    second = torch.multiprocessing.get_context("spawn").Process(target=_evaluate_rank, args=(1, str(tmp_path)))
    second.start()
    _evaluate_rank(0, str(tmp_path))  # this process is the first
    second.join(HANGS)
    assert second.exitcode == 0
    single = average_of(song, probabilities).numpy()
    for rank in range(2):
        assert np.abs(np.load(tmp_path / f"scores{rank}.npy") - single).max() <= 1e-6
