"""How much faster the inference form of a network is than the network itself, and how near to the processor's limit."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor

import torch
from torch.utils.flop_counter import FlopCounterMode

from musictag.experiment.compose import compose
from musictag.models.network import TaggingNetwork
from tests.benchmarks.figures import Figure

#: Presets, with the length of their patches in seconds if it is not their own.
_PRESETS: dict[str, float | None] = {
    "pons_waveform": 3.0,
    "pons_spectrogram": 3.0,
    "waveform_small": None,
    "spectrogram_small": None,
    "samplecnn": None,
    "musicnn": None,
    "short_chunk": None,
    "vgg": None,
}
_BATCH_SECONDS = 48
_REPETITIONS = 7
_TAGS = 50
_MATRIX = 1024


def benchmark() -> Iterator[Figure]:
    """Each preset on one CPU thread of a process of its own: plain and inference form in turn, median of the ratios."""
    for name, patch_seconds in _PRESETS.items():
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            ratio, audio_rate, share, build = pool.submit(_compare, name, patch_seconds).result()
        yield Figure(f"{name}: plain / inference form", ratio, "x")
        yield Figure(f"{name}: inference form", audio_rate, "s of audio / s")
        yield Figure(f"{name}: operations of the plain network, of a large matrix product's rate", share, "%")
        yield Figure(f"{name}: making the form", build, "ms")


def _compare(name: str, patch_seconds: float | None) -> tuple[float, float, float, float]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = compose([f"model={name}"])
    patch_seconds = patch_seconds or config["data"]["patch_seconds"]
    tags = [{"name": f"tag {number}"} for number in range(_TAGS)]
    network = TaggingNetwork(config["frontend"], config["backend"], tags, patch_seconds).eval()
    waveform = 0.1 * torch.randn(round(_BATCH_SECONDS / patch_seconds), network.input_samples)
    network.fit_normalisation([waveform[:1]])
    form = network.inference_form()
    left, right = torch.randn(_MATRIX, _MATRIX), torch.randn(_MATRIX, _MATRIX)
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            network(waveform)
        form(waveform)
        times = [
            [_seconds(work) for work in (lambda: network(waveform), lambda: form(waveform), lambda: left @ right)]
            for _ in range(_REPETITIONS)
        ]
        build = statistics.median(_seconds(network.inference_form) for _ in range(_REPETITIONS))
    ratio = statistics.median(plain / fast for plain, fast, _ in times)
    rates = (counter.get_total_flops() / fast / (2 * _MATRIX**3 / product) for _, fast, product in times)
    audio_rate = len(waveform) * patch_seconds / statistics.median(fast for _, fast, _ in times)
    return ratio, audio_rate, 100 * statistics.median(rates), 1e3 * build


def _seconds(work: Callable[[], object]) -> float:
    """Of this thread's processor time: other processes on the machine distort it less."""
    began = time.thread_time()
    work()
    return time.thread_time() - began
