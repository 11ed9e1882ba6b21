"""The short-chunk CNN: one layer in explicit formulas, and refused settings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from musictag.common.errors import MusictagError
from musictag.models.frontends.short_chunk import ShortChunk
from tests.helpers.models import build_frontend, draw, normed


@torch.inference_mode()
def test_short_chunk_layer_is_convolution_norm_relu_pooling():
    frontend = ShortChunk(filters=(3,), strides=((4, 2),), num_mels=8).eval()
    draw(frontend, np.random.default_rng(3))
    conv, norm = frontend.layers[0][0][0], frontend.layers[0][0][1]
    spectrogram = torch.randn(2, 8, 11)
    image = F.conv2d(spectrogram.unsqueeze(1), conv.weight, conv.bias, padding=1)
    expected = F.max_pool2d(F.relu(normed(norm, image)), (4, 2)).reshape(2, 6, 5)
    torch.testing.assert_close(frontend.features(spectrogram), expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_mels": 96}, r"num_mels=96 are too few .* frontend\.strides, .* frontend\.num_mels=128"),
        ({"filters": [-1] * 7}, r"frontend\.filters"),
        ({"strides": [[2, 2]] * 6}, r"frontend\.strides .* each of the 7 layers"),
    ],
)
def test_settings_that_cannot_work(settings, message):
    with pytest.raises(MusictagError, match=message):
        build_frontend("short_chunk", **settings)
