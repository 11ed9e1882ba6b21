"""The log-mel spectrogram, the first stage of spectrogram front-ends.

Legend: B patches, N samples, F mel bands, T frames.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchaudio import functional as audio

from musictag.common.errors import MusictagError
from musictag.models.layers import check_choice, full_precision

#: Limit on a spectrogram from untrusted settings: numbers in its constants, bins times bands (64 MiB).
MAX_CONSTANTS = 2**24
MAX_BANDS = 2**16
SMALLEST_POWER = 1e-10  # decibels would diverge below it; torchaudio's and librosa's floor


def decibels(power: Tensor) -> Tensor:
    """10 log10 of the power, with a floor of 1e-10."""
    return 10.0 * torch.log10(power.clamp(min=SMALLEST_POWER))


#: Mel power B×F×T -> input of the front-end, by the value of ``frontend.compression``.
COMPRESSIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "log10": lambda power: torch.log10(10000.0 * power + 1.0),
    "decibel": decibels,
}


class LogMel(nn.Module):
    """Waveform B×N -> log-mel B×F×T.

    Hann window. ``mel`` is the kind of bands: ``slaney`` (Slaney's scale and normalisation, as in librosa) or ``htk``
    (HTK's scale without normalisation, torchaudio's default). ``compression`` of the mel power x, one of COMPRESSIONS:
    ``log10``, log10(10000 x + 1), or ``decibel``, 10 log10(max(x, 1e-10)). Always float32, also under autocast: in
    float16 the factor of 10,000 overflows. The paper's FFT and hop are unknown; the defaults are those of its
    successor musicnn.

    Frames are centred, T = N // hop_samples + 1 for an even ``n_fft``, and ``pad_mode`` decides what is beyond both
    ends of the patch: ``constant`` (silence), ``reflect``, or ``song``: the audio around the patch, so that the frames
    of consecutive patches are those of the song's spectrogram. Then the waveform has ``margin_samples`` more before and
    after the patch, and T = N // hop_samples for a patch of N.
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        n_fft: int = 512,
        hop_samples: int = 256,
        num_mels: int = 96,
        f_min_hz: float = 0.0,
        f_max_hz: float | None = None,
        pad_mode: str = "constant",
        mel: str = "slaney",
        compression: str = "log10",
    ):
        super().__init__()
        f_max_hz = sample_rate / 2 if f_max_hz is None else f_max_hz
        #: ``LogMel(sample_rate, **settings)`` is the same again
        self.settings = {
            "n_fft": n_fft, "hop_samples": hop_samples, "num_mels": num_mels, "f_min_hz": f_min_hz,
            "f_max_hz": f_max_hz, "pad_mode": pad_mode, "mel": mel, "compression": compression,
        }  # fmt: skip
        check_choice("frontend.pad_mode", pad_mode, ("constant", "reflect", "song"))
        check_choice("frontend.mel", mel, ("slaney", "htk"))
        check_choice("frontend.compression", compression, COMPRESSIONS)
        if not 0 <= f_min_hz < f_max_hz <= sample_rate / 2:
            raise MusictagError(
                f"frontend.f_min_hz={f_min_hz} frontend.f_max_hz={f_max_hz}: "
                f"needs 0 <= f_min_hz < f_max_hz <= {sample_rate / 2}"
            )
        if min(n_fft, hop_samples, num_mels) < 1:
            raise MusictagError(
                f"must be positive: frontend.n_fft={n_fft} .hop_samples={hop_samples} .num_mels={num_mels}"
            )
        check_constants(n_fft, num_mels)
        if pad_mode == "song" and hop_samples > n_fft // 2:
            raise MusictagError(
                f"frontend.pad_mode=song needs frames that overlap by half: frontend.hop_samples={hop_samples} is more "
                f"than half of frontend.n_fft={n_fft}; use frontend.pad_mode=constant"
            )
        self.n_fft, self.hop_samples, self.num_mels = n_fft, hop_samples, num_mels
        self.pad_mode, self.compression = pad_mode, compression
        #: extra samples of the song before and after the patch
        self.margin_samples = (n_fft // 2, n_fft - n_fft // 2 - hop_samples) if pad_mode == "song" else (0, 0)
        with (
            torch.device("cpu"),
            warnings.catch_warnings(),
        ):  # constants: needed even if the weights are on the meta device
            warnings.simplefilter("ignore")  # empty bands are refused below
            norm = "slaney" if mel == "slaney" else None
            filters = audio.melscale_fbanks(n_fft // 2 + 1, f_min_hz, f_max_hz, num_mels, sample_rate, norm, mel)
            window = torch.hann_window(n_fft)
        # one in 128 is empty in the short-chunk CNN as published (Won et al. 2020)
        if (empty := int((filters.amax(0) == 0).sum())) > num_mels // 128:
            raise MusictagError(
                f"{empty} of {num_mels} mel bands are empty: too many for frontend.n_fft={n_fft}; "
                f"use fewer bands (frontend.num_mels=...) or a longer FFT (frontend.n_fft={2 * n_fft})"
            )
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters_FM", filters.T.contiguous(), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        with full_precision(waveform):
            mel_power = self.filters_FM @ power_spectrogram(waveform, self.window, self.hop_samples, self.pad_mode)
            return COMPRESSIONS[self.compression](mel_power)

    def num_frames(self, num_samples: int) -> int:
        """T for ``num_samples``; 0 if too short."""
        if self.pad_mode == "song":
            return max(num_samples - self.n_fft, -self.hop_samples) // self.hop_samples + 1
        min_samples = self.n_fft // 2 + 1 if self.pad_mode == "reflect" else 1
        # the padding, half a window at both ends, is a sample less than an odd window
        return (num_samples - self.n_fft % 2) // self.hop_samples + 1 if num_samples >= min_samples else 0


def check_constants(n_fft: int, bands: int) -> None:
    """Raise MusictagError if filters of ``bands`` on the bins of ``n_fft`` would take more memory than allowed.

    Settings may come from untrusted files.
    """
    numbers = (n_fft // 2 + 1) * bands
    if bands > MAX_BANDS or numbers > MAX_CONSTANTS:
        raise MusictagError(
            f"frontend.n_fft={n_fft} and {bands:,} bands make {numbers:,} constants; at most {MAX_CONSTANTS:,}, of "
            f"{MAX_BANDS:,} bands, are allowed: use a shorter FFT or fewer bands"
        )


def power_spectrogram(waveform: Tensor, window: Tensor, hop_samples: int, pad_mode: str) -> Tensor:
    """Waveform B×N -> power float32, B×bins×T, bins = len(window) // 2 + 1. For ``pad_mode`` see LogMel."""
    if not waveform.shape[-1]:  # zeros alone, the padding, would pass
        raise RuntimeError("a waveform without samples has no spectrogram")
    centred = pad_mode != "song"
    if torch.compiler.is_exporting():
        padding = (len(window) // 2 if centred else 0,) * 2
        padded = F.pad(waveform.float()[:, None], padding, mode=pad_mode if centred else "constant")
        return _power_by_convolution(padded, window, hop_samples)
    # torch's own: torch.compile cannot follow torchaudio's. Not its magnitude: a root, which would be squared again
    spectrum = torch.stft(
        waveform.float(),
        len(window),
        hop_samples,
        window=window,
        center=centred,
        pad_mode=pad_mode if centred else "constant",
        return_complex=True,
    )
    return spectrum.real.square() + spectrum.imag.square()


def _power_by_convolution(padded: Tensor, window: Tensor, hop_samples: int) -> Tensor:
    """Padded waveform B×1×N -> power B×bins×T, with convolutions only: exported files need no Fourier transform."""
    size = len(window)
    bins = torch.arange(size // 2 + 1, dtype=torch.float64)
    # products modulo the size, so that large angles lose no digits
    angles = 2 * torch.pi / size * (bins[:, None] * torch.arange(size, dtype=torch.float64) % size)
    filters = torch.cat([angles.cos(), angles.sin()])[:, None].float() * window.cpu()
    real, imaginary = F.conv1d(padded, filters.to(padded.device), stride=hop_samples).chunk(2, dim=1)
    return real.square() + imaginary.square()
