"""Learned filters on the harmonics of notes, followed by small square filters.

Legend: B patches, N samples, H harmonics, F notes, C channels, T frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from musictag.common.errors import MusictagError
from musictag.models.frontends import FrontEnd
from musictag.models.frontends.image_base import (
    TORCH_EPS,
    TORCH_MOMENTUM,
    ResidualBlock,
    Step,
    check_filters,
    check_pairs,
    receptive_field,
    size_after,
    smallest_size,
    stride_of,
)
from musictag.models.frontends.log_mel import check_constants, decibels, power_spectrogram
from musictag.models.layers import batch_norm, conv_norm_relu, full_precision, scaled

LOWEST_NOTE = 24  # C1, as a MIDI number
#: an auditory filter at f Hz is 0.1079 f + 24.7 Hz wide (the equivalent rectangular bandwidth)
BANDWIDTH_SLOPE, BANDWIDTH_OFFSET_HZ = 0.1079, 24.7


class HarmonicSpectrogram(nn.Module):
    """Waveform B×N -> power around the harmonics of notes, in decibels: B×H×F×T.

    There are ``bands_per_semitone`` fundamental frequencies per semitone from C1 (32.7 Hz) up to the note whose last
    harmonic is nearest to half of the sample rate. The filter of harmonic h of frequency f is a triangle at h f that is
    (0.1079 h f + 24.7) / Q Hz wide; Q, ``bandwidth_q``, is learned and starts at 1. Frames are centred, with reflection
    at both ends, T as in LogMel. Always float32, also under autocast.
    """

    def __init__(self, sample_rate: int, n_fft: int, hop_samples: int, num_harmonics: int, bands_per_semitone: int):
        super().__init__()
        highest_hz = sample_rate / (2 * num_harmonics)
        highest_note = round(69 + 12 * math.log2(highest_hz / 440))
        self.n_fft, self.hop_samples, self.num_harmonics = n_fft, hop_samples, num_harmonics
        self.num_notes = max(0, highest_note - LOWEST_NOTE) * bands_per_semitone
        check_constants(n_fft, num_harmonics * self.num_notes)
        with torch.device("cpu"):  # constants: needed even if the weights are on the meta device
            notes_F = LOWEST_NOTE + torch.arange(self.num_notes, dtype=torch.float64) / bands_per_semitone
            fundamentals_F = 440 * 2 ** ((notes_F - 69) / 12)
            harmonics_H = torch.arange(1, num_harmonics + 1, dtype=torch.float64)
            centres_hz = (harmonics_H[:, None] * fundamentals_F).flatten().float()
            bins_hz = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1)
            window = torch.hann_window(n_fft)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("centres_hz", centres_hz, persistent=False)
        self.register_buffer("distances_hz", (bins_hz - centres_hz[:, None]).abs(), persistent=False)
        self.bandwidth_q = nn.Parameter(torch.ones(1))

    def filters(self) -> Tensor:
        """One triangle per row, harmonic by harmonic: (H F)×bins."""
        bandwidths_hz = (BANDWIDTH_SLOPE * self.centres_hz + BANDWIDTH_OFFSET_HZ) / self.bandwidth_q
        return (1 - 2 * self.distances_hz / bandwidths_hz[:, None]).clamp(min=0)

    def forward(self, waveform: Tensor) -> Tensor:
        with full_precision(waveform):
            power = power_spectrogram(waveform, self.window, self.hop_samples, "reflect")
            return decibels((self.filters() @ power).unflatten(1, (self.num_harmonics, self.num_notes)))

    def num_frames(self, num_samples: int) -> int:
        """T for ``num_samples``; 0 if too short to be reflected."""
        return (num_samples - self.n_fft % 2) // self.hop_samples + 1 if num_samples > self.n_fft // 2 else 0


class Harmonic(FrontEnd):
    """The harmonic CNN, for patches of 80,000 samples: harmonics are the channels of an image of notes over time.

    Won, Chun, Nieto & Serra 2020, *Data-driven harmonic filters for audio representation learning*, their model for
    MagnaTagATune; only the Q of the filters is learned. After a batch norm over harmonics come layers of a 3×3
    convolution, batch norm and ReLU or, where ``filters`` does not change, of a residual block; each ends with a
    max-pooling by its entry in ``poolings``, [notes, frames]. The remaining notes are flattened into channels: C is the
    last of ``filters`` times their number, one by default. Global max-pooling and the dense layer, with as many units
    as channels, belong to the back-end. Their first code has an FFT of 513 samples; here it is 512, as in their later
    study.
    """

    family = "spectrogram"
    augments_spectrogram = True

    def __init__(
        self,
        filters: Sequence[int] = (128, 128, 128, 128, 256, 256, 256),
        poolings: Sequence[Sequence[int]] = ((2, 2), (2, 2), (2, 2), (2, 2), (2, 2), (2, 3), (2, 3)),
        num_harmonics: int = 6,
        bands_per_semitone: int = 2,
        filter_multiplier: float = 1.0,
        norm_momentum: float = TORCH_MOMENTUM,
        sample_rate: int = 16000,
        n_fft: int = 512,
        hop_samples: int = 256,
    ):
        super().__init__()
        check_filters(filters)
        windows = check_pairs("poolings", poolings, len(filters))
        for name, value in (
            ("num_harmonics", num_harmonics),
            ("bands_per_semitone", bands_per_semitone),
            ("sample_rate", sample_rate),
            ("n_fft", n_fft),
            ("hop_samples", hop_samples),
        ):
            if value < 1:
                raise MusictagError(f"frontend.{name}={value} must be positive")
        self.sample_rate = sample_rate
        self.harmonics = HarmonicSpectrogram(sample_rate, n_fft, hop_samples, num_harmonics, bands_per_semitone)
        self.input_norm = batch_norm(num_harmonics, norm_momentum, 2, TORCH_EPS)
        channels = (num_harmonics, *scaled(filters, filter_multiplier))
        layers: list[nn.Module] = []
        note_steps: list[Step] = []
        time_steps: list[Step] = []
        for (wide_in, wide_out), window in zip(pairwise(channels), windows, strict=True):
            residual = bool(layers) and wide_in == wide_out
            layers += [
                ResidualBlock(wide_in, wide_out, norm_momentum)
                if residual
                else conv_norm_relu(nn.Conv2d(wide_in, wide_out, 3, padding=1), norm_momentum, TORCH_EPS),
                nn.MaxPool2d(window),
            ]
            convolutions = [Step(3, padding=1)] * (2 if residual else 1)
            note_steps += [*convolutions, Step(window[0], window[0])]
            time_steps += [*convolutions, Step(window[1], window[1])]
        self.layers = nn.Sequential(*layers)
        self.time_steps = tuple(time_steps)
        num_notes, needed = self.harmonics.num_notes, smallest_size(note_steps)
        if num_notes < needed:
            raise MusictagError(
                f"frontend.num_harmonics={num_harmonics} frontend.bands_per_semitone={bands_per_semitone} make "
                f"{num_notes} bands below {sample_rate / 2:g} Hz, and frontend.poolings needs {needed}: use fewer "
                "harmonics, more bands per semitone, or smaller or fewer frontend.poolings"
            )
        self.out_channels = channels[-1] * size_after(note_steps, num_notes)
        self.hop_samples = hop_samples * stride_of(time_steps)
        self.receptive_samples = (receptive_field(time_steps) - 1) * hop_samples + n_fft

    def describe_input(self) -> str:
        return f"{self.harmonics.num_notes} notes × {self.harmonics.num_harmonics}"

    def forward(self, waveform: Tensor) -> Tensor:
        image = self.harmonics(waveform)
        with full_precision(image):
            image = self.input_norm(image)
        if self.augment is not None:
            image = self.augment(image)
        return self.layers(image).flatten(1, 2)

    def num_frames(self, num_samples: int) -> int:
        return size_after(self.time_steps, self.harmonics.num_frames(num_samples))
