"""Filters that span all bands: explicit formulas, and refused settings."""

from __future__ import annotations

import pytest
import torch

from musictag.common.errors import MusictagError
from musictag.models.frontends.vertical import SingleVertical
from tests.helpers.models import build_frontend


def test_vertical_filters_span_all_bands():
    torch.manual_seed(0)
    frontend = SingleVertical(filters=(6,), kernel_frames=2, pool_frames=3, n_fft=256, num_mels=10)
    spectrogram = torch.randn(1, 10, 7)
    kernel, bias = frontend.layers[0][0].weight, frontend.layers[0][0].bias
    bias.data.fill_(-1.0)
    responses = torch.stack(
        [(kernel * spectrogram[0, :, t : t + 2]).sum((1, 2)) + bias for t in range(6)], dim=1
    ).clamp(min=0)
    expected = torch.stack([responses[:, :3].amax(1), responses[:, 3:].amax(1)], dim=1)
    assert 0 < (expected > 0).sum() < expected.numel()  # the rectifier has something to do
    torch.testing.assert_close(frontend.features(spectrogram)[0], expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"filters": []}, r"frontend\.filters"),
        ({"filters": [8, 0]}, r"frontend\.filters"),
        ({"kernel_frames": 0}, r"frontend\.kernel_frames=0"),
        ({"pool_frames": 0}, r"frontend\.pool_frames=0"),
    ],
)
def test_settings_that_cannot_work(settings, message):
    with pytest.raises(MusictagError, match=message):
        build_frontend("vertical", **settings)
