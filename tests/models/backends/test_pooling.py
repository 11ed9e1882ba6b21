"""Pooling over time: explicit formulas, autocast, and refused settings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from musictag.common.errors import MusictagError
from musictag.models.backends.pooling import Attention, Auto, Max, MaxMean, Mean, Pooling


def softmax(scores: np.ndarray) -> np.ndarray:
    return np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)


@pytest.mark.parametrize("num_frames", [2, 3, 40])
def test_pooling_is_as_its_formula(num_frames):
    torch.manual_seed(0)
    features = torch.randn(4, 6, num_frames)
    x = features.double().numpy()
    attention, auto = Attention(6), Auto(6)
    nn.init.normal_(auto.alpha)
    w, b = attention.score.weight.detach().double().numpy()[0, :, 0], attention.score.bias.item()
    weights = softmax(np.tanh(np.einsum("c,bct->bt", w, x) + b))
    both = np.stack([x.max(-1), x.mean(-1)], axis=-1)
    alpha = auto.alpha.detach().double().numpy()
    for layer, expected in [
        (Max(6), x.max(-1)),
        (Mean(6), x.mean(-1)),
        (MaxMean(6), both.reshape(4, 12)),
        (attention, np.einsum("bt,bct->bc", weights, x)),
        (auto, (softmax(alpha * x) * x).sum(-1)),
    ]:
        np.testing.assert_allclose(layer(features).detach(), expected, atol=1e-5, err_msg=type(layer).__name__)
        assert layer.out_channels == expected.shape[1]


def test_auto_pooling_begins_as_the_mean_and_reaches_both_ends():
    features, layer = torch.randn(4, 6, 30), Auto(6)
    torch.testing.assert_close(layer(features), features.mean(-1))
    nn.init.constant_(layer.alpha, 1e4)
    torch.testing.assert_close(layer(features), features.amax(-1))
    nn.init.constant_(layer.alpha, -1e4)
    torch.testing.assert_close(layer(features), features.amin(-1))


def test_auto_pooling_is_float32_under_autocast():
    features, layer = 100 * torch.randn(4, 6, 30), Auto(6)
    nn.init.constant_(layer.alpha, 0.02)
    with torch.autocast("cpu", torch.bfloat16):
        within = layer(features)
    torch.testing.assert_close(within, layer(features), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("pooling", "fewest"), [("max", 1), ("mean", 1), ("max_mean", 1), ("attention", 2), ("auto", 2)]
)
def test_a_single_frame_has_no_weights(pooling, fewest):
    backend = Pooling(6, 10, 3, pooling=pooling).eval()
    assert backend.min_frames == fewest
    if fewest == 2:
        with pytest.raises(RuntimeError, match="1 frames, but this pooling needs 2"):
            backend(torch.randn(2, 6, 1))


def test_unknown_pooling():
    with pytest.raises(
        MusictagError, match=r"backend\.pooling is 'sum'; allowed: max, mean, max_mean, attention, auto"
    ):
        Pooling(6, 10, 3, pooling="sum")
