"""Stacks of small square filters: order of the layers, dropout, initialiser, Choi's patch, refused settings."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from musictag.common.errors import MusictagError
from musictag.models.frontends.small_filters import SmallFilters
from tests.helpers.models import build_frontend, draw, normed


@pytest.mark.parametrize("norm", ["before", "after"])
@pytest.mark.parametrize(("activation", "function"), [("relu", F.relu), ("elu", F.elu)])
@torch.inference_mode()
def test_order_of_the_layers_and_bands_left_become_channels(norm, activation, function):
    frontend = SmallFilters(
        filters=(3, 4), poolings=((2, 3), (2, 2)), strides=((2, 1), (2, 2)), dropouts=(0.5, 0.5),
        activation=activation, norm=norm, num_mels=13,
    ).eval()  # fmt: skip
    draw(frontend, np.random.default_rng(1))
    spectrogram = torch.randn(2, 13, 20)
    image = spectrogram.unsqueeze(1)
    for layer, window, stride in zip(frontend.layers, ((2, 3), (2, 2)), ((2, 1), (2, 2)), strict=True):
        conv = next(part for part in layer if isinstance(part, nn.Conv2d))
        batch_norm = next(part for part in layer if isinstance(part, nn.BatchNorm2d))
        image = F.conv2d(image, conv.weight, conv.bias, padding=1)
        image = function(normed(batch_norm, image)) if norm == "before" else normed(batch_norm, function(image))
        image = F.max_pool2d(image, window, stride)
    assert image.shape == (2, 4, 3, 9)
    features = frontend.features(spectrogram)
    assert features.shape == (2, frontend.out_channels, 9) == (2, 12, 9)
    for channel in range(4):
        for band in range(3):
            torch.testing.assert_close(features[:, 3 * channel + band], image[:, channel, band])


def test_dropout_has_a_rate_for_each_layer():
    torch.manual_seed(0)
    settings = {"filters": (8, 8), "poolings": ((1, 1), (1, 1)), "activation": "elu"}
    spectrogram = torch.randn(2, 96, 30)
    for dropouts, expected in (((0.0, 0.75), 0.75), ((0.75, 0.0), 0.0)):
        frontend = SmallFilters(dropouts=dropouts, **settings)
        assert (frontend.features(spectrogram) == 0).float().mean().item() == pytest.approx(expected, abs=0.01)
        assert (frontend.layers[0](spectrogram[:, None]) == 0).float().mean().item() == pytest.approx(
            dropouts[0], abs=0.01
        )
        assert (frontend.eval().features(spectrogram) != 0).all()


def test_squares_begin_as_glorot_s():
    torch.manual_seed(0)
    conv = SmallFilters(filters=(64, 128), poolings=((2, 2),) * 2, dropouts=(0, 0)).layers[1][0]
    limit = sqrt(6 / (9 * 64 + 9 * 128))
    assert 0.99 * limit < conv.weight.abs().max().item() <= limit
    assert conv.weight.std().item() == pytest.approx(limit / sqrt(3), rel=0.01)
    assert conv.bias.abs().max().item() == 0


def test_choi_s_patch_has_as_many_frames_of_log_mel_at_16_khz():
    frontend = build_frontend("fcn", filter_multiplier=0.01)
    assert frontend.log_mel.num_frames(round(29.1 * 16000)) == 1366
    assert frontend.log_mel.hop_samples / 16000 == pytest.approx(256 / 12000, rel=1e-3)
    assert frontend.log_mel.n_fft / 16000 == pytest.approx(512 / 12000, rel=2e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"filters": [8, 8]}, r"frontend\.poolings .* each of the 2 layers .* such as \[\[2, 2\], \[2, 2\]\]"),
        ({"poolings": [[2, 4], [4, 5], [3, 8], [4]]}, r"frontend\.poolings .* each of the 4 layers"),
        ({"poolings": [[2, 4], [4, 5], [3, 8], [4, 0]]}, r"frontend\.poolings"),
        ({"dropouts": [0.5]}, r"frontend\.dropouts"),
        ({"dropouts": [0.5, 0.5, 0.5, 1.0]}, r"frontend\.dropouts"),
        ({"activation": "tanh"}, "allowed: relu, elu"),
        ({"norm": "none"}, "allowed: before, after"),
        ({"num_mels": 95}, r"num_mels=95 are too few .* frontend\.poolings, .* use frontend\.num_mels=96"),
        ({"strides": [[2, 2]]}, r"frontend\.strides"),
    ],
)
def test_settings_that_cannot_work(settings, message):
    with pytest.raises(MusictagError, match=message):
        build_frontend("fcn", **settings)
