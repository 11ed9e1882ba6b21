"""What the fast paths of training on a CPU gain: each figure beside the plain way, from processes of their own."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch

from musictag.common.processes import keep_freed_memory
from musictag.experiment.compose import compose
from musictag.models.network import TaggingNetwork
from musictag.training.losses import BCE
from musictag.training.optimizers import make_optimizer
from tests.benchmarks.figures import Figure
from tests.benchmarks.million import in_fresh_process

_COMPILED = ("model=waveform_tiny", "model=spectrogram_tiny", "model=waveform_small", "model=spectrogram_small")
_MODELS = ("model=waveform_small", "model=spectrogram_small", "frontend=waveform", "frontend=spectrogram")
_BATCH, _PATCH_SECONDS, _TAGS = 16, 3.0, 50
_STEPS = 7
_BUSY_STEPS = 5
_THREADS = 2


def benchmark() -> Iterator[Figure]:
    """Training steps of forward, backward and Adam, in float32: on one thread, and on two beside a busy process."""
    for name in _MODELS:
        (before,) = in_fresh_process(_steps, name, False, ("plain",))
        plain, fused = in_fresh_process(_steps, name, True, ("plain", "fused"))
        audio = _BATCH * _PATCH_SECONDS
        what = f"{name}, batches of {_BATCH} x {_PATCH_SECONDS:g} s"
        yield Figure(f"{what}: plain layers, memory returned to the system", audio / before, "s of audio / s")
        yield Figure(f"{what}: plain layers, memory kept", audio / plain, "s of audio / s")
        yield Figure(f"{what}: as trained", audio / fused, "s of audio / s")
        yield Figure(f"{what}: as trained, over the plain layers in the same process", plain / fused, "x")
    for name in _COMPILED:
        fused, compiled = in_fresh_process(_steps, name, True, ("fused", "compiled"))
        yield Figure(f"{name}: compiled, over as trained in the same process", fused / compiled, "x")
    for busy in (False, True):
        for policy in (None, "PASSIVE"):
            seconds = _on_two_threads(policy, busy)
            threads = f"{_THREADS} threads that {'sleep' if policy else 'spin'}{' beside a busy process' * busy}"
            yield Figure(f"{_MODELS[1]}, {threads}: a step", seconds * 1000, "ms")


def _steps(name: str, keep_memory: bool, kinds: tuple[str, ...], threads: int = 1, steps: int = _STEPS) -> list[float]:
    """Seconds of a training step, medians, for each of ``kinds``, interleaved."""
    torch.set_num_threads(threads)
    if keep_memory:
        keep_freed_memory()
    step = {kind: training_step(name, kind) for kind in kinds}
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(steps + 1):
        for kind in kinds:
            began = time.perf_counter()
            step[kind]()
            if number:
                seconds[kind].append(time.perf_counter() - began)
    return [statistics.median(seconds[kind]) for kind in kinds]


def training_step(name: str, kind: str) -> Callable[[], None]:
    config = compose([name])
    torch.manual_seed(0)
    tags = [{"name": f"tag {number}", "kind": "classification"} for number in range(_TAGS)]
    network = TaggingNetwork(config["frontend"], config["backend"], tags, _PATCH_SECONDS)
    waveform = 0.1 * torch.randn(_BATCH, network.input_samples)
    network.fit_normalisation([waveform])
    weights, targets, loss = list(network.parameters()), torch.zeros(_BATCH, _TAGS), BCE()
    if kind == "plain":
        for layer in network.modules():
            layer.register_forward_hook(_ignore)  # with hooks, the layers run one by one
        optimizer = torch.optim.Adam(weights, lr=1e-5)
    else:
        optimizer = make_optimizer(partial(torch.optim.Adam, lr=1e-5), weights)
    if kind == "compiled":
        network.compile()

    def step() -> None:
        optimizer.zero_grad()
        loss(network(waveform), targets).backward()
        optimizer.step()

    return step


def _ignore(*_: object) -> None:
    pass


def _on_two_threads(policy: str | None, busy: bool) -> float:
    """Seconds of a step in a process with this OMP_WAIT_POLICY; None: the default."""
    work = f"_steps({_MODELS[1]!r}, True, ('fused',), {_THREADS}, {_BUSY_STEPS})[0]"
    # threads of torch read the variable when it is imported
    command = [sys.executable, "-c", f"from tests.benchmarks.training import _steps; print({work})"]
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
    try:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
        environment |= {"OMP_WAIT_POLICY": policy} if policy else {}
        return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    finally:
        if other is not None:
            other.kill()
            other.wait()
