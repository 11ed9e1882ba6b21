"""A trained network as a file for other programs: ONNX or torch.export, with a certificate inside.

Legend: B patches, N samples, F mel bands, T frames, K tags.
"""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from musictag.common.errors import MusictagError
from musictag.common.files import atomic_write
from musictag.common.text import reason
from musictag.data.audio.patches import fit_length
from musictag.inference.network_tagger import NetworkTagger
from musictag.inference.onnx_tagger import FORMAT, INPUT, LOG_MEL, OUTPUT, OnnxTagger, certified, libraries
from musictag.models.frontends.spectrogram_base import SpectrogramFrontEnd
from musictag.models.inference_form import MaxOverTime
from musictag.models.network import TaggingNetwork

FORMATS = {"onnx": ".onnx", "torch-export": ".pt2"}
#: Largest allowed difference of a score from PyTorch's.
TOLERANCE = 1e-4
#: Name of the certificate in a file of torch.export.
CERTIFICATE_FILE = "musictag.json"
_COMPARED_PATCHES = 64  # of a song


@dataclass(frozen=True)
class Exported:
    """What ``export`` makes: an onnx.ModelProto or an ExportedProgram, and its certificate."""

    program: Any
    certificate: dict[str, Any]

    def content(self) -> bytes:
        """The file, if it is ONNX."""
        return certified(self.program, self.certificate)

    def save(self, path: Path) -> None:
        """Write the file, atomically."""
        with atomic_write(path) as file:
            if isinstance(self.program, torch.export.ExportedProgram):
                extra = {CERTIFICATE_FILE: json.dumps(self.certificate)}
                torch.export.save(self.program, file, extra_files=extra)
            else:
                file.write(self.content())


class _Scores(nn.Module):
    """What the file takes, waveform B×N or log-mel B×F×T -> scores B×K."""

    def __init__(self, network: TaggingNetwork, is_apart: bool) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        if is_apart:
            self.network.frontend.log_mel = nn.Identity()
        for module in list(self.network.modules()):
            for name, child in list(module.named_children()):
                if type(child) is nn.MaxPool1d:  # with it torch.export takes the length for fixed
                    setattr(module, name, MaxOverTime(child))

    def forward(self, given: Tensor) -> Tensor:
        return self.network.probabilities(self.network(given))


def export(
    tagger: NetworkTagger,
    kind: str = "onnx",
    songs: Iterable[np.ndarray] = (),
    licence: str | None = None,
    log_mel: str = "inside",
    compared_on: str = "",
) -> Exported:
    """The network of ``tagger`` in one of FORMATS.

    It takes float32 waveforms in [-1, 1] at the rate of the tagger, B×N, and returns scores, B×K, for any number of
    patches and, where the network allows it, for any length from that of a patch on. With ``log_mel="apart"`` it takes
    the log-mel spectrogram, B×F×T, which the certificate describes; any normalisation of it stays inside. ``songs``,
    mono int16 samples at that rate, are scored by both for the certificate, which says ``compared_on``; without, a
    synthesised clip is.

    Raises MusictagError if the network cannot be exported, and for a difference above TOLERANCE.
    """
    network = copy.deepcopy(tagger.network).cpu().eval().requires_grad_(False)
    if kind == "onnx":
        libraries()  # fail before the work
    is_apart = log_mel == "apart"
    before = _log_mel(network) if is_apart else nn.Identity()
    songs = list(songs)
    certificate = {
        "format": FORMAT,
        "tags": network.tags,
        "sample_rate": network.sample_rate,
        "patch_samples": network.patch_samples,
        "margin_samples": list(network.margin_samples),
        **{key: value for key, value in tagger.facts.items() if key != "format"},
        **({LOG_MEL: before.settings} if is_apart else {}),
        "family": tagger.family,
        "licence": licence or tagger.facts.get("licence"),
        "compared_on": compared_on or (f"{len(songs)} songs" if songs else "a synthesised clip"),
    }
    for length in ("fixed",) if network.backend.fixed_length else ("free", "fixed"):
        certificate["length"] = length
        program = _exported(network, length == "free", before)
        made = Exported(_onnx(program, LOG_MEL if is_apart else INPUT) if kind == "onnx" else program, certificate)
        score = _score(made, before)
        try:
            found = [_difference(network, score, song, length == "free") for song in songs or [_clip(network)]]
        except Exception as error:  # ONNX Runtime and PyTorch raise various ones
            if length == "fixed":
                raise MusictagError(f"the exported network does not run: {reason(error)}") from error
            continue
        certificate["largest_difference"] = float(np.max(found))  # NaN, if one is
        if certificate["largest_difference"] <= TOLERANCE:
            return made
    raise MusictagError(
        f"the exported network's scores differ from PyTorch's by {certificate['largest_difference']:.2g} on "
        f"{certificate['compared_on']}; more than {TOLERANCE} is not allowed, and no file was written"
    )


def _log_mel(network: TaggingNetwork) -> nn.Module:
    if isinstance(network.frontend, SpectrogramFrontEnd):
        return network.frontend.log_mel
    raise MusictagError(
        f"{type(network.frontend).__name__} has no log-mel spectrogram that could be apart; export it with "
        "--log-mel inside"
    )


def _score(made: Exported, before: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    """Computes the scores, B×K, of waveforms B×N with what is going to be written."""
    if not isinstance(made.program, torch.export.ExportedProgram):
        return OnnxTagger(made.content()).score
    module = made.program.module()
    return lambda waveform: module(before(torch.from_numpy(waveform))).numpy()


def _exported(network: TaggingNetwork, free_length: bool, before: nn.Module) -> torch.export.ExportedProgram:
    given = before(torch.zeros(2, network.input_samples))
    sizes = {0: torch.export.Dim.DYNAMIC} | ({given.ndim - 1: torch.export.Dim.AUTO} if free_length else {})
    with quietly(f"torch.export cannot follow {type(network.frontend).__name__} and {type(network.backend).__name__}"):
        return torch.export.export(_Scores(network, given.ndim == 3), (given,), dynamic_shapes=(sizes,))


def _onnx(program: torch.export.ExportedProgram, name: str) -> Any:
    with quietly("this network cannot be written as ONNX"):
        made = torch.onnx.export(program, dynamo=True, verbose=False, input_names=[name], output_names=[OUTPUT])
        model = made.model_proto
        graph = model.graph
        for part in (graph, *graph.node, *graph.value_info, *graph.initializer, *graph.input, *graph.output):
            part.ClearField("metadata_props")  # PyTorch's notes, with paths of this machine
        return model


@contextmanager
def quietly(what: str) -> Iterator[None]:
    """Without warnings, of which these tools have many; any error is a MusictagError that begins with ``what``."""
    logging.disable(logging.WARNING)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # a part of one's own can make them raise nearly anything
        raise MusictagError(f"{what}: {reason(error)}") from error
    finally:
        logging.disable(logging.NOTSET)


def _difference(
    network: TaggingNetwork, score: Callable[[np.ndarray], np.ndarray], song: np.ndarray, free_length: bool
) -> float:
    """The largest difference of a score, over the first patch of a song and over several together; where the length is
    free, also over patches of one and a half times the length."""
    largest = 0.0
    for samples in (network.patch_samples, *([network.patch_samples * 3 // 2] if free_length else [])):
        audio = np.pad(fit_length(song, samples), network.margin_samples)
        patches = np.lib.stride_tricks.sliding_window_view(audio, samples + sum(network.margin_samples))[::samples]
        for number in (1, _COMPARED_PATCHES):
            block = patches[:number].astype(np.float32) / 32768
            with torch.inference_mode():
                expected = network.probabilities(network(torch.from_numpy(block))).numpy()
            largest = float(np.maximum(largest, np.abs(score(block) - expected).max()))  # NaN stays NaN
    return largest


def _clip(network: TaggingNetwork) -> np.ndarray:
    """Four patches of chords that change, with a beat of noise: int16."""
    rng, rate = np.random.default_rng(0), network.sample_rate
    time = np.arange(4 * network.patch_samples) / rate
    chords = 110 * 2 ** (rng.integers(0, 36, (3, int(2 * time[-1]) + 1)) / 12)
    tones = np.sin(2 * np.pi * np.cumsum(chords[:, (2 * time).astype(int)], axis=1) / rate).sum(axis=0)
    beat = rng.standard_normal(len(time)) * np.exp(-20 * (2 * time % 1))
    return np.int16(4000 * (tones + beat).clip(-8, 8))
