"""The network: front-end, back-end and the names of the tags, for training and for use.

Legend: B patches, N samples, K tags.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from musictag.common.errors import MusictagError
from musictag.common.text import excerpt
from musictag.models.backends import BackEnd
from musictag.models.factory import build
from musictag.models.frontends import FAMILIES, FrontEnd
from musictag.models.inference_form import BFLOAT16_TOLERANCE, PRECISIONS, InferenceForm, check_precision
from musictag.models.spec import checked_part, checked_tags

#: Longest patch; one hour at 16 kHz has 57,600,000
MAX_PATCH_SAMPLES = 2**26
_RATES = (1_000, 192_000)


class TaggingNetwork(nn.Module):
    """A network that takes ``patch_seconds`` of music and returns the probability of each tag.

    ``frontend`` and ``backend`` are specs (see musictag/models/factory.py); ``tags`` holds one dictionary per tag, with
    ``name`` and ``kind`` (``classification`` or ``regression``), in the order of the outputs. These plain containers
    are its ``spec``, from which ``TaggingNetwork(**spec)`` makes the same network again.

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
        if getattr(self.frontend, "family", None) not in FAMILIES:
            raise MusictagError(
                f"{type(self.frontend).__name__} has no family that tables and figures know; set the class attribute "
                f"family to one of {', '.join(FAMILIES)}: what its first layer sees"
            )
        self.sample_rate = self.frontend.sample_rate
        if not isinstance(self.sample_rate, int | float) or not _RATES[0] <= self.sample_rate <= _RATES[1]:
            raise MusictagError(
                f"frontend.sample_rate={self.sample_rate} is not a usable sample rate; allowed are {_RATES[0]:,} "
                f"to {_RATES[1]:,}"
            )
        self.patch_samples = round(patch_seconds * self.sample_rate)
        if self.patch_samples > MAX_PATCH_SAMPLES:
            raise MusictagError(
                f"data.patch_seconds={patch_seconds} is too long: {self.patch_samples:,} samples at {self.sample_rate} "
                f"Hz; at most {MAX_PATCH_SAMPLES:,} are allowed"
            )
        #: a patch with the margins that the front-end requires: N of ``forward`` in training
        self.input_samples = self.patch_samples + sum(self.margin_samples)
        in_frames = self.frontend.num_frames(self.input_samples)
        self.backend: BackEnd = build(
            self._spec["backend"],
            BackEnd,
            in_channels=self.frontend.out_channels,
            in_frames=max(in_frames, 1),  # no frames at all are refused below
            num_tags=len(self.tag_names),
        )
        needed = self.frontend.samples_for(self.backend.min_frames)
        if self.input_samples < needed:
            needed -= sum(self.margin_samples)
            seconds = math.ceil(1e4 * needed / self.sample_rate) / 1e4
            raise MusictagError(
                f"data.patch_seconds={patch_seconds} is too short: {self.patch_samples} samples at {self.sample_rate} "
                f"Hz make {in_frames} frames of {type(self.frontend).__name__}, but {type(self.backend).__name__} "
                f"needs {self.backend.min_frames}, which takes {needed} samples; "
                f"use data.patch_seconds={seconds} or more"
            )
        #: the shortest allowed input of ``forward``
        self.min_samples = self.input_samples if self.backend.fixed_length else needed

    @property
    def spec(self) -> dict[str, Any]:
        """Plain dictionary with which ``TaggingNetwork(**spec)`` makes this network again, with fresh weights."""
        return copy.deepcopy(self._spec)

    @property
    def tags(self) -> list[dict[str, str]]:
        """Name and kind of each tag, in the order of the outputs."""
        return self.spec["tags"]

    @property
    def margin_samples(self) -> tuple[int, int]:
        """Samples of the song that the front-end needs before and after a patch."""
        return self.frontend.margin_samples

    @property
    def patch_seconds(self) -> float:
        return self.patch_samples / self.sample_rate

    def forward(self, waveform: Tensor) -> Tensor:
        """Waveform B×N float32 in [-1, 1] -> logits B×K."""
        return self.backend(self.frontend(waveform))

    def head(self, vectors: Tensor) -> Tensor:
        """What the head of the back-end makes of the vectors before it, B×H -> logits B×K."""
        for name in self.backend.head:
            vectors = self.backend.get_submodule(name)(vectors)
        return vectors

    def probabilities(self, logits: Tensor) -> Tensor:
        """Logits -> probabilities (and values of regression tags) in [0, 1], float32 also under autocast."""
        return logits.float().sigmoid()

    @torch.no_grad()
    def inference_form(self, precision: str = "32-true") -> InferenceForm:
        """This network with its weights of this moment, for scoring only: the same to about 1e-6, and faster.

        With ``precision="bf16-mixed"`` convolutions are in bfloat16, which is faster again and changes probabilities by
        some thousandths. Raises MusictagError where the device lacks it, and if those of a patch of noise change by
        more than BFLOAT16_TOLERANCE.
        """
        device = next(self.parameters()).device
        check_precision(precision, device)
        form = InferenceForm(self.frontend, self.backend, PRECISIONS[precision])
        if precision != "32-true":
            noise = 0.1 * torch.randn(1, self.input_samples, generator=torch.Generator().manual_seed(0)).to(device)
            plain = InferenceForm(self.frontend, self.backend)
            change = (self.probabilities(form(noise)) - self.probabilities(plain(noise))).abs().max()
            if not change <= BFLOAT16_TOLERANCE:  # also refuses NaN
                raise MusictagError(
                    f"precision={precision} changes scores of this network by {change:.2g} on this {device.type}; use "
                    "precision=32-true"
                )
        return form

    def fit_normalisation(self, waveforms: Iterable[Tensor]) -> None:
        """Let the front-end measure the training songs, blocks of B×N float32, if it has anything to measure."""
        self.frontend.fit_normalisation(waveforms)


def _checked_length(seconds: Any) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < 1e5:
        raise MusictagError(
            f"data.patch_seconds={excerpt(seconds)} is not a length; use for example data.patch_seconds=3.0"
        )
    return seconds
