"""The tagger: front-end, back-end and the tags' names in one, for training and for use.

Legend: B patches, N samples, K tags.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from musictag.audio import from_array, read_song
from musictag.backends import BackEnd
from musictag.build import build
from musictag.checkpoint import read_checkpoint, tagger_spec
from musictag.claims import check_tensors
from musictag.cutting import fit_length, patch_starts
from musictag.errors import MusictagError
from musictag.frontends import FrontEnd
from musictag.published import locate
from musictag.untrusted import checked_part, checked_tags, excerpt, reason

#: of a patch; one hour at 16 kHz has 57,600,000
MAX_PATCH_SAMPLES = 2**26
_RATES = (1_000, 192_000)
BATCH_SECONDS = 64  # audio that goes through the network at once; bounds the memory

#: A file, or samples with their rate in Hz.
AudioSource = str | os.PathLike | tuple[np.ndarray, int]


@dataclass(frozen=True)
class Taggram:
    """Tags over time. ``times``: seconds at which patches begin, B · ``tags``: K names · ``scores``: B×K in [0, 1]."""

    times: np.ndarray
    tags: tuple[str, ...]
    scores: np.ndarray


class Tagger(nn.Module):
    """A network that hears ``patch_seconds`` of music and says how probable each tag is.

    ``frontend`` and ``backend`` are specs (see musictag/build.py); ``tags`` holds a dictionary a tag, with
    ``name`` and ``kind`` (``classification`` or ``regression``), in the order of the outputs. Plain containers only:
    together they are ``spec``, from which ``Tagger(**spec)`` makes the same network again.

    Raises MusictagError for specs that cannot be built, and for patches shorter than the parts need.
    """

    def __init__(
        self,
        frontend: Mapping[str, Any],
        backend: Mapping[str, Any],
        tags: Iterable[Mapping[str, str]],
        patch_seconds: float,
    ):
        super().__init__()
        self._spec = {
            "frontend": checked_part(frontend, "frontend"),
            "backend": checked_part(backend, "backend"),
            "tags": checked_tags(tags),
            "patch_seconds": _checked_length(patch_seconds),
        }
        self.tag_names = tuple(tag["name"] for tag in self._spec["tags"])
        self.tag_kinds = tuple(tag["kind"] for tag in self._spec["tags"])
        self.frontend: FrontEnd = build(self._spec["frontend"], FrontEnd)
        self.sample_rate = self.frontend.sample_rate
        if not isinstance(self.sample_rate, int | float) or not _RATES[0] <= self.sample_rate <= _RATES[1]:
            raise MusictagError(
                f"frontend.sample_rate={self.sample_rate} is no rate of music; allowed are {_RATES[0]:,} "
                f"to {_RATES[1]:,}"
            )
        self.patch_samples = round(patch_seconds * self.sample_rate)
        if self.patch_samples > MAX_PATCH_SAMPLES:
            raise MusictagError(
                f"data.patch_seconds={patch_seconds} is too long: {self.patch_samples:,} samples at {self.sample_rate} "
                f"Hz, where {MAX_PATCH_SAMPLES:,} are allowed"
            )
        #: a patch with the margins that the front-end wants to hear: N of what ``forward`` gets in training
        self.input_samples = self.patch_samples + sum(self.frontend.margin_samples)
        in_frames = self.frontend.num_frames(self.input_samples)
        self.backend: BackEnd = build(
            self._spec["backend"],
            BackEnd,
            in_channels=self.frontend.out_channels,
            in_frames=max(in_frames, 1),  # none at all is refused below, in words
            num_tags=len(self.tag_names),
        )
        needed = self.frontend.samples_for(self.backend.min_frames)
        if self.input_samples < needed:
            needed -= sum(self.frontend.margin_samples)
            seconds = math.ceil(1e4 * needed / self.sample_rate) / 1e4
            raise MusictagError(
                f"data.patch_seconds={patch_seconds} is too short: {self.patch_samples} samples at {self.sample_rate} "
                f"Hz make {in_frames} frames of {type(self.frontend).__name__}, and {type(self.backend).__name__} "
                f"needs {self.backend.min_frames}, which takes {needed} samples; "
                f"type data.patch_seconds={seconds} or more"
            )
        #: the shortest waveform that ``forward`` takes
        self.min_samples = self.input_samples if self.backend.fixed_length else needed

    @property
    def spec(self) -> dict[str, Any]:
        """Plain dictionary with which ``Tagger(**spec)`` makes this network again, with fresh weights."""
        return copy.deepcopy(self._spec)

    @property
    def tags(self) -> list[dict[str, str]]:
        """Name and kind of each tag, in the order of the outputs."""
        return self.spec["tags"]

    @property
    def patch_seconds(self) -> float:
        return self.patch_samples / self.sample_rate

    def forward(self, waveform: Tensor) -> Tensor:
        """Waveform B×N float32 in [-1, 1] -> logits B×K."""
        return self.backend(self.frontend(waveform))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Logits -> probabilities (and values of regression tags) in [0, 1], float32 also under autocast."""
        return logits.float().sigmoid()

    def fit_normalisation(self, waveforms: Iterable[Tensor]) -> None:
        """Let the front-end measure the training songs, blocks of B×N float32, where it has anything to measure."""
        self.frontend.fit_normalisation(waveforms)

    def tag(self, source: AudioSource, top: int | None = None, threshold: float | None = None) -> dict[str, float]:
        """Scores of a whole song by tag, highest first: the mean over its patches (section 2 of the paper).

        ``source`` is a file, or (samples, rate in Hz). ``top`` keeps that many tags, ``threshold`` those that score at
        least as much. A song shorter than a patch is repeated to its length.

        Raises SongError for a file that cannot be read, MusictagError for unusable samples, either for less than 0.1 s;
        issues SongWarning where something of a file could not be used.
        """
        if top is not None and top < 1:
            raise MusictagError(f"top={top}; it must be at least 1")
        scores = self.predict_song(self.read(source))
        order = np.argsort(-scores, kind="stable")[:top]
        return {self.tag_names[i]: float(scores[i]) for i in order if threshold is None or scores[i] >= threshold}

    def taggram(self, source: AudioSource, hop_seconds: float | None = None) -> Taggram:
        """Scores over time, a row every ``hop_seconds`` (default: patch after patch, as in ``tag``).

        The last patch ends with the song, so it may come sooner after the one before. Raises as ``tag`` does.
        """
        hop_seconds = self.patch_seconds if hop_seconds is None else hop_seconds
        hop_samples = round(hop_seconds * self.sample_rate) if math.isfinite(hop_seconds) else 0
        if hop_samples < 1:
            raise MusictagError(f"hop_seconds={hop_seconds}; it must be at least one sample, {1 / self.sample_rate} s")
        starts, scores = self.over_patches(self._scores, self.read(source), hop_samples)
        return Taggram(times=starts / self.sample_rate, tags=self.tag_names, scores=scores)

    def embed(self, source: AudioSource, layer: str = "penultimate") -> np.ndarray:
        """Features of a whole song, H float32: the mean over its patches of what ``layer`` makes of them.

        For many songs, for one row a patch, and for which layers there are: musictag/embedding.py. Raises as ``tag``
        does, and MusictagError for a layer that there is not.
        """
        from musictag.embedding import Embedder  # which needs the Tagger

        return Embedder(self, layer).song(source)

    def predict_song(self, audio: np.ndarray) -> np.ndarray:
        """Mono int16 samples (N) at ``sample_rate`` -> scores (K, float32): the mean over consecutive patches."""
        return self.over_patches(self._scores, audio, self.patch_samples)[1].mean(axis=0)

    @torch.inference_mode()
    def over_patches(
        self, compute: Callable[[Tensor], Tensor], audio: np.ndarray, hop_samples: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """First samples (B) of the patches of a song, mono int16 (N), and what ``compute`` makes of them, a row each.

        ``compute`` gets B×N float32 with the margins, a batch of patches at a time, in evaluation mode.
        """
        starts = patch_starts(len(audio), self.patch_samples, hop_samples)
        audio = np.pad(fit_length(audio, self.patch_samples), self.frontend.margin_samples)
        patches = np.lib.stride_tricks.sliding_window_view(audio, self.input_samples)
        device = next(self.parameters()).device
        at_once = max(1, int(BATCH_SECONDS * self.sample_rate / self.input_samples))
        rows = []
        with evaluating(self):
            for first in range(0, len(starts), at_once):
                block = torch.from_numpy(patches[starts[first : first + at_once]]).to(device)
                try:
                    rows.append(compute(block.float() / 32768).cpu().numpy())
                except (RuntimeError, MemoryError) as error:
                    if isinstance(error, RuntimeError) and "memory" not in str(error):
                        raise
                    raise MusictagError("this network needs more memory than there is") from error
        return starts, np.concatenate(rows)

    def _scores(self, waveform: Tensor) -> Tensor:
        return self.probabilities(self(waveform))

    def read(self, source: AudioSource) -> np.ndarray:
        """Mono int16 samples of ``source`` at ``sample_rate``: what the prepared audio of a data set holds, too."""
        return read_source(source, self.sample_rate)


def read_source(source: AudioSource, sample_rate: int) -> np.ndarray:
    """Mono int16 samples of ``source`` at ``sample_rate``; raises and warns as ``Tagger.tag`` does."""
    if isinstance(source, str | os.PathLike):
        return read_song(source, sample_rate)
    if isinstance(source, tuple) and len(source) == 2:
        return from_array(source[0], source[1], sample_rate)
    raise MusictagError(f"cannot tag a {type(source).__name__}: give a path, or a tuple (samples, rate in Hz)")


def load(model: str | os.PathLike, device: str | torch.device = "cpu") -> Tagger:
    """The tagger of a checkpoint that musictag trained, or of a pretrained model by name, ready to tag, on ``device``.

    Needs no configuration file. Reads the file as untrusted: nothing but plain containers and tensors is unpickled, and
    nothing outside musictag is built. Raises MusictagError for whatever is not such a checkpoint.
    """
    path = locate(model)
    spec, state = read_tagger(path)
    try:
        with torch.device("meta"):  # shapes without memory: a wrong file shall not cost any
            expected = Tagger(**spec).state_dict()
        _check_fit(expected, state)
        tagger = Tagger(**spec)
        tagger.load_state_dict(state)
    except Exception as error:  # a spec of anybody makes the parts raise nearly anything
        what = error if isinstance(error, MusictagError) else f"its tagger cannot be built ({reason(error)})"
        raise MusictagError(f"{path}: {what}") from error
    try:
        return tagger.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        raise MusictagError(f"device={device} cannot be used here: {error}") from error


def read_tagger(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Spec and weights of the tagger in a Lightning checkpoint of TaggingModule; raises MusictagError as ``load``."""
    try:
        content = read_checkpoint(path)
    except ValueError as error:
        raise MusictagError(f"{path} is not a checkpoint of musictag, or is damaged: {error}") from error
    spec, weights = tagger_spec(content), content.get("state_dict")
    if spec is None or not isinstance(weights, Mapping):
        raise MusictagError(f"{path} holds no tagger: it was not written by musictag")
    if set(spec) != {"frontend", "backend", "tags", "patch_seconds"}:
        raise MusictagError(
            f"{path}: its tagger is described by {sorted(map(str, spec))}, which this musictag does not know"
        )
    if not all(isinstance(spec[part], dict) for part in ("frontend", "backend")):
        raise MusictagError(f"{path}: its tagger is not described by dictionaries")
    prefix = "tagger."
    state = {str(key)[len(prefix) :]: value for key, value in weights.items() if str(key).startswith(prefix)}
    try:
        check_tensors(state)
    except ValueError as error:
        raise MusictagError(f"{path}: {error}") from error
    return spec, state


def _check_fit(expected: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Raise MusictagError unless ``state`` has the names and shapes of ``expected``."""
    wrong = [f"{name} is missing" for name in expected if name not in state]
    wrong += [f"{name} is not known" for name in state if name not in expected]
    for name in expected.keys() & state.keys():
        found = tuple(state[name].shape) if isinstance(state[name], Tensor) else type(state[name]).__name__
        if found != tuple(expected[name].shape):
            wrong.append(f"{name} is {found}, not {tuple(expected[name].shape)}")
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise MusictagError(f"the weights do not fit the tagger that is described: {'; '.join(wrong[:3])}{more}")


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; every layer as it was afterwards."""
    training = [layer for layer in module.modules() if layer.training]
    module.eval()
    try:
        yield
    finally:
        for layer in training:
            layer.training = True


def _checked_length(seconds: Any) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < 1e5:
        raise MusictagError(
            f"data.patch_seconds={excerpt(seconds)} is no length; type for example data.patch_seconds=3.0"
        )
    return seconds
