"""What pretrained encoders hear: waveforms or log-mel spectrograms as their own libraries make them, in torch.

One class a family. ``config`` is the encoder's configuration, ``features`` that of its feature extraction.
Legend: B patches, N samples at the encoder's rate, F bands, S tokens, C channels, T frames.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchaudio.compliance.kaldi import fbank

from musictag.common.errors import MusictagError
from musictag.models.frontends.log_mel import LogMel, check_constants
from musictag.models.layers import full_precision

#: Samples of the longest window: 10 minutes at 48 kHz.
_LONGEST_WINDOW = 600 * 48_000


class EncoderInput(nn.Module):
    """Waveform B×N -> the input of an encoder, for up to ``window_samples`` (None: of any length).

    Windows of a longer waveform begin every ``step_samples``, and have ``window_frames`` each.
    """

    family = "spectrogram"
    extractor: str  #: the class of transformers that does the same
    keys: tuple[str, ...]  #: of ``features`` that are read
    blocks = "layers"  #: of the encoder, by its name for them
    norm: str  #: after the last of them
    prefix: str | None = None  #: of the encoder's weights in files that hold more, a regular expression
    num_mels = 0
    hop_samples: int
    window_samples: int | None = None
    step_samples = window_frames = 0

    def num_frames(self, num_samples: int) -> int:
        """T of a waveform of any length."""
        return num_samples * self.window_frames // self.step_samples

    def arguments(self, given: Tensor) -> dict[str, Any]:
        """Further arguments of the encoder for this input."""
        return {}

    def sequence(self, states: Tensor) -> Tensor:
        """The encoder's states, B×S×C, as features B×C×T."""
        return states.transpose(1, 2)

    def _set_window(self, window_samples: int, step_samples: int, frames: int) -> None:
        if not 1 <= frames <= step_samples or not step_samples <= window_samples <= _LONGEST_WINDOW:
            raise MusictagError(f"the encoder's window of {window_samples} samples with {frames} frames is impossible")
        self.window_samples, self.step_samples, self.window_frames = window_samples, step_samples, frames
        self.hop_samples = round(step_samples / frames)


class Waveform(EncoderInput):
    """The wav2vec2 family: the waveform, with zero mean and unit variance where the encoder was trained so."""

    family, extractor = "waveform", "Wav2Vec2FeatureExtractor"
    blocks, norm = "encoder.layers", "encoder.layer_norm"
    keys = ("sampling_rate", "do_normalize")

    def __init__(self, config: Any, features: Mapping[str, Any]):
        super().__init__()
        self.normalise = features["do_normalize"]
        self.layers = tuple(zip(config.conv_kernel, config.conv_stride, strict=True))
        if not self.layers or min(map(min, self.layers)) < 1:
            raise MusictagError(f"filters and strides of the encoder must be positive: {self.layers}")
        self.hop_samples = math.prod(stride for _, stride in self.layers)

    def forward(self, waveform: Tensor) -> Tensor:
        # in float32 also under autocast
        return F.layer_norm(waveform, waveform.shape[1:], eps=1e-7) if self.normalise else waveform

    def num_frames(self, num_samples: int) -> int:
        for kernel, stride in self.layers:
            num_samples = max(num_samples - kernel + stride, 0) // stride
        return num_samples


class Kaldi(EncoderInput):
    """AST: Kaldi's log-mel of 25 ms every 10 ms, zeros after the end. A frame is the mean over its bands of patches."""

    extractor, norm = "ASTFeatureExtractor", "layernorm"
    keys = ("sampling_rate", "num_mel_bins", "max_length", "do_normalize", "mean", "std")

    def __init__(self, config: Any, features: Mapping[str, Any]):
        super().__init__()
        self.rate, self.num_mels, self.max_length = (features[key] for key in self.keys[:3])
        self.frame_samples, self.shift_samples = round(0.025 * self.rate), round(0.01 * self.rate)
        check_constants(2 ** (self.frame_samples - 1).bit_length(), self.num_mels)
        if (config.max_length, config.num_mel_bins) != (self.max_length, self.num_mels):
            raise MusictagError(f"encoder and feature extraction differ: {config.max_length} frames"
                                f" of {config.num_mel_bins} bands, {self.max_length} of {self.num_mels}")  # fmt: skip
        self.mean, self.deviation = (features["mean"], 2 * features["std"]) if features["do_normalize"] else (0.0, 1.0)
        self.patch, self.stride = config.patch_size, config.time_stride
        frames = (self.max_length - self.patch) // self.stride + 1
        covered = self.frame_samples + (self.max_length - 1) * self.shift_samples
        self._set_window(covered, frames * self.stride * self.shift_samples, frames)

    def num_frames(self, num_samples: int) -> int:
        mel_frames = max(num_samples - self.frame_samples + self.shift_samples, 0) // self.shift_samples
        return max(mel_frames - self.patch + self.stride, 0) // self.stride

    def forward(self, waveform: Tensor) -> Tensor:
        with full_precision(waveform):
            settings = {"num_mel_bins": self.num_mels, "sample_frequency": self.rate, "window_type": "hanning"}
            log_mel = torch.stack([fbank(patch[None], **settings) for patch in waveform])
            return (F.pad(log_mel, (0, 0, 0, self.max_length - log_mel.shape[1])) - self.mean) / self.deviation

    def sequence(self, states: Tensor) -> Tensor:
        # two tokens for the whole window come first
        return states[:, 2:].unflatten(1, (-1, self.window_frames)).mean(1).transpose(1, 2)


class Clap(EncoderInput):
    """CLAP's audio tower: decibels of 10 s; a shorter waveform is repeated as often as it fits. Models with fusion hear
    the spectrogram four times, as their library has it for up to 10 s (but it declares one of a batch to be longer)."""

    extractor, blocks, prefix = "ClapFeatureExtractor", "audio_encoder.layers", r"^(clap\.)?audio_model\."
    keys = (
        "sampling_rate", "feature_size", "hop_length", "max_length_s", "fft_window_size", "frequency_min",
        "frequency_max", "truncation", "padding",
    )  # fmt: skip

    def __init__(self, config: Any, features: Mapping[str, Any]):
        super().__init__()
        rate, self.num_mels = features["sampling_rate"], features["feature_size"]
        self.fused, self.padding = config.enable_fusion, features["padding"]
        if self.padding not in ("repeatpad", "repeat", "pad"):
            raise MusictagError(f"padding={self.padding} of the feature extraction is not known")
        mel = "htk" if features["truncation"] == "fusion" else "slaney"
        edges = (features["frequency_min"], features["frequency_max"])
        size = (features["fft_window_size"], features["hop_length"])
        self.log_mel = LogMel(rate, *size, self.num_mels, *edges, "reflect", mel, "decibel")
        segments = config.spec_size // self.num_mels  # of time, one above another in the encoder's square image
        stride = config.patch_stride if isinstance(config.patch_stride, int) else config.patch_stride[-1]
        tokens = config.spec_size // stride // 2 ** (len(config.depths) - 1)
        self._set_window(features["max_length_s"] * rate, features["max_length_s"] * rate, segments * tokens)

    def forward(self, waveform: Tensor) -> Tensor:
        times = self.window_samples // waveform.shape[1]
        if self.padding != "pad":
            waveform = waveform.repeat(1, times + (self.padding == "repeat"))[:, : self.window_samples]
        waveform = F.pad(waveform, (0, self.window_samples - waveform.shape[1]))
        return self.log_mel(waveform).transpose(1, 2).unsqueeze(1).repeat(1, 4 if self.fused else 1, 1, 1)

    def arguments(self, given: Tensor) -> dict[str, Any]:
        return {"is_longer": torch.zeros(len(given), 1, dtype=torch.bool, device=given.device)} if self.fused else {}

    def sequence(self, states: Tensor) -> Tensor:
        return states.mean(2)  # B×C×F×T


class Whisper(EncoderInput):
    """Whisper's encoder: log-mel of 30 s, silence after the end, at most 80 dB below the loudest value in it."""

    extractor, norm, prefix = "WhisperFeatureExtractor", "layer_norm", r"^(model\.)?encoder\."
    keys = ("sampling_rate", "feature_size", "hop_length", "n_fft", "chunk_length")

    def __init__(self, config: Any, features: Mapping[str, Any]):
        super().__init__()
        rate, self.num_mels, hop, n_fft, seconds = (features[key] for key in self.keys)
        if config.max_source_positions * 2 * hop != seconds * rate or config.num_mel_bins != self.num_mels:
            raise MusictagError(f"the encoder has {config.max_source_positions} positions of {config.num_mel_bins} "
                                f"bands, which is not what its feature extraction makes of {seconds} s")  # fmt: skip
        self.log_mel = LogMel(rate, n_fft, hop, self.num_mels, 0.0, 8000.0, "reflect", "slaney", "decibel")
        self._set_window(seconds * rate, seconds * rate, config.max_source_positions)

    def forward(self, waveform: Tensor) -> Tensor:
        log_mel = self.log_mel(F.pad(waveform, (0, self.window_samples - waveform.shape[1])))[..., :-1] / 10
        return (torch.maximum(log_mel, log_mel.amax((1, 2), keepdim=True) - 8.0) + 4.0) / 4.0
