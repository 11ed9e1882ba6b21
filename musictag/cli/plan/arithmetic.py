"""From numbers to a plan: size, reading, communication, time. Nothing is measured or looked up here.

Names contain the units; GB are 1e9 bytes. The batch is the global one, over all GPUs. *Weak scaling*: the batch per GPU
stays the same while the number of GPUs grows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from musictag.cli.plan.assumptions import PREPARED_BYTES_A_SECOND

#: Gradients and statistics are exchanged as float32, also with mixed precision.
_GRADIENT_BYTES = 4
#: The backward pass's share of a training step: gradients of activations and of weights, after one forward pass.
_BACKWARD_SHARE = 2 / 3
_MIB = 2**20
#: Fitted to `python -m tests.benchmarks million` at other sizes: docs/scaling.md.
INDEX_BASE_BYTES = 900e6
INDEX_SONG_BYTES = 215
INDEX_TAG_BYTES = 4


@dataclass(frozen=True)
class Numbers:
    """The inputs of a plan."""

    songs: int
    song_seconds: float
    split: tuple[float, float, float]
    tags: int
    source_bytes_per_second: float
    decoded_per_second: float | None  # seconds of audio per second and core; None: already prepared
    cores: int

    parameters: int
    batch_norms: int
    patch_seconds: float
    gpu_patches_per_second: float
    evaluation_factor: float  # speed of scoring relative to training

    epochs: int
    patches_per_song: int
    patches_per_epoch: int | None  # instead, if it is given
    batch_size: int
    accumulate: int
    gpus: int  # per node
    nodes: int

    storage_bytes_per_second: float
    storage_reads_per_second: float
    storage_shared: bool
    memory_bytes: float  # per node
    copied_bytes_per_second: float  # by one process, from memory

    link_bytes_per_second: float  # between the GPUs of a node
    link_latency_seconds: float
    network_bytes_per_second: float  # between nodes
    network_latency_seconds: float
    overlap: float
    bucket_mb: float
    sync_batch_norm: bool

    gpu_hour_price: float | None

    @property
    def world(self) -> int:
        return self.gpus * self.nodes


@dataclass(frozen=True)
class Exchange:
    """Communication between the GPUs for one batch. ``seconds``: those in which nothing is computed."""

    bytes_per_step: float  # sent by each GPU
    buckets: int
    gradient_seconds: float
    hidden_seconds: float
    statistics_seconds: float
    seconds: float


@dataclass(frozen=True)
class Reading:
    """Patches per second: limits of storage by bandwidth and by reads, and the rate from storage and memory."""

    bandwidth_bound: float
    reads_bound: float
    memory_bound: float
    cached_share: float
    first_epoch: float
    later_epochs: float


@dataclass(frozen=True)
class Scale:
    """One row of weak scaling. ``limit``: what bounds the speed."""

    gpus: int
    batch_size: float
    patches_per_second: float
    efficiency: float
    limit: str


@dataclass(frozen=True)
class Epoch:
    """Seconds of an epoch, by activity."""

    computing: float
    exchange: float
    waiting: float
    validation: float

    @property
    def seconds(self) -> float:
        return self.computing + self.exchange + self.waiting + self.validation


@dataclass(frozen=True)
class Plan:
    """Everything that follows from ``numbers``."""

    numbers: Numbers
    songs: tuple[int, int, int]  # for training, validation, test
    prepared_bytes: float
    source_bytes: float
    prepare_seconds: dict[str, float]  # by stage; the stages overlap, so the slowest one counts
    index_bytes: float  # per node: every process has one
    patch_bytes: float
    reading: Reading
    exchange: Exchange
    needed_patches_per_second: float
    decoding_cores: float | None  # if patches were decoded again each time
    patches_per_epoch: int
    steps_per_epoch: int
    first_epoch: Epoch
    later_epoch: Epoch
    test_seconds: float
    scaling: tuple[Scale, ...]

    @property
    def training_seconds(self) -> float:
        """All epochs and the test, without preparation."""
        return self.first_epoch.seconds + (self.numbers.epochs - 1) * self.later_epoch.seconds + self.test_seconds

    @property
    def gpu_hours(self) -> float:
        return self.training_seconds / 3600 * self.numbers.world

    @property
    def price(self) -> float | None:
        rate = self.numbers.gpu_hour_price
        return None if rate is None else self.gpu_hours * rate


def make_plan(numbers: Numbers) -> Plan:
    """Compute everything."""
    songs = split_songs(numbers.songs, numbers.split)
    all_seconds = numbers.songs * numbers.song_seconds
    prepared, source = all_seconds * PREPARED_BYTES_A_SECOND, all_seconds * numbers.source_bytes_per_second
    index = numbers.gpus * index_bytes(numbers.songs, numbers.tags)
    reading = read_patches(numbers, numbers.world, prepared, index)
    exchanged = exchange(numbers, numbers.world)
    needed = _step_rate(numbers, numbers.world)
    patches = numbers.patches_per_epoch or songs[0] * numbers.patches_per_song
    steps = max(1, patches // numbers.batch_size)
    decoded = numbers.decoded_per_second
    return Plan(
        numbers=numbers,
        songs=songs,
        prepared_bytes=prepared,
        source_bytes=source,
        prepare_seconds=_prepare_seconds(numbers, prepared, source),
        index_bytes=index,
        patch_bytes=numbers.patch_seconds * PREPARED_BYTES_A_SECOND,
        reading=reading,
        exchange=exchanged,
        needed_patches_per_second=needed,
        decoding_cores=None if decoded is None else needed * numbers.patch_seconds / decoded,
        patches_per_epoch=patches,
        steps_per_epoch=steps,
        first_epoch=_epoch(numbers, songs, patches, steps, reading.first_epoch, 0.0),
        later_epoch=_epoch(numbers, songs, patches, steps, reading.later_epochs, reading.cached_share),
        test_seconds=_scoring_seconds(numbers, songs[2], reading.cached_share),
        scaling=tuple(_scaling(numbers, prepared, index)),
    )


def split_songs(songs: int, split: tuple[float, float, float]) -> tuple[int, int, int]:
    """The numbers of songs for training, validation and test."""
    validation, test = (round(songs * share) for share in split[1:])
    return songs - validation - test, validation, test


def index_bytes(songs: int, tags: int) -> float:
    """Memory of one process with an open catalogue: libraries, songs, targets."""
    return INDEX_BASE_BYTES + songs * (INDEX_SONG_BYTES + tags * INDEX_TAG_BYTES)


def exchange(numbers: Numbers, world: int) -> Exchange:
    """Communication between ``world`` GPUs: ring all-reduce of the gradients, and the small exchanges within a step."""
    share, latency = numbers.batch_size / numbers.world, numbers.link_latency_seconds
    speed = numbers.link_bytes_per_second
    if world > numbers.gpus:
        # a ring is as slow as its slowest link
        speed = min(speed, numbers.network_bytes_per_second)
        latency = max(latency, numbers.network_latency_seconds)
    gradient_bytes = _GRADIENT_BYTES * numbers.parameters
    buckets = math.ceil(gradient_bytes / (numbers.bucket_mb * _MIB))
    sent = 2 * (world - 1) / world * gradient_bytes
    gradient_seconds = sent / speed + buckets * 2 * (world - 1) * latency
    hidden = min(gradient_seconds, numbers.overlap * _BACKWARD_SHARE * share / numbers.gpu_patches_per_second)
    # in a tree: each batch norm in both passes, and the number of known targets; they block the computation
    small = (2 * numbers.batch_norms * numbers.sync_batch_norm + 1) * 2 * math.ceil(math.log2(world)) * latency
    seconds = (gradient_seconds - hidden) / numbers.accumulate + small
    return Exchange(sent, buckets, gradient_seconds, hidden, small, seconds)


def read_patches(numbers: Numbers, world: int, prepared_bytes: float, index: float) -> Reading:
    """How many patches ``world`` GPUs can be fed with."""
    patch_bytes = numbers.patch_seconds * PREPARED_BYTES_A_SECOND
    drives = 1 if numbers.storage_shared else math.ceil(world / numbers.gpus)
    bandwidth = drives * numbers.storage_bytes_per_second / patch_bytes
    reads = drives * numbers.storage_reads_per_second
    memory = world * numbers.copied_bytes_per_second / patch_bytes
    # every node samples from all songs
    cached = min(1.0, max(0.0, numbers.memory_bytes - index) / prepared_bytes)
    first = min(bandwidth, reads)
    later = math.inf if cached == 1 else first / (1 - cached)
    return Reading(bandwidth, reads, memory, cached, min(first, memory), min(later, memory))


def _step_rate(numbers: Numbers, world: int) -> float:
    """Patches per second of ``world`` GPUs that never wait for audio."""
    share = numbers.batch_size / numbers.world
    return world * share / (share / numbers.gpu_patches_per_second + exchange(numbers, world).seconds)


def _prepare_seconds(numbers: Numbers, prepared: float, source: float) -> dict[str, float]:
    if numbers.decoded_per_second is None:
        return {}
    return {
        "decoding": numbers.songs * numbers.song_seconds / (numbers.cores * numbers.decoded_per_second),
        "reading the files": source / numbers.storage_bytes_per_second,
        "writing": prepared / numbers.storage_bytes_per_second,
    }


def _epoch(numbers: Numbers, songs: tuple[int, int, int], patches: int, steps: int, fed: float, cached: float) -> Epoch:
    """``fed``: patches per second from storage and memory; ``cached``: share of the audio that is in memory."""
    batch = min(numbers.batch_size, patches)
    computing = steps * batch / numbers.world / numbers.gpu_patches_per_second
    exchanged = steps * exchange(numbers, numbers.world).seconds
    waiting = max(0.0, steps * batch / fed - computing - exchanged)
    return Epoch(computing, exchanged, waiting, _scoring_seconds(numbers, songs[1], cached))


def _scoring_seconds(numbers: Numbers, songs: int, cached: float) -> float:
    """Time to score whole songs in consecutive patches, read sequentially."""
    patches = songs * math.ceil(numbers.song_seconds / numbers.patch_seconds)
    computing = patches / (numbers.world * numbers.gpu_patches_per_second * numbers.evaluation_factor)
    drives = 1 if numbers.storage_shared else numbers.nodes
    unread = (1 - cached) * songs * numbers.song_seconds * PREPARED_BYTES_A_SECOND
    return max(computing, unread / (drives * numbers.storage_bytes_per_second))


def _scaling(numbers: Numbers, prepared: float, index: float) -> Iterator[Scale]:
    """1, 2, 4, ... GPUs, those of one node, and all of them."""
    world = numbers.world
    sizes = {2**power for power in range(world.bit_length())} | {numbers.gpus, world}
    for size in sorted(sizes):
        computed, fed = _step_rate(numbers, size), read_patches(numbers, size, prepared, index).later_epochs
        rate = min(computed, fed)
        alone = size * numbers.gpu_patches_per_second
        limit = "reading" if fed < computed else "exchange" if computed < alone / 2 else "computing"
        yield Scale(size, numbers.batch_size / world * size, rate, rate / alone, limit)
