"""Base of front-ends on the log-mel spectrogram.

Legend: B patches, N samples, F mel bands, C channels, T frames.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor

from musictag.common.errors import MusictagError
from musictag.models.frontends import FrontEnd
from musictag.models.frontends.log_mel import LogMel
from musictag.models.layers import BATCH_NORM_MOMENTUM, batch_norm, check_choice, full_precision


class SpectrogramFrontEnd(FrontEnd):
    """forward = features(spectrogram(waveform)), with normalised log-mel. Subclasses define ``features``.

    ``normalise="dataset"`` gives the log-mel zero mean and unit variance over the training songs, as in the paper: one
    mean and one standard deviation for all bands, set by ``fit_normalisation`` before training and stored in the
    checkpoint; without them the model raises MusictagError. ``"batch_norm"`` learns both during training with a batch
    norm over the single channel; ``"none"`` leaves the log-mel unchanged.
    """

    family = "spectrogram"
    augments_spectrogram = True

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
        mel: str = "slaney",
        compression: str = "log10",
    ):
        super().__init__()
        check_choice("frontend.normalise", normalise, ("dataset", "batch_norm", "none"))
        self.sample_rate = sample_rate
        self.normalise = normalise
        self.log_mel = LogMel(sample_rate, n_fft, hop_samples, num_mels, f_min_hz, f_max_hz, pad_mode, mel, compression)
        self.margin_samples = self.log_mel.margin_samples
        if normalise == "batch_norm":
            self.input_norm = batch_norm(1, norm_momentum, dimensions=2)
        if normalise == "dataset":
            self.register_buffer("normalisation_mean", torch.full((), torch.nan))
            self.register_buffer("normalisation_std", torch.full((), torch.nan))
            self.register_buffer("normalisation_fitted", torch.zeros((), dtype=torch.long))
            # known in advance: to look would synchronise with the device, and break the graph of torch.compile
            self._seen_fitted = False
            self.register_load_state_dict_post_hook(_see_fitted)

    @abstractmethod
    def features(self, spectrogram: Tensor) -> Tensor:
        """Normalised log-mel B×F×T -> features B×C×T."""

    def forward(self, waveform: Tensor) -> Tensor:
        spectrogram = self.spectrogram(waveform)
        return self.features(spectrogram if self.augment is None else self.augment(spectrogram))

    def num_frames(self, num_samples: int) -> int:
        return self.log_mel.num_frames(num_samples)

    @property
    def hop_samples(self) -> int:
        return self.log_mel.hop_samples

    def samples_under(self, num_frames: int) -> int:
        """How many samples the windows of ``num_frames`` log-mel frames cover."""
        return (num_frames - 1) * self.log_mel.hop_samples + self.log_mel.n_fft

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

    def describe_input(self) -> str:
        return f"{self.log_mel.num_mels} mel"

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
                "frontend.normalise=dataset: the given training songs are empty, silent or not finite "
                f"({count} log-mel values with variance {variance}); use frontend.normalise=batch_norm instead"
            )
        self.normalisation_mean.fill_(mean)
        self.normalisation_std.fill_(variance**0.5)
        self.normalisation_fitted.fill_(1)
        self._seen_fitted = True

    def _require_normalisation(self) -> None:
        if self._seen_fitted:
            return
        if not bool(self.normalisation_fitted):
            raise MusictagError(
                "frontend.normalise=dataset, but the mean and standard deviation of the training songs are not set: "
                "call fit_normalisation(waveforms), load a trained checkpoint, or use frontend.normalise=batch_norm"
            )
        self._seen_fitted = True


def _see_fitted(frontend: SpectrogramFrontEnd, _incompatible_keys: object) -> None:
    fitted = frontend.normalisation_fitted
    frontend._seen_fitted = not fitted.is_meta and bool(fitted)
