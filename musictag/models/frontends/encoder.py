"""Front-ends around encoders that others have trained. Plain values describe an encoder, and are in the file of a
tagger: it is built from them alone. Its weights come once from where ``frontend.name`` says, then with the tagger."""

from __future__ import annotations

import hashlib
import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torchaudio.transforms import Resample

from musictag.common.errors import MusictagError
from musictag.models.factory import find_class
from musictag.models.frontends import FrontEnd
from musictag.models.layers import full_precision

UNKNOWN_LICENCE = "unknown"
HUGGING_FACE = "musictag.models.frontends.huggingface.HuggingFace"
#: Limit on the filters of the resampler, from untrusted rates.
_MAX_PHASES = 2**20


class EncoderFrontEnd(FrontEnd):
    """Base class: the waveform is resampled to the encoder's rate and passed to ``encode``.

    A subclass has the settings ``name`` and ``encoder``, the description that its ``describe`` returns; it sets
    ``encoder`` (the network), ``out_channels`` and ``encoder_hop``, and defines the abstract methods. Raises
    MusictagError without a description, and for rates and a ``filter_multiplier`` that it cannot have.
    """

    family = "waveform"
    receptive_samples = None
    encoder: nn.Module
    encoder_hop: int  #: samples at the encoder's rate from one frame to the next

    def __init__(self, encoder: Mapping[str, Any] | None, filter_multiplier: float = 1.0, sample_rate: int = 16000):
        super().__init__()
        if not encoder:
            raise MusictagError("this front-end is built from the description of an encoder; use frontend.name=...")
        if filter_multiplier != 1:
            raise MusictagError(
                f"frontend.filter_multiplier={filter_multiplier}: the size of a pretrained encoder is given; use 1"
            )
        self.licence, rate = encoder["licence"], encoder["rate"]
        self.sample_rate, self.encoder_rate = sample_rate, rate
        usual = all(isinstance(hertz, int) and 1_000 <= hertz <= 192_000 for hertz in (sample_rate, rate))
        if not usual or math.lcm(sample_rate, rate) // math.gcd(sample_rate, rate) > _MAX_PHASES:
            raise MusictagError(f"frontend.sample_rate={sample_rate} cannot be resampled to the encoder's {rate} Hz")
        with torch.device("cpu"):  # constants: needed even if the weights are on the meta device
            self.resample = Resample(sample_rate, rate)
        if sample_rate != rate:
            self.resample.register_buffer("kernel", self.resample.kernel, persistent=False)

    @classmethod
    @abstractmethod
    def describe(cls, name: str, **settings: Any) -> dict[str, Any]:
        """Plain values from which the encoder at ``name`` can be built, among them its ``rate`` in Hz and ``licence``;
        ``settings``: the others of the front-end. Raises MusictagError if there is none."""

    @abstractmethod
    def load(self, name: str) -> None:
        """Put the weights at ``name`` into ``encoder``; raises MusictagError unless they are all there."""

    @abstractmethod
    def encode(self, waveform: Tensor) -> Tensor:
        """Waveform B×N at the encoder's rate -> features B×C×T."""

    @abstractmethod
    def encoder_frames(self, num_samples: int) -> int:
        """T for ``num_samples`` at the encoder's rate, exactly."""

    def forward(self, waveform: Tensor) -> Tensor:
        if not self.num_frames(waveform.shape[-1]):
            raise RuntimeError(f"{waveform.shape[-1]} samples have no frame, which takes {self.min_samples}")
        with full_precision(waveform):  # under autocast the resampler would return samples of 16 bits
            waveform = self.resample(waveform.float())
        return self.encode(waveform)

    def num_frames(self, num_samples: int) -> int:
        return self.encoder_frames(-(-num_samples * self.encoder_rate // self.sample_rate))

    @property
    def hop_samples(self) -> int:
        """Rounded: a hop at the encoder's rate need not be a whole number of samples at another."""
        return round(self.encoder_hop * self.sample_rate / self.encoder_rate)


class PackageEncoder(EncoderFrontEnd):
    """Base class for an encoder with a Python package of its own, and without settings beside its ``name``.

    A subclass sets ``rate`` (Hz), ``encoder_hop`` (samples at that rate) and the ``licence`` of the weights, and has
    the abstract methods.
    """

    rate: int
    licence = UNKNOWN_LICENCE

    def __init__(
        self,
        name: str | None = None,
        encoder: Mapping[str, Any] | None = None,
        filter_multiplier: float = 1.0,
        norm_momentum: float = 0.1,
        sample_rate: int = 16000,
    ):
        super().__init__(encoder, filter_multiplier, sample_rate)
        with torch.device("cpu"):  # packages look at numbers while they build, which the meta device does not have
            self.encoder, self.out_channels = self.build(encoder["config"])

    @classmethod
    @abstractmethod
    def published(cls, name: str) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
        """The plain values that ``build`` needs, and the weights that others have trained."""

    @abstractmethod
    def build(self, config: Mapping[str, Any]) -> tuple[nn.Module, int]:
        """The network with untrained weights, and its channels C."""

    @classmethod
    def describe(cls, name: str, **_: Any) -> dict[str, Any]:
        """With the ``config`` of the encoder, its ``name``, and a digest of its weights."""
        with torch.device("cpu"):
            config, weights = cls.published(name)
        digest = hashlib.sha256(save({key: weight.clone() for key, weight in weights.items()})).hexdigest()
        return {"config": config, "name": name, "weights": digest, "rate": cls.rate, "licence": cls.licence}

    def load(self, name: str) -> None:
        self.encoder.load_state_dict(self.published(name)[1])


def brings_weights(frontend: Mapping[str, Any]) -> bool:
    """Whether a front-end with this spec has been trained before."""
    return issubclass(find_class(frontend.get("_target_"), FrontEnd), EncoderFrontEnd)


def described(frontend: Mapping[str, Any]) -> dict[str, Any]:
    """The spec from which a front-end can be built: with the description of the encoder at its ``name``, which is left
    out; that of any other front-end as it was. Raises MusictagError if there is no encoder there."""
    if not brings_weights(frontend) or frontend.get("encoder"):
        return dict(frontend)
    if not frontend.get("name"):
        raise MusictagError("frontend.name is needed: the folder of an encoder, or its name on the model hub")
    settings = {key: value for key, value in frontend.items() if key not in ("_target_", "name")}
    cls = find_class(frontend["_target_"], FrontEnd)
    return {"_target_": frontend["_target_"], **settings, "encoder": cls.describe(frontend["name"], **settings)}


def load_weights(frontend: FrontEnd, name: str | None) -> str | None:
    """Put the pretrained weights of an EncoderFrontEnd in; returns a message with their licence. None for others."""
    if not isinstance(frontend, EncoderFrontEnd):
        return None
    frontend.load(str(name))
    terms = f"licence {frontend.licence}, which also applies to taggers made from it"
    if frontend.licence == UNKNOWN_LICENCE:
        terms = "licence unknown: ask its authors before you use or pass on what is made from it"
    return f"Encoder {name}: {sum(p.numel() for p in frontend.encoder.parameters()):,} pretrained parameters, {terms}"
