"""The harmonic front-end: its filters, the authors' numbers, refused settings."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch

from musictag.common.errors import MusictagError
from musictag.models.frontends.harmonic import Harmonic, HarmonicSpectrogram
from tests.helpers.models import build_frontend, draw


def test_harmonic_filters_are_triangles_on_the_harmonics_of_notes():
    module = HarmonicSpectrogram(sample_rate=16000, n_fft=512, hop_samples=256, num_harmonics=6, bands_per_semitone=2)
    highest = librosa.note_to_midi(librosa.hz_to_note(16000 / 12))
    notes = np.arange(librosa.note_to_midi("C1"), highest, 0.5)
    assert module.num_notes == len(notes) == 128
    expected = np.zeros((6, 128, 257))
    for h in range(6):
        for n, fundamental in enumerate(librosa.midi_to_hz(notes)):
            centre = (h + 1) * fundamental
            half_width = (0.1079 * centre + 24.7) / 1.5 / 2
            corners = [centre - half_width, centre, centre + half_width]
            expected[h, n] = np.interp(np.arange(257) * 31.25, corners, [0, 1, 0], left=0, right=0)
    assert [name for name, _ in module.named_parameters()] == ["bandwidth_q"]
    module.bandwidth_q.data.fill_(1.5)
    np.testing.assert_allclose(module.filters().detach().reshape(6, 128, 257), expected, atol=2e-5)


@torch.inference_mode()
def test_each_harmonic_of_a_note_is_loudest_at_that_note():
    module = HarmonicSpectrogram(sample_rate=16000, n_fft=512, hop_samples=256, num_harmonics=6, bands_per_semitone=2)
    seconds = torch.arange(16000) / 16000
    harmonics_of_a4 = torch.stack([torch.sin(2 * torch.pi * 440 * h * seconds) for h in range(1, 7)])
    decibels = module(harmonics_of_a4)
    assert decibels.shape == (6, 6, 128, module.num_frames(16000)) == (6, 6, 128, 63)
    loudest = decibels[range(6), range(6), :, 30].argmax(1)
    assert (loudest - 2 * (69 - 24)).abs().max() <= 2  # within a semitone
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(module(harmonics_of_a4), decibels, rtol=0, atol=0)


@torch.inference_mode()
def test_harmonic_gives_what_the_authors_code_gives():
    # their Model(conv_channels=2, n_fft=512, learn_bw="only_Q", dataset="mtat") up to its res7, the same weights
    frontend = Harmonic(filters=(2, 2, 2, 2, 4, 4, 4)).eval()
    rng = np.random.default_rng(7)
    draw(frontend, rng)
    waveform = torch.from_numpy(0.1 * rng.standard_normal((1, 80_000))).float()
    expected = torch.tensor([9853.888671875, 6832.41357421875, 49293.2109375, 4884.5419921875])
    torch.testing.assert_close(frontend(waveform).flatten(), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"filters": []}, r"frontend\.filters"),
        ({"poolings": [[2, 2]]}, r"frontend\.poolings"),
        ({"num_harmonics": 0}, r"frontend\.num_harmonics=0 must be positive"),
        ({"bands_per_semitone": 1}, r"frontend\.bands_per_semitone=1 make 64 bands .* needs 128"),
        ({"num_harmonics": 300}, r"frontend\.num_harmonics=300 .* make 0 bands"),
        ({"hop_samples": 0}, r"frontend\.hop_samples=0"),
    ],
)
def test_settings_that_cannot_work(settings, message):
    with pytest.raises(MusictagError, match=message):
        build_frontend("harmonic", **settings)
