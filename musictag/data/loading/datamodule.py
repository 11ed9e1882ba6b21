"""Songs for training and evaluation: from a data source to batches of int16 patches.

Legend: B patches, S songs, N samples, K tags.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from musictag.common.errors import MusictagError
from musictag.common.processes import rank_and_world
from musictag.common.progress import tell
from musictag.data.audio.decode import to_float
from musictag.data.catalogue.copies import DUPLICATES_FILE
from musictag.data.datasets import Source
from musictag.data.features.patch_features import PatchEmbedder, PatchFeatures, stored_patch_features
from musictag.data.loading.checks import (
    check_learnable,
    check_splits,
    overlap_of_splits,
    unlearnt_tags,
    warn_of_evaluation,
)
from musictag.data.loading.patch_datasets import EvaluationPatches, TrainPatches
from musictag.data.loading.prefetch import batch_loader
from musictag.data.loading.samplers import TrainBatches, check_patches, evaluation_batches
from musictag.data.loading.unlabelled import TRAINED, MixedBatches, Unlabelled
from musictag.data.manifest import SPLITS, Manifest, Tag
from musictag.data.preparation.blocks import PROBLEMS_FILE
from musictag.data.preparation.prepare import Prepared, prepare
from musictag.data.random_draws import patch_starts_of_epoch, song_keys, subset_order
from musictag.data.store.store import Store

EVALUATION_MODES = ("patches", "whole")
_NORMALISATION_SONGS = 1024
_STORED_PATCHES = 4096  # with stored features at once in evaluation


class SongDataModule(pl.LightningDataModule):
    """The songs of ``source``, prepared below ``data_dir``, by Lightning or by ``prepare_data()`` and ``setup()``.

    Training batches are ``{"audio": int16 B×N, "target": float32 B×K (NaN: unknown), "song", "draw": int64 B}`` with
    ``patches_per_song`` random patches of ``patch_seconds`` per song and epoch, or with ``patches_per_epoch`` of all
    songs together; a pure function of (seed, epoch, song). ``batch_size`` counts the patches of all processes together.
    ``train_songs`` trains on that many usable songs, a nested subset for each ``subset_seed`` (default: ``seed``), with
    all tags, learnable or not (see ``unlearnt_tags``); validation and test do not depend on it, and the other songs are
    not prepared. ``sampler`` makes a TrainBatches from its keyword arguments. A share of each batch is ``unlabelled``:
    songs with unknown targets, whose rows follow those of the training songs (see MixedBatches).

    Validation and test batches are ``{"audio", "song"}`` of up to ``eval_batch_size`` patches (default:
    ``batch_size``): every song's consecutive patches (section 2 of the paper), or with ``evaluation_mode="whole"`` each
    song in one pass. ``song`` is the song's row within its split, as in ``song_ids``, ``targets`` and ``song_average``.
    Under torch.distributed every process evaluates its own songs, without padding; a Trainer needs
    ``use_distributed_sampler=False``.

    Raises MusictagError here for settings out of range; from ``prepare_data`` or ``setup`` for an empty split, more
    ``train_songs`` than there are, and songs that teach no tag.
    """

    # from ``setup`` on
    manifest: Manifest  #: the usable songs of all splits; for training only those that are trained on
    tags: tuple[Tag, ...]  #: without those lost with unusable songs
    unlearnt_tags: tuple[str, ...]  #: without positive, negative or known examples among the training songs
    store: Store
    problems: list[tuple[str, str, str]]  #: songs that cannot be used: (song_id, path, reason)

    def __init__(
        self,
        source: Source,
        data_dir: str | Path,
        *,
        patch_seconds: float,
        sample_rate: int = 16000,
        batch_size: int = 32,
        patches_per_song: int = 1,
        patches_per_epoch: int | None = None,
        train_songs: int | None = None,
        seed: int = 0,
        subset_seed: int | None = None,
        num_workers: int = 2,
        eval_batch_size: int | None = None,
        evaluation_mode: str = "patches",
        prepare_workers: int | None = None,
        max_bad_fraction: float = 0.1,
        sampler: Callable[..., TrainBatches] = TrainBatches,
        unlabelled: Unlabelled | None = None,
    ) -> None:
        super().__init__()
        self.source = source
        self.sample_rate = sample_rate
        self.patch_samples = round(patch_seconds * sample_rate)
        #: margin around the patch in the audio of every batch, as the model's front-end requires
        self.margin_samples = (0, 0)
        #: stored features of each split's songs, to take the place of audio in every batch (see ``use_features``)
        self.features: dict[str, PatchFeatures] | None = None
        self._taught: tuple[PatchFeatures, int] | None = None
        #: the split whose songs a Trainer's test scores
        self.tested = "test"
        #: read when an epoch begins without a Trainer
        self.epoch = 0
        self._data_dir = Path(data_dir)
        self._batch_size = batch_size
        self._patches_per_song, self._patches_per_epoch = patches_per_song, patches_per_epoch
        self._train_songs = train_songs
        self._seed = seed
        self._subset_seed = seed if subset_seed is None else subset_seed
        self._num_workers = num_workers
        self._eval_batch_size = batch_size if eval_batch_size is None else eval_batch_size
        self._whole_songs = evaluation_mode == "whole"
        self._prepare_workers = prepare_workers or os.cpu_count() or 1
        self._max_bad_fraction = max_bad_fraction
        self._sampler = sampler
        self._unlabelled = unlabelled
        self._begun = {"epoch": -1, "batches": 0}  # the epoch of the checkpoint, and its batches so far
        self._prepared: Prepared | None = None
        self._splits: dict[str, Manifest] | None = None
        self._rows: dict[str, np.ndarray] = {}
        at_least_one = {
            "patch_seconds": self.patch_samples,
            "batch_size": batch_size,
            "patches_per_song": patches_per_song,
            "patches_per_epoch": 1 if patches_per_epoch is None else patches_per_epoch,
            "train_songs": 1 if train_songs is None else train_songs,
            "eval_batch_size": self._eval_batch_size,
            "num_workers": num_workers + 1,
        }
        if wrong := [name for name, value in at_least_one.items() if value < 1]:
            raise MusictagError(f"{', '.join(wrong)}: too small")
        check_patches(patches_per_song, patches_per_epoch, batch_size)
        if unlabelled is not None:
            unlabelled.check(train_songs, batch_size)
        if evaluation_mode not in EVALUATION_MODES:
            raise MusictagError(f"evaluation_mode={evaluation_mode}; choose one of {', '.join(EVALUATION_MODES)}")

    # preparation

    def prepare_data(self) -> Prepared:
        """Decode what is missing, once; at most one process per machine works, and the others wait."""
        if self._prepared is None:  # Lightning asks again before each training and test
            self._prepared = self._prepare()
        return self._prepared

    def setup(self, stage: str | None = None) -> None:
        """Open the store and check songs and tags, once for all stages."""
        if self._splits is not None:
            return
        manifest = self.prepare_data().manifest
        if unusable := self._prepared.problems:
            left = ", ".join(f"{len(manifest.split(split)):,} {split}" for split in SPLITS)
            where = self._prepared.store.folder / PROBLEMS_FILE
            tell(f"{len(unusable):,} songs cannot be used ({where} says why); {left} songs are left")
        if self._train_songs is None:  # subsets of the training songs keep all tags
            manifest = self.source.tag_choice.learnable(manifest)
        splits = {split: manifest.split(split) for split in SPLITS}
        check_splits(splits, "usable", self.source.advice_on_splits)
        splits[TRAINED] = splits["train"]
        if self._unlabelled is not None:
            splits["train"], splits[TRAINED] = self._unlabelled.divided(
                manifest, self._prepared.firsts, self._train_songs, self._subset_seed
            )
        self.unlearnt_tags = tuple(unlearnt_tags(splits["train"]))
        warn_of_evaluation(manifest, splits, self._prepared.firsts, self._prepared.store.folder / DUPLICATES_FILE)
        self.manifest, self.tags, self._splits = manifest, manifest.tags, splits
        self.store, self.problems = self._prepared.store, self._prepared.problems
        # Arrow would keep the memory that reading the tables took: 300 MB for a million songs
        pa.default_memory_pool().release_unused()

    def _prepare(self) -> Prepared:
        manifest = every = self.source.learnable_manifest()
        if self._unlabelled is None and (left_out := len(every) - len(manifest := every.labelled())):
            rank_zero_warn(f"{left_out:,} unlabelled songs are not used, as only a teacher can use them (teacher=...)")
        splits = {split: manifest.split(split) for split in SPLITS}
        check_splits(splits, "in the manifest", self.source.advice_on_splits)
        if self._train_songs is None:
            return self._prepare_songs(manifest)
        order = manifest.rows("train")[subset_order(song_keys(splits["train"].song_ids), self._subset_seed)]
        check_learnable(manifest.select(order[: self._train_songs]))
        taken = max(self._train_songs, len(order) if self._unlabelled and self._unlabelled.which else 0)
        while taken <= len(order):
            prepared = self._prepare_songs(manifest.select(np.delete(np.arange(len(manifest)), order[taken:])))
            missing = self._train_songs - len(prepared.manifest.split("train"))
            if missing <= 0:
                return prepared
            taken += missing  # the next songs in order replace unusable ones
        unusable = taken - self._train_songs
        raise MusictagError(
            f"train_songs={self._train_songs}, but there are {len(order)} training songs"
            + (f", {unusable} or more of them unusable" if unusable else "")
            + "; use fewer, or omit train_songs to use all"
        )

    def _prepare_songs(self, manifest: Manifest) -> Prepared:
        return prepare(
            self.source,
            self._data_dir,
            manifest=manifest,
            workers=self._prepare_workers,
            max_bad_fraction=self._max_bad_fraction,
            sample_rate=self.sample_rate,
        )

    # songs and targets

    @property
    def overlap(self) -> dict[str, int | None]:
        """How many recordings and groups of songs are in more than one split: ``overlap_of_splits``."""
        return overlap_of_splits(self.manifest, self._prepared.firsts)

    def song_ids(self, split: str) -> np.ndarray:
        """Identifiers of the split's songs: S strings. TRAINED: of all songs in the batches of training."""
        return self._splits[split].song_ids

    def targets(self, split: str) -> np.ndarray:
        """Targets of the split's songs: float32 S×K, NaN if unknown."""
        return self._splits[split].targets()

    def audio(self, split: str, song: int) -> np.ndarray:
        """A whole song, int16 N, by its row within the split."""
        return self.store.read(int(self._store_rows(split)[song]))

    def audio_seconds(self, split: str) -> float:
        """Total length of a split's songs, in seconds."""
        return float(self.store.num_samples[self._store_rows(split)].sum() / self.sample_rate)

    def normalisation_waveforms(self, size: int | None = None) -> Iterator[Tensor]:
        """Blocks of training audio (float32 B×N): one patch from each of up to 1,024 songs, chosen by the seed, with
        ``size`` of them in a block (default: ``eval_batch_size``)."""
        ids = self.song_ids("train")
        chosen = ids[subset_order(song_keys(ids), self._seed)[:_NORMALISATION_SONGS]]
        rows, keys = self.store.rows_of(chosen), song_keys(chosen)
        draws = np.zeros(len(rows), dtype=np.int64)
        starts = patch_starts_of_epoch(keys, draws, self.store.num_samples[rows], self.patch_samples, self._seed, 0)
        size = self._eval_batch_size if size is None else size
        for i in range(0, len(rows), size):
            block = slice(i, i + size)
            audio = self.store.patches(rows[block], starts[block], self.patch_samples, self.margin_samples)
            yield torch.from_numpy(to_float(audio))

    # batches

    def use_features(self, embedder: PatchEmbedder) -> None:
        """Let batches have ``features``, float16 B×H, in place of ``audio``: what ``embedder`` computes of the songs'
        consecutive patches, stored beside the audio. Raises MusictagError as ``stored_patch_features`` does."""
        ids = [self.song_ids(split) for split in SPLITS]
        found = stored_patch_features(self.store, np.concatenate(ids), embedder)
        self.features = dict(zip(SPLITS, found.in_parts([len(songs) for songs in ids]), strict=True))

    def use_teacher(self, embedder: PatchEmbedder, patch_samples: int) -> None:
        """Let training batches have ``taught`` (see TrainPatches): what ``embedder``, with patches of so many samples,
        computes of the consecutive patches, stored beside the audio. Raises MusictagError as ``use_features`` does."""
        self._taught = stored_patch_features(self.store, self.song_ids(TRAINED), embedder), patch_samples

    def train_dataloader(self) -> DataLoader:
        rank, world = rank_and_world()
        songs, trained = self._splits["train"], self._splits[TRAINED]
        others, sampler = trained.select(np.arange(len(songs), len(trained))), self._sampler
        if len(others):
            number = self._unlabelled.check(self._train_songs, self._batch_size, world)
            sampler = partial(MixedBatches, self._sampler, others, number)
        batches = sampler(
            songs=songs, patches_per_song=self._patches_per_song, batch_size=self._batch_size, seed=self._seed,
            epoch=self._current_epoch, rank=rank, world=world, patches_per_epoch=self._patches_per_epoch,
            first_batch=lambda epoch: self._begun["batches"] if epoch == self._begun["epoch"] else 0,
        )  # fmt: skip
        if self.features is not None:
            return self._loader(TrainPatches(*self._read("train"), songs, 1, self._seed), batches)
        patches = TrainPatches(
            *self._read(TRAINED), trained, self.patch_samples, self._seed, self.margin_samples, len(songs), self._taught
        )
        return self._loader(patches, batches)

    def val_dataloader(self) -> DataLoader:
        return self._evaluation_loader("validation")

    def test_dataloader(self) -> DataLoader:
        return self._evaluation_loader(self.tested)

    def _evaluation_loader(self, split: str) -> DataLoader:
        rank, world = rank_and_world()
        num_samples = self.store.num_samples[self._store_rows(split)]
        size = self._eval_batch_size if self.features is None else _STORED_PATCHES
        batches = evaluation_batches(num_samples, self.patch_samples, size, self._whole_songs, rank, world)
        return self._loader(EvaluationPatches(*self._read(split), self.margin_samples), batches)

    def _loader(self, dataset: Dataset, batches: Any) -> DataLoader:
        # stored features are in memory
        return batch_loader(dataset, batches, self._num_workers if self.features is None else 0)

    def _read(self, split: str) -> tuple[Store | PatchFeatures, np.ndarray]:
        """What patches of a split come from, and its rows there."""
        if self.features is None:
            return self.store, self._store_rows(split)
        return self.features[split], np.arange(len(self._splits[split]))

    def state_dict(self) -> dict[str, int]:
        """For a Trainer's checkpoints: the epoch, and how many of its batches have been trained on."""
        if self.trainer is None:
            return {}
        return {"epoch": self.trainer.current_epoch, "batches": self.trainer.fit_loop.epoch_loop.batch_idx + 1}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue a checkpoint's epoch, unless it was finished, after these batches."""
        self._begun = dict(state_dict)

    def _current_epoch(self) -> int:
        return self.epoch if self.trainer is None else self.trainer.current_epoch

    def _store_rows(self, split: str) -> np.ndarray:
        if split not in self._rows:
            self._rows[split] = self.store.rows_of(self._splits[split].column("song_id"))
        return self._rows[split]
