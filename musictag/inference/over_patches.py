"""Running a network over the patches of songs: the same cutting for tagging, taggrams and embeddings.

Songs arrive in blocks of samples and are cut as they come; a batch may hold patches of several songs.
Legend: B patches, N samples.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain, groupby
from operator import itemgetter
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from musictag.common.errors import MusictagError
from musictag.data.audio.decode import AudioSource
from musictag.data.audio.patches import fit_length, patch_starts
from musictag.inference.many_songs import Song, Work, one_result
from musictag.inference.tagger import Tagger, Taggram
from musictag.models.network import TaggingNetwork

BATCH_SECONDS = 64  # audio per batch; bounds the memory
_BLOCK_SECONDS = 60  # of a song in memory
MOST_AT_ONCE = 8  # batches; more take more memory, and songs are hardly read that fast

Result = TypeVar("Result")
_Batch = list[tuple["PatchedSong", np.ndarray]]


def in_memory(patches: Patches[Result], audio: np.ndarray) -> Result:
    """What ``patches`` make of a song in memory, mono int16 (N)."""
    song, size = patches.begin(), round(_BLOCK_SECONDS * patches.network.sample_rate)
    try:
        for first in range(0, len(audio), size):
            song.add(audio[first : first + size])
        song.end()
        while not song.is_complete:
            patches.run()
    finally:
        patches.stop()
    return song.result()


class Patches(Work[Result]):
    """Songs as patches, ``hop_samples`` apart, through ``network``, whose ``compute`` returns one row per patch.

    ``compute`` gets batches of patches, B×N float32 including margins, with ``network`` in evaluation mode. The result
    of a song is ``finish`` of the start samples of its patches (B) and their rows. A song shorter than a patch is
    repeated to fill it. An error in a batch costs the song that causes it; without enough memory it is a MusictagError.
    """

    threads = 0  #: of new ones on a CPU, that score a batch each; 0: one batch after the other, in this thread

    def __init__(
        self,
        network: TaggingNetwork | PatchTagger,
        compute: Callable[[Any], Any],
        hop_samples: int,
        finish: Callable[[np.ndarray, np.ndarray], Result],
    ) -> None:
        super().__init__(compute)
        self.network, self.hop_samples, self.finish = network, hop_samples, finish
        self._at_once = max(1, int(BATCH_SECONDS * network.sample_rate / network.input_samples))
        self._waiting: _Batch = []
        self._running: deque[tuple[_Batch, Future[list[np.ndarray | Exception]]]] = deque()
        self.threads = self.threads if self.threads and next(network.parameters()).device.type == "cpu" else 0
        self._pool = ThreadPoolExecutor(self.threads, "musictag-batch") if self.threads else None

    def begin(self) -> PatchedSong[Result]:
        return PatchedSong(self)

    def add(self, song: PatchedSong, patches: np.ndarray) -> None:
        """More patches of a song, B×N int16; runs full batches."""
        self._waiting += ((song, patch) for patch in patches)
        while len(self._waiting) >= self._at_once:
            batch, self._waiting = self._waiting[: self._at_once], self._waiting[self._at_once :]
            self._start(batch)
        while self._running and (len(self._running) > self.threads or self._running[0][1].done()):
            self._finish()  # one more than there are threads waits: it is ready when one ends

    def run(self) -> None:
        if not self._running:  # what is left is shared out
            waiting, self._waiting = self._waiting, []
            share = -(-len(waiting) // max(1, self.threads))
            for first in range(0, len(waiting), share):
                self._start(waiting[first : first + share])
        self._finish()

    def stop(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _start(self, batch: _Batch) -> None:
        if self._pool is None:
            future: Future = Future()
            future.set_result(self._scored(batch))
        else:
            future = self._pool.submit(self._scored, batch)
        self._running.append((batch, future))

    def _finish(self) -> None:
        batch, future = self._running.popleft()
        for (song, _), row in zip(batch, future.result(), strict=True):
            if isinstance(row, Exception):
                song.error = row
            else:
                song.rows.append(row)

    def _scored(self, batch: _Batch) -> list[np.ndarray | Exception]:
        """A row for every patch, or what went wrong with its song."""
        try:
            return list(self._rows(np.stack([patch for _, patch in batch])))
        except Exception as error:
            songs = [list(patches) for _, patches in groupby(batch, key=itemgetter(0))]
            return [error] * len(batch) if len(songs) == 1 else list(chain.from_iterable(map(self._scored, songs)))

    @torch.inference_mode()
    def _rows(self, patches: np.ndarray) -> np.ndarray:
        with evaluating(self.network):
            block = torch.from_numpy(patches).to(next(self.network.parameters()).device)
            try:
                return self._compute(block.float() / 32768).cpu().numpy()
            except (RuntimeError, MemoryError) as error:
                if isinstance(error, RuntimeError) and "memory" not in str(error):
                    raise
                raise MusictagError("this network needs more memory than is available") from error


class PatchedSong(Song[Result]):
    """One song, of which only what the next patches need is kept in memory."""

    def __init__(self, patches: Patches[Result]) -> None:
        self.rows: list[np.ndarray] = []
        self._patches, network = patches, patches.network
        self._hop, self._patch, self._input = patches.hop_samples, network.patch_samples, network.input_samples
        self._margins = network.margin_samples
        self._starts: np.ndarray | None = None
        #: samples from ``_first`` on, counted with the margin before the song
        self._held, self._first, self._num_samples = np.zeros(self._margins[0], np.int16), 0, 0
        self._cut = 0  # patches

    def add(self, block: np.ndarray) -> None:
        self._held = np.concatenate([self._held, block])
        self._num_samples += len(block)
        last = self._first + len(self._held) - self._input
        self._send(np.arange(self._cut * self._hop, last + 1, self._hop))
        needed = min(self._cut * self._hop, max(0, self._num_samples - self._patch)) - self._first
        self._held, self._first = self._held[max(0, needed) :], self._first + max(0, needed)

    def end(self) -> None:
        left, right = self._margins
        if self._num_samples < self._patch:
            self._held = np.concatenate([self._held[:left], fit_length(self._held[left:], self._patch)])
        self._held = np.concatenate([self._held, np.zeros(right, np.int16)])
        self._starts = patch_starts(self._num_samples, self._patch, self._hop)
        self._send(self._starts[self._cut :])
        self._held = self._held[:0]

    def _send(self, starts: np.ndarray) -> None:
        if len(starts):
            inputs = np.lib.stride_tricks.sliding_window_view(self._held, self._input)
            self._cut += len(starts)
            self._patches.add(self, inputs[starts - self._first])

    @property
    def is_complete(self) -> bool:
        return self.error is not None or (self._starts is not None and len(self.rows) == len(self._starts))

    def result(self) -> Result:
        if self.error is not None:
            raise self.error
        return self._patches.finish(self._starts, np.stack(self.rows))


class PatchTagger(Tagger):
    """A tagger that hears songs patch by patch: a song's score is the mean over its patches (section 2 of the paper); a
    song shorter than a patch is repeated to fill it. Sizes are in samples."""

    patch_samples: int
    margin_samples: tuple[int, int]  # before and after a patch, as in ``FrontEnd``
    _hop_samples: int | None = None  # between the patches of a score; None: consecutive ones

    @abstractmethod
    def patches(self, hop_samples: int, finish: Callable[[np.ndarray, np.ndarray], Result]) -> Patches[Result]:
        """Songs as patches, whose rows are scores; see ``Patches``."""

    @property
    def input_samples(self) -> int:
        return self.patch_samples + sum(self.margin_samples)

    def set_hop(self, hop_seconds: float) -> None:
        self._hop_samples = self._samples(hop_seconds)

    def work(self) -> Patches[np.ndarray]:
        return self.patches(self._hop_samples or self.patch_samples, lambda _, rows: rows.mean(axis=0))

    def predict_song(self, audio: np.ndarray) -> np.ndarray:
        return in_memory(self.work(), audio)

    def taggram(self, source: AudioSource, hop_seconds: float | None = None) -> Taggram:
        hop_seconds = self.patch_samples / self.sample_rate if hop_seconds is None else hop_seconds
        patches = self.patches(self._samples(hop_seconds), lambda starts, rows: (starts, rows))
        starts, scores = one_result(patches, source, self.sample_rate)
        return Taggram(times=starts / self.sample_rate, tags=self.tag_names, scores=scores)

    def _samples(self, hop_seconds: float) -> int:
        samples = round(hop_seconds * self.sample_rate) if math.isfinite(hop_seconds) else 0
        if samples < 1:
            raise MusictagError(f"hop_seconds={hop_seconds}; it must be at least one sample, {1 / self.sample_rate} s")
        return samples


@contextmanager
def side_by_side() -> Iterator[None]:
    """Inside the context networks on a CPU score several batches at once, between which torch's threads are divided.

    Several threads on one batch wait for each other at every layer, the longer the more else there is to do, such as
    decoding. For whole processes: also elsewhere, torch has fewer threads inside.
    """
    threads = torch.get_num_threads()
    Patches.threads = min(threads, MOST_AT_ONCE)
    torch.set_num_threads(threads // Patches.threads)
    try:
        yield
    finally:
        Patches.threads = 0
        torch.set_num_threads(threads)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the context; every layer's mode is restored afterwards."""
    training = [layer for layer in module.modules() if layer.training]
    module.eval()
    try:
        yield
    finally:
        for layer in training:
            layer.training = True
