"""What the time of a network on one thread of a CPU is spent on, in inference and in a training step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import torch
from torch.profiler import ProfilerActivity, profile

from musictag.common.processes import keep_freed_memory
from tests.benchmarks.figures import Figure
from tests.benchmarks.inference import BATCH_SECONDS, network_of
from tests.benchmarks.million import in_fresh_process
from tests.benchmarks.training import training_step

_MODELS = ("pons_waveform", "pons_spectrogram")
_STEPS = 5
#: Kinds of work, and words in the names of PyTorch's operations for them; the first that fits counts.
_KINDS = {
    "convolutions, backward": ("convolution_backward",),
    "convolutions": ("conv",),
    "products of matrices": ("linear", "mm", "matmul"),
    "pooling and maxima": ("pool", "amax", "max", "where"),
    "batch norm": ("batch_norm",),
    "Fourier transform": ("fft",),
    "copying": ("copy", "cat", "contiguous", "clone", "pad", "fill", "zero"),
    "optimiser": ("adam",),
}
_REST = "other operations, most of them element by element"


def benchmark() -> Iterator[Figure]:
    """Milliseconds of a batch of 48 s by kind of work, the dearest first."""
    for name in _MODELS:
        for mode, work in (("inference form", _inference), ("training step", _training)):
            for kind, milliseconds in in_fresh_process(_by_kind, work, name):
                yield Figure(f"{name}, {mode}: {kind}", milliseconds, "ms")


def _by_kind(make: Callable[[str], Callable[[], object]], name: str) -> list[tuple[str, float]]:
    torch.set_num_threads(1)
    keep_freed_memory()
    work = make(name)
    for _ in range(2):
        work()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(_STEPS):
            work()
    found: Counter[str] = Counter()
    for event in profiler.key_averages():
        words = event.key.lower()
        kind = next((kind for kind, names in _KINDS.items() if any(word in words for word in names)), _REST)
        found[kind] += event.self_cpu_time_total / 1000 / _STEPS
    return found.most_common()


def _inference(name: str) -> Callable[[], object]:
    network = network_of(name)
    form = network.inference_form()
    waveform = 0.1 * torch.randn(round(BATCH_SECONDS / network.patch_seconds), network.input_samples)

    def work() -> None:
        with torch.inference_mode():
            form(waveform)

    return work


def _training(name: str) -> Callable[[], object]:
    return training_step(f"model={name}", "fused")
