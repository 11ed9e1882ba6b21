"""How much faster the inference form of a network is than the network itself, how near to the processor's limit, and
how much of its speed remains when songs come from files.
"""

from __future__ import annotations

import math
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from musictag.experiment.compose import compose
from musictag.inference.network_tagger import NetworkTagger
from musictag.models.inference_form import has_bfloat16
from musictag.models.network import TaggingNetwork
from tests.benchmarks.figures import Figure
from tests.benchmarks.prepare import Kind as FileKind
from tests.benchmarks.prepare import MadeFiles

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
BATCH_SECONDS = 48
_REPETITIONS = 7
_TAGS = 50
_MATRIX = 1024
#: These presets tag files.
_PIPELINES = ("pons_waveform", "musicnn")
FILES = FileKind("MP3 44.1 kHz stereo, 30 s", (30.0, 30.0), 44100, 2, 200)


def benchmark() -> Iterator[Figure]:
    """Each preset on one CPU thread of a process of its own: plain and inference form in turn, median of the ratios."""
    for name in _PRESETS:
        ratio, audio_rate, share, build, bfloat16 = _apart(_compare, name)
        yield Figure(f"{name}: plain / inference form", ratio, "x")
        yield Figure(f"{name}: inference form", audio_rate, "s of audio / s")
        yield Figure(f"{name}: operations of the plain network, of a large matrix product's rate", share, "%")
        yield Figure(f"{name}: making the form", build, "ms")
        if not math.isnan(bfloat16):
            yield Figure(f"{name}: inference form, float32 / bfloat16", bfloat16, "x")

    for name in _PIPELINES:
        alone, ahead, in_turn = _apart(_tag_files, name)
        yield Figure(f"{name}: {FILES.name}, to scores", ahead, "songs / s")
        yield Figure(f"{name}: of the rate of songs in memory", 100 * ahead / alone, "%")
        yield Figure(f"{name}: of the same, without reading ahead", 100 * in_turn / alone, "%")


def _apart(work: Callable[[str], tuple[float, ...]], name: str) -> tuple[float, ...]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, name).result()


def _tag_files(name: str) -> tuple[float, float, float]:
    """Songs a second, from memory, from files read ahead, and from files in turn; an eighth of the files at a time."""
    tagger = NetworkTagger(network_of(name))
    with tempfile.TemporaryDirectory() as folder:
        made = MadeFiles(Path(folder), FILES, FILES.songs)
        paths = [str(Path(folder) / path) for path in made.manifest().paths]
        audio = [tagger.read(path) for path in paths[:4]]
        rates: list[list[float]] = [[], [], []]
        for number in range(8):  # alternating, so that load affects all of them
            some = paths[number::8]
            for rate, work in zip(
                rates,
                (
                    lambda: [tagger.predict_song(audio[n % 4]) for n in range(len(some))],  # noqa: B023
                    lambda: list(tagger.tag_many(some)),  # noqa: B023
                    lambda: [tagger.tag(path) for path in some],  # noqa: B023
                ),
                strict=True,
            ):
                began = time.perf_counter()
                work()
                rate.append(len(some) / (time.perf_counter() - began))
    alone, ahead, in_turn = map(statistics.median, rates)
    return alone, ahead, in_turn


def network_of(name: str) -> TaggingNetwork:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = compose([f"model={name}"])
    tags = [{"name": f"tag {number}"} for number in range(_TAGS)]
    patch_seconds = _PRESETS[name] or config["data"]["patch_seconds"]
    network = TaggingNetwork(config["frontend"], config["backend"], tags, patch_seconds).eval()
    network.fit_normalisation([0.1 * torch.randn(1, network.input_samples)])
    return network


def _compare(name: str) -> tuple[float, ...]:
    network = network_of(name)
    waveform = 0.1 * torch.randn(round(BATCH_SECONDS / network.patch_seconds), network.input_samples)
    form = network.inference_form()
    kinds = [lambda: network(waveform), lambda: form(waveform), lambda: left @ right]
    if has_bfloat16(torch.device("cpu")):
        half = network.inference_form("bf16-mixed")
        kinds.append(lambda: half(waveform))
    left, right = torch.randn(_MATRIX, _MATRIX), torch.randn(_MATRIX, _MATRIX)
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            network(waveform)
        for work in kinds:
            work()
        times = [[_seconds(work) for work in kinds] for _ in range(_REPETITIONS)]
        build = statistics.median(_seconds(network.inference_form) for _ in range(_REPETITIONS))
    ratio = statistics.median(plain / fast for plain, fast, *_ in times)
    rates = (counter.get_total_flops() / fast / (2 * _MATRIX**3 / product) for _, fast, product, *_ in times)
    audio_rate = len(waveform) * network.patch_seconds / statistics.median(fast for _, fast, *_ in times)
    bfloat16 = statistics.median(fast / halved for _, fast, _, halved in times) if len(kinds) == 4 else math.nan
    return ratio, audio_rate, 100 * statistics.median(rates), 1e3 * build, bfloat16


def _seconds(work: Callable[[], object]) -> float:
    """Of this thread's processor time: other processes on the machine distort it less."""
    began = time.thread_time()
    work()
    return time.thread_time() - began
