"""Training step and inference of a preset on a device, beside what the device could do.

Legend: B patches, N samples, K tags.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from itertools import cycle, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import DeviceType

from musictag.common.errors import MusictagError
from musictag.experiment.compose import compose
from musictag.models.network import TaggingNetwork
from musictag.training.instantiate import make, make_partial
from musictag.training.losses import Loss
from musictag.training.module import to_waveform
from tests.benchmarks.gpu.work import Work, work_of

_TAGS = 50
_WARM_UP = 3
_SECONDS = 0.4  # of measuring, and at least _LEAST steps
_LEAST = 7
_CLIP = 5.0
_LONGEST = 12
#: batches in turn, so that none is still in the cache
_BATCHES = 3
PRECISIONS = ("float32", "tf32", "bf16")
WAYS = ("eager", "tuned", "channels_last", "compiled", "graphs")
COLUMNS = (
    "preset", "patch s", "batch", "precision", "how", "mode", "ms", "audio s / s", "TFLOP / s", "GFLOP", "GB unfused",
    "GB fused", "roofline %", "roofline fused %", "peak MB", "first call s",
)  # fmt: skip
PROFILE_COLUMNS = ("preset", "patch s", "batch", "precision", "how", "where", "what", "calls", "ms", "share %")


class Case(NamedTuple):
    """One configuration.

    ``precision``: float32, tf32 or bf16 (autocast, the rest in tf32). ``how``: eager; tuned (cuDNN tries algorithms);
    channels_last (tuned, and images of that layout); compiled (tuned, with torch.compile); graphs (the same with
    mode="reduce-overhead": CUDA graphs).
    """

    preset: str
    patch_seconds: float
    batch: int
    precision: str
    how: str

    @classmethod
    def parse(cls, text: str) -> Case:
        """From the five values with blanks between; raises MusictagError for others."""
        try:
            preset, seconds, batch, precision, how = text.split()
            case = cls(preset, float(seconds), int(batch), precision, how)
        except ValueError:
            case = None
        if case is None or case.precision not in PRECISIONS or case.how not in WAYS:
            raise MusictagError(
                f"{text!r} is no case; use for example 'pons_waveform 3 128 bf16 eager': preset, seconds of a patch, "
                f"batch, one of {', '.join(PRECISIONS)}, one of {', '.join(WAYS)}"
            )
        return case


class Rates(NamedTuple):
    """What the device does at best: bytes moved per second, and FLOP per second of each precision."""

    bytes: float
    flop: dict[str, float]

    @classmethod
    def measure(cls, device: torch.device, copied: int = 2**31, side: int = 8192) -> Rates:
        """A copy of ``copied`` bytes, and a product of two random ``side``² matrices."""
        flop = {}
        for precision in PRECISIONS:
            dtype = torch.bfloat16 if precision == "bf16" else torch.float32
            a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
            with arithmetic(precision, tuned=False):
                flop[precision] = 2 * side**3 / timed(partial(torch.mm, a, b), device)[0]
        del a, b
        source = torch.empty(copied, dtype=torch.uint8, device=device).random_()
        target = torch.empty_like(source)
        return cls(2 * copied / timed(partial(target.copy_, source), device)[0], flop)


@contextmanager
def arithmetic(precision: str, tuned: bool) -> Iterator[None]:
    """Products of float32 in TF32 unless ``precision`` is float32; PyTorch's default is TF32 in convolutions only."""
    cudnn = torch.backends.cudnn
    before = torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark
    torch.set_float32_matmul_precision("highest" if precision == "float32" else "high")
    cudnn.allow_tf32, cudnn.benchmark = precision != "float32", tuned
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        cudnn.allow_tf32, cudnn.benchmark = before[1:]


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(work: Callable[[], Any], device: torch.device, seconds: float = _SECONDS) -> tuple[float, float]:
    """Seconds per call, the median, measured by the device itself and with many calls queued; and of the first call."""
    wait(device)
    began = time.perf_counter()
    work()
    wait(device)
    first = time.perf_counter() - began
    began = time.perf_counter()
    for _ in range(_WARM_UP):
        work()
    wait(device)
    repetitions = max(_LEAST, min(200, int(seconds * _WARM_UP / max(time.perf_counter() - began, 1e-6))))
    if device.type != "cuda":
        marks = [time.perf_counter()]
        for _ in range(repetitions):
            work()
            marks.append(time.perf_counter())
        return statistics.median(b - a for a, b in pairwise(marks)), first
    events = [torch.cuda.Event(enable_timing=True) for _ in range(repetitions + 1)]
    events[0].record()
    for event in events[1:]:
        work()
        event.record()
    wait(device)
    return statistics.median(a.elapsed_time(b) for a, b in pairwise(events)) / 1000, first


def patch_seconds(preset: str) -> float:
    return _config(preset)["data"]["patch_seconds"]


@cache
def _config(preset: str) -> dict[str, Any]:
    return compose([f"model={preset}"])


class Steps:
    """A preset with its data: ``training()`` and ``inference()`` take a step."""

    def __init__(self, case: Case, device: torch.device) -> None:
        torch.manual_seed(0)
        config = _config(case.preset)
        tags = [{"name": f"tag {number}"} for number in range(_TAGS)]
        with torch.device(device):
            self.network = TaggingNetwork(config["frontend"], config["backend"], tags, case.patch_seconds)
            shape = (case.batch, self.network.input_samples)
            audio = [torch.randn(shape).mul_(3000).to(torch.int16) for _ in range(_BATCHES)]
            self._targets = (torch.rand(case.batch, _TAGS) < 0.1).float()
        self._audio = cycle(audio)
        self.network.fit_normalisation([to_waveform(audio[0][:32])])
        if case.how == "channels_last":
            self.network.to(memory_format=torch.channels_last)
        # the run's own optimiser and loss
        self._optimizer = make_partial("optimizer", config["optimizer"])(self.network.parameters())
        self._loss, self._graphs = make("loss", config["loss"], Loss), case.how == "graphs"
        self._autocast = torch.autocast(device.type, torch.bfloat16, enabled=case.precision == "bf16")

    def compile(self) -> None:
        self.network.compile(dynamic=False, mode="reduce-overhead" if self._graphs else None)

    def training(self) -> None:
        self._optimizer.zero_grad()
        with self._autocast:
            error = self._loss(self._logits(), self._targets)
        error.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), _CLIP)
        self._optimizer.step()

    def inference(self) -> None:
        with torch.no_grad(), self._autocast:
            self.network.probabilities(self._logits())

    def _logits(self) -> Tensor:
        if self._graphs:
            torch.compiler.cudagraph_mark_step_begin()
        return self.network(to_waveform(next(self._audio)))


def rows_of(case: Case, device: torch.device, rates: Rates) -> Iterator[tuple[Any, ...]]:
    """The rows of a case: training, then inference."""
    steps = Steps(case, device)
    with arithmetic(case.precision, tuned=case.how != "eager"):
        for mode in ("training", "inference"):
            steps.network.train(mode == "training")
            step = getattr(steps, mode)
            work = _work((*case[:-1], mode), step)
            if mode == "training" and case.how in ("compiled", "graphs"):  # now: compiled code does not dispatch
                steps.compile()
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            seconds, first = timed(step, device)
            peak = torch.cuda.max_memory_allocated() / 1e6 if device.type == "cuda" else None
            yield (*case, mode, *_figures(case, work, seconds, rates), peak, first)


def profile_of(case: Case, device: torch.device) -> Iterator[tuple[Any, ...]]:
    """Where a training step spends the device's time: the longest operations and, within them, kernels."""
    steps = Steps(case, device)
    with arithmetic(case.precision, tuned=case.how != "eager"):
        if case.how in ("compiled", "graphs"):
            steps.compile()
        timed(steps.training, device)
        with torch.profiler.profile() as profiler:
            for _ in range(_WARM_UP):
                steps.training()
            wait(device)
    events = profiler.key_averages()
    for kind in (DeviceType.CPU, DeviceType.CUDA):
        chosen = [event for event in events if event.device_type == kind]
        time_of = (lambda event: event.self_device_time_total) if device.type == "cuda" else _cpu_time
        total = sum(time_of(event) for event in chosen)
        for event in sorted(chosen, key=time_of, reverse=True)[:_LONGEST]:
            ms = time_of(event) / 1000 / _WARM_UP
            yield (*case, kind.name, event.key[:90], event.count / _WARM_UP, ms, 100 * time_of(event) / total)


def _cpu_time(event: Any) -> float:
    return event.self_cpu_time_total


_counted: dict[tuple, Work] = {}


def _work(key: tuple, step: Callable[[], None]) -> Work:
    """Counted once for all ways to run the same step, in the first of them that is not compiled."""
    if key not in _counted:
        _counted[key] = work_of(step)
    return _counted[key]


def _figures(case: Case, work: Work, seconds: float, rates: Rates) -> tuple[float, ...]:
    by_flop = work.flop / rates.flop[case.precision]
    unfused, fused = (100 * max(by_flop, moved / rates.bytes) / seconds for moved in (work.bytes, work.fused_bytes))
    return (
        1000 * seconds, case.batch * case.patch_seconds / seconds, work.flop / seconds / 1e12, work.flop / 1e9,
        work.bytes / 1e9, work.fused_bytes / 1e9, unfused, fused,
    )  # fmt: skip
