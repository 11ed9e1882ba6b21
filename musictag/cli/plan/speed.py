"""How fast one GPU trains and one core decodes: recorded by a finished run, measured on this machine, or estimated."""

from __future__ import annotations

import csv
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from musictag.cli.plan.assumptions import PRECISIONS, PROCESSORS, Assumption, choose
from musictag.common.errors import MusictagError
from musictag.common.timing import median_seconds
from musictag.data.audio.decode import read_song
from musictag.experiment.identity import number_of_devices
from musictag.experiment.results.files import read_results
from musictag.models.network import TaggingNetwork
from musictag.models.summary import Sketch
from musictag.training.losses import BCE

#: Forward and backward relative to forward alone: the backward pass computes gradients of activations and of weights.
TRAINING_FLOPS = 3
UNIT = "patches / s"
_DECODED_SECONDS = 60
_REPETITIONS = 5


def read_run(folder: str) -> dict[str, Any]:
    """``metrics.json`` of a network's finished run. Raises MusictagError if there is none."""
    metrics = read_results(Path(folder))
    if metrics is None:
        raise MusictagError(
            f"--run {folder} is not the folder of a finished run (metrics.json is missing); give one such as "
            "--run runs/songbook/spectrogram-residual-0123abcd"
        )
    if metrics.get("epochs") is None:
        raise MusictagError(f"--run {folder} is not trained in epochs; use the run of a network, not of a baseline")
    return metrics


def speed_of_run(folder: str, metrics: dict[str, Any]) -> Assumption:
    """Patches per second and device, from ``history.csv``, without the first epoch (warm-up) if there are several."""
    path = Path(folder) / "history.csv"
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [(int(row["patches"]), float(row["seconds"])) for row in csv.DictReader(file)]
        rows = rows[1:] or rows
        patches, seconds = (sum(column) for column in zip(*rows, strict=True))
        rate = patches / seconds
    except (OSError, KeyError, ValueError, TypeError, ZeroDivisionError) as error:
        raise MusictagError(
            f"{path} does not contain the number of patches and the training time ({error}); give --patches-per-second"
        ) from error
    trainer = metrics["config"]["trainer"]
    if (devices := number_of_devices(trainer["devices"])) is None:
        raise MusictagError(
            f"--run {folder} used trainer.devices={trainer['devices']}, which does not tell how many GPUs "
            "shared the work; give --patches-per-second for one of them"
        )
    devices *= int(trainer["num_nodes"])
    return Assumption(
        rate / devices, UNIT, f"measured by {folder}: {devices} device{'s' * (devices > 1)} ({metrics['device']})"
    )


def estimated_speed(model: Sketch, precision: str, name: str, peak: float | None, utilisation: float) -> Assumption:
    """From the model's FLOPs and a share of the peak (TFLOP/s; None: that of the GPU ``name``)."""
    what = f"{peak:g} TFLOP/s" if peak is not None else ""
    if peak is None:
        kind = PRECISIONS[precision]
        peak = getattr(choose(PROCESSORS, name, "--gpu-model", "--peak-tflops"), kind)
        if peak is None:
            raise MusictagError(
                f"--gpu-model {name} does not support {kind}; use --precision 16-mixed, or give --peak-tflops"
            )
        what = f"{peak:g} TFLOP/s of {name} in {kind}"
    training = TRAINING_FLOPS * model.flops
    if not training:
        raise MusictagError("this network has no convolution or matrix product to count; give --patches-per-second")
    return Assumption(
        peak * 1e12 * utilisation / training,
        UNIT,
        f"ESTIMATED, not measured: {what} x {utilisation:g} / ({TRAINING_FLOPS} x {model.flops / 1e9:.3g} GFLOP)",
    )


def measured_speed(model: Sketch, batch_size: int, precision: str) -> Assumption:
    """From the median time of training steps on this machine's device, from int16 patches to Adam's update."""
    device = torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.mps.is_available() else "cpu")
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    network = TaggingNetwork(**model.spec)
    audio = torch.from_numpy(rng.integers(-3000, 3000, (batch_size, network.input_samples), dtype=np.int16))
    network.fit_normalisation([_waveform(audio)])
    network.to(device)
    targets = torch.zeros(batch_size, len(network.tag_names), device=device)
    loss_of = BCE()
    optimiser = torch.optim.Adam(network.parameters())
    dtype = getattr(torch, PRECISIONS[precision])

    def train() -> None:
        optimiser.zero_grad()
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            loss = loss_of(network(_waveform(audio.to(device))), targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        loss.item()  # waits for the device

    rate = batch_size / median_seconds(train)
    name = torch.cuda.get_device_name() if device.type == "cuda" else device.type
    threads = f" with {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    return Assumption(rate, UNIT, f"measured here: steps of {batch_size} patches, {precision}, on {name}{threads}")


def measured_decoding(form: str) -> Assumption:
    """Seconds of 44.1 kHz stereo that one core of this machine decodes and resamples per second."""
    rate = 44_100
    times = np.arange(rate * _DECODED_SECONDS) / rate
    noise = np.random.default_rng(0).normal(0, 0.01, (len(times), 2))
    # decaying notes of half a second over quiet noise
    decay = np.exp(-6 * (times % 0.5))
    tones = sum(np.sin(2 * np.pi * pitch * times) for pitch in (220, 554, 880))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"song.{form}"
        soundfile.write(path, 0.2 * (tones * decay)[:, None] + noise, rate)
        # CPU time, not wall-clock time: other processes may be running
        seconds = statistics.median(_core_seconds(path) for _ in range(_REPETITIONS))
    return Assumption(
        _DECODED_SECONDS / seconds, "s of audio / s and core", f"measured here: {form} of 44.1 kHz stereo, one core"
    )


def _core_seconds(path: Path) -> float:
    began = time.process_time()
    read_song(path)
    return time.process_time() - began


def _waveform(audio: torch.Tensor) -> torch.Tensor:
    return audio.to(torch.float32) / 32768.0
