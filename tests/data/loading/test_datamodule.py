"""Patches and songs: draws depend only on (seed, epoch, song), and evaluation sees every sample."""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from musictag.common.errors import MusictagError
from musictag.data.datasets.catalogue import CatalogueFile
from musictag.data.loading import datamodule
from musictag.data.loading.datamodule import SongDataModule
from musictag.data.loading.patch_datasets import CompactTargets
from musictag.data.loading.samplers import TrainBatches, evaluation_batches
from musictag.data.random_draws import song_keys, subset_order
from musictag.evaluation.song_average import SongAverage
from tests.helpers.catalogues import read_rows, ready, song_data, write_table

PATCH = 8000


def patches_of(data: SongDataModule, epoch: int = 0) -> list[tuple[int, bytes]]:
    data.epoch = epoch
    batches = list(data.train_dataloader())
    return [
        (int(song), audio.numpy().tobytes()) for b in batches for song, audio in zip(b["song"], b["audio"], strict=True)
    ]


def test_songs_are_prepared_once_however_often_lightning_asks(
    tiny_catalogue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, calls = song_data(tiny_catalogue), []
    once = datamodule.prepare
    monkeypatch.setattr(datamodule, "prepare", lambda *given, **more: (calls.append(given), once(*given, **more))[1])
    found = [data.prepare_data(), data.setup(), data.prepare_data(), data.setup("test")]
    assert len(calls) == 1
    assert found[0] is found[2]


# drawing


def test_training_patches_are_a_pure_function_of_seed_and_epoch(tiny_catalogue: Path) -> None:
    data = ready(tiny_catalogue, patches_per_song=2)
    first, second = patches_of(data, 0), patches_of(data, 1)
    assert len(first) == 24
    assert np.bincount([song for song, _ in first]).tolist() == [2] * 12
    assert len(set(first)) == 24  # two draws of a song differ
    assert not set(first) & set(second)
    again = ready(tiny_catalogue, patches_per_song=2, num_workers=2)
    assert patches_of(again, 1) == second
    assert patches_of(again, 0) == first
    assert not set(patches_of(ready(tiny_catalogue, patches_per_song=2, seed=1), 0)) & set(first)


class Favourite(TrainBatches):
    """Only one of the songs, again and again."""

    def __init__(self, song: int, too_many: int = 0, **given: object) -> None:
        super().__init__(**given)
        self.song, self.count = song, self.num_patches + too_many

    def draw(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        return np.full(self.count, self.song), np.arange(self.count)


def test_a_sampler_of_ones_own_decides_what_is_trained_on(tiny_catalogue: Path) -> None:
    data = ready(tiny_catalogue, patches_per_song=2, sampler=partial(Favourite, song=3))
    first = patches_of(data)
    assert [song for song, _ in first] == [3] * 24
    assert len(set(first)) == 24  # each a patch of its own
    assert patches_of(data) == first
    assert patches_of(data, 1) != first
    with pytest.raises(MusictagError, match=r"Favourite.draw must return 12 songs and draws .* returned 13 and 13"):
        patches_of(ready(tiny_catalogue, sampler=partial(Favourite, song=3, too_many=1)))


def test_compact_targets_are_smaller_and_equal(tiny_catalogue: Path) -> None:
    """Tags of both kinds are unknown for some songs, and stay so."""
    table = read_rows(tiny_catalogue)
    table[5]["high"] = table[23]["noisy"] = ""
    write_table(tiny_catalogue, table)
    songs = ready(tiny_catalogue).manifest
    compact, rows = CompactTargets(songs), np.array([5, 0, 23, 5])
    assert np.isnan(songs.targets()[rows]).sum(axis=0).tolist() == [2, 1, 1]
    np.testing.assert_array_equal(compact[rows], songs.targets()[rows])
    assert compact[rows].dtype == np.float32


def test_batches_hold_what_they_say(tiny_catalogue: Path) -> None:
    data = ready(tiny_catalogue)
    targets, source = data.targets("train"), CatalogueFile(tiny_catalogue)
    assert np.isnan(targets[0, 2])
    for batch in data.train_dataloader():
        assert (batch["audio"].shape, batch["audio"].dtype) == ((4, PATCH), torch.int16)
        assert (batch["target"].dtype, batch["song"].dtype) == (torch.float32, torch.int64)
        for audio, target, song in zip(
            batch["audio"].numpy(), batch["target"].numpy(), batch["song"].numpy(), strict=True
        ):
            np.testing.assert_array_equal(target, targets[song])
            whole = source.reader()("", f"audio/{data.song_ids('train')[song]}.wav")
            assert audio.tobytes() in whole.tobytes()
            np.testing.assert_array_equal(data.audio("train", song), whole)


def test_a_songs_patches_do_not_depend_on_other_songs(tiny_catalogue: Path) -> None:
    everybody, some = ready(tiny_catalogue), ready(tiny_catalogue, train_songs=9)
    by_song = {everybody.song_ids("train")[song]: audio for song, audio in patches_of(everybody, 3)}
    assert all(by_song[some.song_ids("train")[song]] == audio for song, audio in patches_of(some, 3))


def test_persistent_workers_learn_of_every_epoch(tiny_catalogue: Path) -> None:
    data = ready(tiny_catalogue, num_workers=2)
    loader = data.train_dataloader()
    seen = []
    for data.epoch in (0, 1, 0):
        seen.append([batch["audio"].numpy().tobytes() for batch in loader])
    assert seen[0] == seen[2]
    assert not set(seen[0]) & set(seen[1])


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_the_batches_of_one_process(world: int) -> None:
    def batches(rank: int, world: int) -> list:
        return list(TrainBatches(range(53), 2, 8, 5, lambda: 7, rank, world))

    alone = batches(0, 1)
    assert len(alone) == 106 // 8
    shares = [batches(rank, world) for rank in range(world)]
    for number, batch in enumerate(alone):
        assert all(share[number].epoch == 7 for share in shares)
        assert all(len(share[number].songs) == 8 // world for share in shares)
        together = sorted(
            (s, d) for share in shares for s, d in zip(share[number].songs, share[number].draws, strict=True)
        )
        assert together == sorted(zip(batch.songs, batch.draws, strict=True))


def test_fewer_songs_than_a_batch_make_one_smaller_batch() -> None:
    (batch,) = TrainBatches(range(5), 1, 32, 0, lambda: 0)
    assert sorted(batch.songs) == [0, 1, 2, 3, 4]
    shares = [list(TrainBatches(range(5), 1, 32, 0, lambda: 0, rank, 2)) for rank in (0, 1)]
    assert [[len(batch.songs) for batch in share] for share in shares] == [[2], [2]]
    with pytest.raises(MusictagError, match="too few for 2 processes"):
        TrainBatches(range(1), 1, 32, 0, lambda: 0, 0, 2)
    with pytest.raises(MusictagError, match=r"batch_size=33 is shared by 2 processes.* 32"):
        TrainBatches(range(50), 1, 33, 0, lambda: 0, 0, 2)


class Recorder(pl.LightningModule):
    """Learns nothing and records what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, bytes]] = []

    def training_step(self, batch: dict, batch_idx: int) -> torch.Tensor:
        self.seen.append((self.current_epoch, batch["audio"].numpy().tobytes()))
        return self.weight * 0

    def validation_step(self, batch: dict, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("after_validation", [False, True])
@pytest.mark.parametrize(("num_workers", "patches"), [(2, None), pytest.param(0, None, marks=pytest.mark.slow), (0, 8)])
def test_a_resumed_run_sees_what_an_uninterrupted_one_would(
    tiny_catalogue: Path, tmp_path: Path, num_workers: int, patches: int | None, after_validation: bool
) -> None:
    """The checkpoint is written at the end of an epoch, or after validation, which is before its end."""

    def train(max_epochs: int, folder: str, checkpoint: str | None = None) -> list[tuple[int, bytes]]:
        recorder = Recorder()
        checkpoints = pl.callbacks.ModelCheckpoint(
            tmp_path / folder, save_last=True, save_on_train_epoch_end=not after_validation
        )
        trainer = pl.Trainer(
            max_epochs=max_epochs, default_root_dir=tmp_path / folder, logger=False, enable_progress_bar=False,
            enable_model_summary=False, accelerator="cpu", use_distributed_sampler=False,
            callbacks=[checkpoints],
        )  # fmt: skip
        data = song_data(tiny_catalogue, num_workers=num_workers, patches_per_epoch=patches)
        trainer.fit(recorder, datamodule=data, ckpt_path=checkpoint)
        return recorder.seen

    whole = train(4, "whole")
    steps = 3 if patches is None else 2
    assert [epoch for epoch, _ in whole] == sorted([0, 1, 2, 3] * steps)
    assert len({audio for _, audio in whole}) == 4 * steps
    begun = train(2, "begun")
    rest = train(4, "begun", checkpoint=str(tmp_path / "begun" / "last.ckpt"))
    assert begun + rest == whole


# evaluation


@pytest.mark.parametrize("mode", ["patches", "whole"])
def test_evaluation_sees_every_sample_of_every_song(tiny_catalogue: Path, mode: str) -> None:
    data = ready(tiny_catalogue, evaluation_mode=mode, eval_batch_size=3, patch_seconds=3)
    songs = [data.audio("test", song) for song in range(7)]
    assert min(map(len, songs)) < data.patch_samples < max(map(len, songs))
    found: dict[int, list[np.ndarray]] = {}
    for batch in data.test_dataloader():
        assert len(batch["song"]) <= 3
        for audio, song in zip(batch["audio"].numpy(), batch["song"].tolist(), strict=True):
            found.setdefault(song, []).append(audio)
    assert sorted(found) == list(range(7))
    for song, patches in found.items():
        whole = songs[song]
        if len(whole) <= data.patch_samples:
            (patch,) = patches
            np.testing.assert_array_equal(patch, np.resize(whole, data.patch_samples))
        elif mode == "whole":
            (patch,) = patches
            np.testing.assert_array_equal(patch, whole)
        else:
            last = len(whole) - data.patch_samples * (len(patches) - 1)
            assert 0 < last <= data.patch_samples
            np.testing.assert_array_equal(np.concatenate([*patches[:-1], patches[-1][-last:]]), whole)
    assert data.audio_seconds("test") == pytest.approx(sum(map(len, songs)) / 16000)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("world", [2, 3])
def test_ranks_evaluate_every_song_once(whole: bool, world: int) -> None:
    lengths = np.random.default_rng(0).choice([900, 1000, 2500, 4000], 20)

    def patches(rank: int, world: int) -> list[tuple[int, int, int]]:
        batches = evaluation_batches(lengths, 1000, 4, whole, rank, world)
        assert all(len(b.songs) * b.patch_samples <= max(4000, b.patch_samples) for b in batches)
        return [
            (s, t, b.patch_samples) for b in batches for s, t in zip(b.songs.tolist(), b.starts.tolist(), strict=True)
        ]

    shares = [patches(rank, world) for rank in range(world)]
    assert sorted(itertools.chain(*shares)) == sorted(patches(0, 1))
    owners = [{song for song, _, _ in share} for share in shares]
    assert sum(map(len, owners)) == 20
    if whole:
        assert len(patches(0, 1)) == 20
    with pytest.raises(MusictagError, match="20 songs cannot be evaluated by 21"):
        evaluation_batches(lengths, 1000, 4, whole, 0, 21)


def test_the_song_average_fits_the_batches(tiny_catalogue: Path) -> None:
    data = ready(tiny_catalogue)
    average = SongAverage(len(data.song_ids("validation")), len(data.tags))
    sums = np.zeros(5)
    counts = np.zeros(5)
    for batch in data.val_dataloader():
        level = batch["audio"].float().abs().mean(dim=1) / 32768
        average.update(batch["song"], level[:, None].expand(-1, 3))
        np.add.at(sums, batch["song"].numpy(), level.numpy())
        np.add.at(counts, batch["song"].numpy(), 1)
    np.testing.assert_allclose(average.compute()[:, 1].numpy(), sums / counts, rtol=1e-5)


# songs and targets


def test_training_subsets_change_nothing_else_and_prepare_no_more(tiny_catalogue: Path) -> None:
    small = ready(tiny_catalogue, train_songs=5)
    assert len(small.store) == 5 + 5 + 7
    large = ready(tiny_catalogue, train_songs=8)
    everything = ready(tiny_catalogue)
    assert set(small.song_ids("train")) < set(large.song_ids("train")) < set(everything.song_ids("train"))
    for split in ("validation", "test"):
        assert small.song_ids(split).tolist() == everything.song_ids(split).tolist()
        np.testing.assert_array_equal(small.targets(split), everything.targets(split))


def test_other_songs_replace_unusable_ones(tiny_catalogue: Path) -> None:
    whole = ready(tiny_catalogue, train_songs=6).song_ids("train")
    order = [str(song) for song in ready(tiny_catalogue).song_ids("train")]
    order = [order[row] for row in subset_order(song_keys(order), 0)]
    assert sorted(order[:6]) == sorted(whole)
    for song in order[:2]:
        (tiny_catalogue.parent / "audio" / f"{song}.wav").write_bytes(b"")
    data = ready(tiny_catalogue, train_songs=6, max_bad_fraction=0.5)
    assert sorted(data.song_ids("train")) == sorted(order[2:8])
    assert {problem[0] for problem in data.problems} == set(order[:2])
    with pytest.raises(
        MusictagError, match="train_songs=11, but there are 12 training songs, 2 or more of them unusable"
    ):
        ready(tiny_catalogue, train_songs=11, max_bad_fraction=0.5)
    with pytest.raises(MusictagError, match="train_songs=13, but there are 12 training songs;"):
        ready(tiny_catalogue, train_songs=13)


def test_normalisation_sees_every_training_song_once(tiny_catalogue: Path) -> None:
    data = ready(tiny_catalogue, eval_batch_size=5)
    blocks = list(data.normalisation_waveforms())
    assert [tuple(block.shape) for block in blocks] == [(5, PATCH), (5, PATCH), (2, PATCH)]
    assert all(block.dtype == torch.float32 and block.abs().max() <= 1 for block in blocks)
    shown = {audio for _, audio in patches_of(data, 0)}
    assert {(row * 32768).to(torch.int16).numpy().tobytes() for block in blocks for row in block} == shown


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"patch_seconds": 0}, "patch_seconds"),
        ({"batch_size": 0}, "batch_size"),
        ({"patches_per_song": 0}, "patches_per_song"),
        ({"train_songs": 0}, "train_songs"),
        ({"num_workers": -1}, "num_workers"),
        ({"evaluation_mode": "songs"}, "choose one of patches, whole"),
    ],
)
def test_settings_out_of_range_are_refused(tiny_catalogue: Path, setting: dict, message: str) -> None:
    with pytest.raises(MusictagError, match=message):
        song_data(tiny_catalogue, **setting)


def test_a_trainer_that_would_replace_the_sampler_says_so(tiny_catalogue: Path) -> None:
    data = ready(tiny_catalogue)
    from pytorch_lightning.utilities.data import _update_dataloader

    loader = data.train_dataloader()
    with pytest.raises(TypeError, match="use_distributed_sampler=False"):
        _update_dataloader(loader, torch.utils.data.DistributedSampler(range(12), 2, 0))
