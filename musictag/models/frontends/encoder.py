"""Front-ends around encoders that others have trained, on more music than most people have.

Plain values describe an encoder, and are in the file of a tagger: it is built from them alone. Its weights come once
from where ``frontend.name`` says, and from then on with the tagger.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchaudio.transforms import Resample

from musictag.common.errors import MusictagError
from musictag.models.factory import find_class
from musictag.models.frontends import FrontEnd

UNKNOWN_LICENCE = "unknown"
#: Limit on the resampler from untrusted rates: numbers in its filters.
_MAX_FILTERS = 2**24


class EncoderFrontEnd(FrontEnd):
    """Base class: the waveform is resampled to ``encoder_rate`` and passed to ``encode``.

    A subclass has a setting ``encoder``, the description that its ``describe`` returns, and sets ``encoder`` (the
    network), ``out_channels`` and ``encoder_hop`` after calling this constructor; it defines the abstract methods. Its
    receptive field is the whole waveform. Raises MusictagError without a description, and for another
    ``filter_multiplier`` than 1: the size of an encoder is given.
    """

    family = "waveform"
    receptive_samples = None
    encoder: nn.Module
    encoder_hop: int  #: samples at ``encoder_rate`` from one frame to the next

    def __init__(
        self,
        encoder: Mapping[str, Any] | None,
        encoder_rate: int,
        filter_multiplier: float = 1.0,
        sample_rate: int = 16000,
    ):
        super().__init__()
        if filter_multiplier != 1:
            raise MusictagError(
                f"frontend.filter_multiplier={filter_multiplier}: the size of a pretrained encoder is given; use 1"
            )
        self.licence = (encoder or {}).get("licence", UNKNOWN_LICENCE)
        self.sample_rate, self.encoder_rate = sample_rate, encoder_rate
        rates = {"frontend.sample_rate": sample_rate, "the rate of the encoder": encoder_rate}
        for what, rate in rates.items():
            if not isinstance(rate, int) or not 1_000 <= rate <= 192_000:
                raise MusictagError(f"{what} is {rate}; it must be a whole number from 1,000 to 192,000")
        common = math.gcd(sample_rate, encoder_rate)
        if sample_rate // common * (encoder_rate // common) > _MAX_FILTERS // 16:
            raise MusictagError(
                f"{sample_rate} Hz cannot be resampled to {encoder_rate} Hz: they have no common divisor"
            )
        with torch.device("cpu"):  # constants: needed even if the weights are on the meta device
            self.resample = Resample(sample_rate, encoder_rate)
        if sample_rate != encoder_rate:
            self.resample.register_buffer("kernel", self.resample.kernel, persistent=False)

    @classmethod
    @abstractmethod
    def describe(cls, name: str, **settings: Any) -> dict[str, Any]:
        """Plain values from which the encoder at ``name`` can be built, and its ``licence``; ``settings``: the others
        of the front-end. Raises MusictagError if there is none."""

    @abstractmethod
    def load(self, name: str) -> None:
        """Put the weights at ``name`` into ``encoder``; raises MusictagError unless they are all there."""

    @abstractmethod
    def encode(self, waveform: Tensor) -> Tensor:
        """Waveform B×N at ``encoder_rate`` -> features B×C×T."""

    @abstractmethod
    def encoder_frames(self, num_samples: int) -> int:
        """T for ``num_samples`` at ``encoder_rate``, exactly."""

    def forward(self, waveform: Tensor) -> Tensor:
        if not self.num_frames(waveform.shape[-1]):
            raise RuntimeError(
                f"{waveform.shape[-1]} samples have no frame; the shortest waveform has {self.min_samples}"
            )
        return self.encode(self.resample(waveform.float()))

    def num_frames(self, num_samples: int) -> int:
        return self.encoder_frames(math.ceil(num_samples * self.encoder_rate / self.sample_rate))

    @property
    def hop_samples(self) -> int:
        """Rounded: encoders have hops that are not whole at other rates than their own."""
        return round(self.encoder_hop * self.sample_rate / self.encoder_rate)


def described(frontend: Mapping[str, Any]) -> dict[str, Any]:
    """The spec of a front-end from which it can be built: that of an EncoderFrontEnd with the description of the
    encoder at its ``name``, which is left out. Others are as they were.

    Raises MusictagError if there is no encoder there.
    """
    cls = find_class(frontend.get("_target_"), FrontEnd)
    settings = {key: value for key, value in frontend.items() if key not in ("_target_", "name")}
    if not issubclass(cls, EncoderFrontEnd) or settings.get("encoder"):
        return dict(frontend)
    if not frontend.get("name"):
        raise MusictagError("frontend.name is needed: the folder of an encoder, or its name on the model hub")
    return {"_target_": frontend["_target_"], **settings, "encoder": cls.describe(frontend["name"], **settings)}


def brings_weights(frontend: Mapping[str, Any]) -> bool:
    """Whether a front-end with this spec has been trained before."""
    return issubclass(find_class(frontend.get("_target_"), FrontEnd), EncoderFrontEnd)


def load_weights(frontend: FrontEnd, name: str | None) -> str | None:
    """Put the pretrained weights of an EncoderFrontEnd in; returns a message with their licence. None for others."""
    if not isinstance(frontend, EncoderFrontEnd):
        return None
    frontend.load(str(name))
    licence = frontend.licence
    terms = "licence unknown: ask its authors before you use or pass on results" if licence == UNKNOWN_LICENCE else (
        f"licence {licence}, which also applies to taggers made from it"
    )  # fmt: skip
    return f"Encoder {name}: {sum(p.numel() for p in frontend.encoder.parameters()):,} pretrained parameters, {terms}"
