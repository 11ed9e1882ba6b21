"""Layers that several models share."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from musictag.backends.residual import Residual
from musictag.errors import MusictagError
from musictag.layers import SameConv1d, scaled


@pytest.mark.parametrize("length", [1, 2, 7, 32, 165])
def test_same_padding_is_tensorflows(length):
    layer = SameConv1d(1, 1, length)
    torch.nn.init.ones_(layer.weight), torch.nn.init.zeros_(layer.bias)
    impulse = torch.zeros(1, 1, 400)
    impulse[0, 0, 200] = 1
    response = layer(impulse)[0, 0]
    assert response.shape == (400,)
    # an even kernel pads one more on the right, so it looks one frame further ahead than back
    heard = response.nonzero().flatten()
    assert (heard.min().item(), heard.max().item()) == (200 - length // 2, 200 + (length - 1) // 2)


def test_synchronised_batch_norms_find_every_layer() -> None:
    # what several GPUs use in place of batch norms must leave the model the same
    backend = Residual(
        in_channels=6, in_frames=20, num_tags=3, filters=16, dense_units=8, batch_norm="reference"
    ).eval()
    features = torch.randn(4, 6, 20)
    before = backend(features)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(backend).eval()
    assert isinstance(converted.norm2, nn.SyncBatchNorm)
    torch.testing.assert_close(converted(features), before)


def test_multiplied_filters():
    assert scaled((16, 51, 3), 0.125) == (2, 6, 1)
    assert scaled((16, 51), 2) == (32, 102)
    for multiplier in (0, -1.0):
        with pytest.raises(MusictagError, match=r"frontend\.filter_multiplier"):
            scaled((16,), multiplier)
