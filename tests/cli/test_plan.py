"""The arithmetic of `musictag plan`, computed by hand beside it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from musictag.cli.plan.advice import bottleneck, warnings
from musictag.cli.plan.arithmetic import Numbers, exchange, index_bytes, make_plan

#: Two nodes of four GPUs, with round numbers.
BY_HAND = Numbers(
    songs=10_000,
    song_seconds=30.0,
    split=(0.8, 0.1, 0.1),
    tags=50,
    source_bytes_per_second=16_000,
    decoded_per_second=500.0,
    cores=4,
    parameters=25_000_000,
    batch_norms=10,
    patch_seconds=3.0,
    gpu_patches_per_second=100.0,
    evaluation_factor=3.0,
    epochs=10,
    patches_per_song=1,
    patches_per_epoch=None,
    batch_size=64,
    accumulate=1,
    gpus=4,
    nodes=2,
    storage_bytes_per_second=10e6,
    storage_reads_per_second=1_000,
    storage_shared=False,
    memory_bytes=0.0,
    copied_bytes_per_second=4.8e9,
    link_bytes_per_second=25e9,
    link_latency_seconds=5e-6,
    network_bytes_per_second=2.5e9,
    network_latency_seconds=10e-6,
    overlap=0.5,
    bucket_mb=25.0,
    sync_batch_norm=True,
    gpu_hour_price=3.0,
)


def test_sizes_and_preparation_are_those_computed_by_hand() -> None:
    plan = make_plan(BY_HAND)
    assert plan.songs == (8_000, 1_000, 1_000)
    assert plan.prepared_bytes == 10_000 * 30 * 32_000
    assert plan.source_bytes == 10_000 * 30 * 16_000
    assert plan.patch_bytes == 96_000
    # 300,000 s of music, four cores; 4.8 GB to read and 9.6 GB to write at 10 MB a second
    assert plan.prepare_seconds == {"decoding": 150, "reading the files": 480, "writing": 960}
    assert plan.index_bytes == 4 * index_bytes(10_000, 50)
    assert index_bytes(1_200_000, 139) - index_bytes(0, 139) == 1_200_000 * (215 + 4 * 139)


def test_the_exchange_is_that_computed_by_hand() -> None:
    both = exchange(BY_HAND, 8)
    assert both.bytes_per_step == 2 * 7 / 8 * 100e6  # of 25 million float32
    assert both.buckets == 4  # 100 MB in buckets of 25 x 1,048,576 bytes
    assert both.gradient_seconds == pytest.approx(175e6 / 2.5e9 + 4 * 14 * 10e-6)
    assert both.hidden_seconds == pytest.approx(0.5 * 2 / 3 * 8 / 100)
    # 10 batch norms twice and the number of targets, three levels up and down a tree of eight
    assert both.statistics_seconds == pytest.approx(21 * 6 * 10e-6)
    assert both.seconds == pytest.approx(0.07056 - 0.0266667 + 0.00126, rel=1e-5)

    within_a_node = exchange(BY_HAND, 4)
    assert within_a_node.gradient_seconds == pytest.approx(150e6 / 25e9 + 4 * 6 * 5e-6)
    assert within_a_node.statistics_seconds == pytest.approx(21 * 4 * 5e-6)
    assert within_a_node.hidden_seconds == within_a_node.gradient_seconds  # all of it
    alone = exchange(BY_HAND, 1)
    assert (alone.bytes_per_step, alone.seconds) == (0, 0)

    twice = exchange(replace(BY_HAND, accumulate=2), 8)
    assert twice.seconds == pytest.approx((0.07056 - 0.0266667) / 2 + 0.00126, rel=1e-5)
    unsynchronised = exchange(replace(BY_HAND, sync_batch_norm=False), 8)
    assert unsynchronised.statistics_seconds == pytest.approx(6 * 10e-6)


def test_reading_and_time_are_those_computed_by_hand() -> None:
    plan = make_plan(BY_HAND)
    step = 8 / 100 + exchange(BY_HAND, 8).seconds
    assert plan.needed_patches_per_second == pytest.approx(64 / step)
    assert plan.decoding_cores == pytest.approx(64 / step * 3 / 500)
    assert plan.reading.bandwidth_bound == pytest.approx(2 * 10e6 / 96_000)
    assert plan.reading.reads_bound == 2_000
    assert plan.reading.memory_bound == 8 * 50_000
    assert plan.reading.first_epoch == plan.reading.later_epochs == plan.reading.bandwidth_bound
    assert (plan.patches_per_epoch, plan.steps_per_epoch) == (8_000, 125)
    epoch = plan.later_epoch
    assert epoch.computing == pytest.approx(10.0)
    assert epoch.exchange == pytest.approx(125 * exchange(BY_HAND, 8).seconds)
    assert epoch.computing + epoch.exchange + epoch.waiting == pytest.approx(8_000 * 96_000 / 20e6)
    # 1,000 songs of ten patches would take 10,000 / 2,400 s, but reading them takes longer
    assert epoch.validation == plan.test_seconds == pytest.approx(1_000 * 30 * 32_000 / 20e6)
    assert plan.training_seconds == pytest.approx(10 * (38.4 + 48) + 48)
    assert plan.gpu_hours == pytest.approx(912 / 3600 * 8)
    assert plan.price == pytest.approx(3 * 912 / 3600 * 8)
    assert bottleneck(plan) == "scoring the validation songs"
    assert bottleneck(make_plan(replace(BY_HAND, split=(0.98, 0.01, 0.01)))) == "storage: bandwidth"

    shared = make_plan(replace(BY_HAND, storage_shared=True))
    assert shared.reading.bandwidth_bound == pytest.approx(10e6 / 96_000)
    few_reads = make_plan(replace(BY_HAND, storage_reads_per_second=10, split=(0.98, 0.01, 0.01)))
    assert few_reads.reading.later_epochs == 20
    assert bottleneck(few_reads) == "storage: reads per second"


def test_audio_that_fits_in_memory_is_read_from_storage_once() -> None:
    index = 4 * index_bytes(10_000, 50)
    half = make_plan(replace(BY_HAND, memory_bytes=index + 4.8e9))
    assert half.reading.cached_share == pytest.approx(0.5)
    assert half.reading.later_epochs == pytest.approx(2 * half.reading.first_epoch)
    whole = make_plan(replace(BY_HAND, memory_bytes=index + 9.6e9))
    assert whole.reading.cached_share == 1
    assert whole.reading.later_epochs == 8 * 50_000
    assert whole.later_epoch.waiting == 0
    assert whole.later_epoch.validation == pytest.approx(10_000 / (8 * 100 * 3))
    assert whole.first_epoch == make_plan(BY_HAND).first_epoch
    assert bottleneck(whole) == "computing on the GPUs"
    slow_copies = make_plan(replace(BY_HAND, memory_bytes=index + 9.6e9, copied_bytes_per_second=96_000))
    assert slow_copies.reading.later_epochs == 8
    assert bottleneck(slow_copies) == "copying patches from memory (one process per GPU)"


def test_weak_scaling_keeps_the_share_of_every_gpu() -> None:
    fast = replace(BY_HAND, storage_bytes_per_second=1e12, storage_reads_per_second=1e9)
    rows = make_plan(replace(fast, gpus=3)).scaling
    assert [row.gpus for row in rows] == [1, 2, 3, 4, 6]
    assert [row.batch_size for row in rows] == pytest.approx([64 / 6 * row.gpus for row in rows])
    rows = make_plan(fast).scaling
    assert [row.gpus for row in rows] == [1, 2, 4, 8]
    assert rows[0].efficiency == 1
    for row in rows:
        seconds = 8 / 100 + exchange(fast, row.gpus).seconds
        assert row.patches_per_second == pytest.approx(8 * row.gpus / seconds)
        assert row.efficiency == pytest.approx(0.08 / seconds)
        assert row.limit == "computing"
    assert make_plan(replace(fast, network_bytes_per_second=1e8)).scaling[-1].limit == "exchange"
    assert make_plan(BY_HAND).scaling[-1].limit == "reading"


@pytest.mark.parametrize("storage", [5e6, 1e9, 1e12])
@pytest.mark.parametrize("network", [1e8, 2.5e9])
@pytest.mark.parametrize("overlap", [0.0, 1.0])
def test_more_gpus_are_never_slower_by_more_than_they_exchange(storage: float, network: float, overlap: float) -> None:
    numbers = replace(
        BY_HAND, storage_bytes_per_second=storage, network_bytes_per_second=network, overlap=overlap, batch_size=128
    )
    sizes = [(1, 1), (2, 1), (4, 1), (4, 2), (4, 4), (4, 8)]
    plans = [make_plan(replace(numbers, gpus=gpus, nodes=nodes)) for gpus, nodes in sizes]
    for fewer, more in pairwise(plans):
        added = numbers.epochs * (more.later_epoch.exchange - fewer.later_epoch.exchange)
        assert more.training_seconds <= fewer.training_seconds + max(0.0, added) + 1e-9
        assert more.later_epoch.computing == pytest.approx(
            fewer.later_epoch.computing * fewer.numbers.world / more.numbers.world
        )


def test_warnings_say_what_to_type() -> None:
    good = replace(BY_HAND, storage_bytes_per_second=1e12, storage_reads_per_second=1e9)
    assert not list(warnings(make_plan(good)))

    def told(**changes: Any) -> str:
        (warning,) = warnings(make_plan(replace(good, **changes)))
        return warning

    assert "100 = 12 x 8 + 4; use --batch-size 96 or 104" in told(batch_size=100)
    few = list(warnings(make_plan(replace(good, batch_size=6))))
    assert "6 = 0 x 8 + 6; use --batch-size 8" in few[0]
    assert "(6 / 8 = 0.75)" in few[1]
    assert "use --batch-size 64" in few[1]
    assert "(56 / 8 = 7)" in told(batch_size=56)
    small = told(songs=50, gpu_patches_per_second=0.01)
    assert "(40 songs x 1 = 40) than a batch (64)" in small
    few = told(patches_per_epoch=20, gpu_patches_per_second=0.01)
    assert "fewer patches (20) than a batch (64)" in few
    assert "raise --patches-per-epoch, or" in few
    assert "shorter than a patch of 3 s" in told(song_seconds=2.0)
    assert "need 3.6 GB for the index of the songs, more than the 2 GB of a node" in told(memory_bytes=2e9)
    assert "get 208: faster storage, or memory for 10 GB" in next(warnings(make_plan(BY_HAND)))
    assert told(cores=1, decoded_per_second=1.0).startswith("preparing the audio takes longer than training")


def test_less_than_a_batch_is_one_smaller_step() -> None:
    plan = make_plan(replace(BY_HAND, songs=50, storage_bytes_per_second=1e12, storage_reads_per_second=1e9))
    assert (plan.patches_per_epoch, plan.steps_per_epoch) == (40, 1)
    assert plan.later_epoch.computing == pytest.approx(40 / 800)
