"""Front-ends on the log-mel spectrogram, which build in musical knowledge.

Legend: B patches, N samples, F mel bands, C channels, T frames.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torchaudio import functional as audio

from musictag.errors import MusictagError
from musictag.frontends import FrontEnd
from musictag.layers import BATCH_NORM_MOMENTUM, SameConv1d, batch_norm, conv_relu_norm, full_precision, initialise


class LogMel(nn.Module):
    """Waveform B×N -> log-mel B×F×T: log10(10000 x + 1) of the mel power x.

    Hann window; Slaney's mel scale and normalisation, as in librosa. Frames are centred, so T = N // hop_samples + 1;
    ``pad_mode`` says what lies beyond both ends: ``constant`` (silence) or ``reflect``. Always float32, also under
    autocast: in float16 the factor of 10,000 overflows. The paper's FFT and hop are not known; the defaults are those
    of its successor musicnn.
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
    ):
        super().__init__()
        f_max_hz = sample_rate / 2 if f_max_hz is None else f_max_hz
        if pad_mode not in ("constant", "reflect"):
            raise MusictagError(f"frontend.pad_mode is {pad_mode!r}; allowed: constant, reflect")
        if not 0 <= f_min_hz < f_max_hz <= sample_rate / 2:
            raise MusictagError(
                f"frontend.f_min_hz={f_min_hz} frontend.f_max_hz={f_max_hz}: "
                f"needs 0 <= f_min_hz < f_max_hz <= {sample_rate / 2}"
            )
        if min(n_fft, hop_samples, num_mels) < 1:
            raise MusictagError(
                f"must be positive: frontend.n_fft={n_fft} .hop_samples={hop_samples} .num_mels={num_mels}"
            )
        self.n_fft, self.hop_samples, self.pad_mode = n_fft, hop_samples, pad_mode
        with (
            torch.device("cpu"),
            warnings.catch_warnings(),
        ):  # constants: needed even where the weights are only sketched on the meta device
            warnings.simplefilter("ignore")  # empty bands are refused below
            filters = audio.melscale_fbanks(
                n_fft // 2 + 1, f_min_hz, f_max_hz, num_mels, sample_rate, norm="slaney", mel_scale="slaney"
            )
            window = torch.hann_window(n_fft)
        if empty := int((filters.amax(0) == 0).sum()):
            raise MusictagError(
                f"{empty} of {num_mels} mel bands are empty: too many for frontend.n_fft={n_fft}; "
                f"type fewer bands (frontend.num_mels=...) or a longer FFT (frontend.n_fft={2 * n_fft})"
            )
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters_FM", filters.T.contiguous(), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        with full_precision(waveform):
            power = audio.spectrogram(
                waveform.float(),
                pad=0,
                window=self.window,
                n_fft=self.n_fft,
                hop_length=self.hop_samples,
                win_length=self.n_fft,
                power=2.0,
                normalized=False,
                pad_mode=self.pad_mode,
            )
            return torch.log10(10000.0 * (self.filters_FM @ power) + 1.0)

    def num_frames(self, num_samples: int) -> int:
        """T for ``num_samples``; 0 where they are too few to be padded."""
        min_samples = self.n_fft // 2 + 1 if self.pad_mode == "reflect" else 1
        return num_samples // self.hop_samples + 1 if num_samples >= min_samples else 0


class SpectrogramFrontEnd(FrontEnd):
    """forward = features(spectrogram(waveform)), with the log-mel normalised on its way. Subclasses offer ``features``.

    ``normalise="dataset"`` makes the log-mel zero mean and unit variance over the training songs, as the paper does:
    one mean and one standard deviation for all bands, set by ``fit_normalisation`` before training and
    stored in the checkpoint; using the model without them raises MusictagError. ``"batch_norm"`` learns both
    on the way with a batch norm over the single channel; ``"none"`` leaves the log-mel as it is.
    """

    def __init__(
        self,
        normalise: str = "dataset",
        norm_momentum: float = BATCH_NORM_MOMENTUM,
        sample_rate: int = 16000,
        n_fft: int = 512,
        hop_samples: int = 256,
        num_mels: int = 96,
        f_min_hz: float = 0.0,
        f_max_hz: float | None = None,
        pad_mode: str = "constant",
    ):
        super().__init__()
        if normalise not in ("dataset", "batch_norm", "none"):
            raise MusictagError(f"frontend.normalise is {normalise!r}; allowed: dataset, batch_norm, none")
        self.sample_rate = sample_rate
        self.normalise = normalise
        self.log_mel = LogMel(sample_rate, n_fft, hop_samples, num_mels, f_min_hz, f_max_hz, pad_mode)
        if normalise == "batch_norm":
            self.input_norm = batch_norm(1, norm_momentum, dimensions=2)
        if normalise == "dataset":
            self.register_buffer("normalisation_mean", torch.full((), torch.nan))
            self.register_buffer("normalisation_std", torch.full((), torch.nan))
            self.register_buffer("normalisation_fitted", torch.zeros((), dtype=torch.long))
            self._seen_fitted = False  # saves asking the device at every step
            self.register_load_state_dict_post_hook(_forget_fitted)

    @abstractmethod
    def features(self, spectrogram: Tensor) -> Tensor:
        """Normalised log-mel B×F×T -> features B×C×T."""

    def forward(self, waveform: Tensor) -> Tensor:
        return self.features(self.spectrogram(waveform))

    def num_frames(self, num_samples: int) -> int:
        return self.log_mel.num_frames(num_samples)

    def spectrogram(self, waveform: Tensor) -> Tensor:
        """Waveform B×N -> normalised log-mel B×F×T float32."""
        log_mel = self.log_mel(waveform)
        if self.normalise == "dataset":
            self._require_normalisation()
            return (log_mel - self.normalisation_mean) / self.normalisation_std
        if self.normalise == "batch_norm":
            with full_precision(log_mel):
                return self.input_norm(log_mel.unsqueeze(1)).squeeze(1)
        return log_mel

    @torch.no_grad()
    def fit_normalisation(self, waveforms: Iterable[Tensor]) -> None:
        """Set mean and standard deviation from blocks of training songs, each B×N float32; exact, in float64.

        Does nothing unless ``normalise="dataset"``. Raises MusictagError if there is nothing to measure, or only
        one value (silence).
        """
        if self.normalise != "dataset":
            return
        count, total, squares = 0, 0.0, 0.0
        for waveform in waveforms:
            if not waveform.is_floating_point():
                raise TypeError(f"waveforms are float32 in [-1, 1], not {waveform.dtype}")
            log_mel = self.log_mel(waveform.to(self.log_mel.window.device)).double()
            count += log_mel.numel()
            total += float(log_mel.sum())
            squares += float(log_mel.square().sum())
        mean = total / count if count else 0.0
        variance = squares / count - mean**2 if count else 0.0
        if not variance > 1e-12:
            raise MusictagError(
                "frontend.normalise=dataset: the training songs given are none, or silent, or not finite "
                f"({count} log-mel values with variance {variance}); type frontend.normalise=batch_norm to do without"
            )
        self.normalisation_mean.fill_(mean)
        self.normalisation_std.fill_(variance**0.5)
        self.normalisation_fitted.fill_(1)

    def _require_normalisation(self) -> None:
        if self._seen_fitted:
            return
        if not bool(self.normalisation_fitted):
            raise MusictagError(
                "frontend.normalise=dataset, but the mean and standard deviation of the training songs are not set: "
                "call fit_normalisation(waveforms), load a trained checkpoint, or type frontend.normalise=batch_norm"
            )
        self._seen_fitted = True


def _forget_fitted(frontend: SpectrogramFrontEnd, _incompatible_keys: object) -> None:
    frontend._seen_fitted = False


class MusicallyMotivated(SpectrogramFrontEnd):
    """Many vertical and horizontal filter shapes in one layer: the paper's spectrogram model.

    Timbral branch: filters of height int(0.9 F) and int(0.4 F), widths 7, 3, 1 with n, 2n, 4n of each, padded in time,
    max-pooled over the whole frequency axis. Temporal branch: the mean over frequency, then filters of length
    165, 128, 64, 32 with n, 2n, 4n, 8n of each. ``num_filters`` is n; C = 29 n.
    """

    def __init__(self, num_filters: int = 16, norm_momentum: float = BATCH_NORM_MOMENTUM, **spectrogram):
        super().__init__(norm_momentum=norm_momentum, **spectrogram)
        n = num_filters
        num_mels = self.log_mel.filters_FM.shape[0]
        if n < 1 or num_mels < 3:
            raise MusictagError(f"frontend.num_filters={n} frontend.num_mels={num_mels}: needs at least 1 and 3")
        self.timbral = nn.ModuleList(
            conv_relu_norm(nn.Conv2d(1, filters, (height, width), padding=(0, width // 2)), norm_momentum)
            for height in (int(0.9 * num_mels), int(0.4 * num_mels))
            for width, filters in ((7, n), (3, 2 * n), (1, 4 * n))
        )
        self.temporal = nn.ModuleList(
            conv_relu_norm(SameConv1d(1, filters, length), norm_momentum)
            for length, filters in ((165, n), (128, 2 * n), (64, 4 * n), (32, 8 * n))
        )
        self.out_channels = 29 * n
        initialise(self)

    def features(self, spectrogram: Tensor) -> Tensor:
        image = spectrogram.unsqueeze(1)
        # max remembers the place, where amax would search it again on the way back: a fifth more time in training
        timbral = [layer(image).max(dim=2).values for layer in self.timbral]
        loudness = spectrogram.mean(1, keepdim=True)
        temporal = [layer(loudness) for layer in self.temporal]
        return torch.cat(timbral + temporal, dim=1)
