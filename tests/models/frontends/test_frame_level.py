"""The strided front-end of Dieleman and Schrauwen: explicit formulas, compression, batch norm, refused settings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from musictag.common.errors import MusictagError
from musictag.models.frontends.frame_level import FrameLevel
from tests.helpers.models import build_frontend


@pytest.mark.parametrize("non_linearity", ["relu", "log"])
@torch.inference_mode()
def test_frame_level_by_hand(non_linearity):
    torch.manual_seed(0)
    frontend = FrameLevel(8, 4, 5, (3,), filter_frames=2, pool_frames=3, non_linearity=non_linearity).double().eval()
    waveform = torch.randn(50, dtype=torch.float64)
    strided, conv = (layer for layer in frontend.layers if isinstance(layer, nn.Conv1d))
    windows = np.lib.stride_tricks.sliding_window_view(waveform.numpy(), 8)[::4]
    bank = windows @ strided.weight[:, 0].numpy().T  # frames × filters
    bank = np.maximum(bank, 0) if non_linearity == "relu" else np.log(10000 * np.abs(bank) + 1)
    both = np.concatenate([bank[:-1], bank[1:]], axis=1)
    kernel = conv.weight.permute(0, 2, 1).flatten(1).numpy()
    hidden = np.maximum(both @ kernel.T, 0)
    expected = hidden[:9].reshape(3, 3, 3).max(axis=1).T
    if non_linearity == "log":  # computed in float32
        frontend.layers[2].float()
    np.testing.assert_allclose(frontend(waveform[None])[0], expected, rtol=1e-5, atol=1e-6)


def test_log_compression_is_float32_under_autocast():
    torch.manual_seed(0)
    compression = FrameLevel(non_linearity="log").layers[1]
    with torch.autocast("cpu", torch.bfloat16):
        loud = compression(torch.tensor([-100.0, 0.0, 100.0], dtype=torch.float16))
    assert loud.dtype == torch.float32
    torch.testing.assert_close(loud, torch.tensor([1_000_001.0, 1.0, 1_000_001.0]).log())


def test_frame_level_has_batch_norm_where_asked():
    def norms(**settings) -> list[float]:
        layers = build_frontend("frame_level", **settings).layers
        return [layer.momentum for layer in layers if isinstance(layer, nn.BatchNorm1d)]

    assert norms() == []
    assert norms(batch_norm=True, norm_momentum=0.25) == [0.25] * 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"filter_samples": 0}, r"frontend\.filter_samples=0"),
        ({"stride_samples": 0}, r"\.stride_samples=0"),
        ({"filter_frames": 0}, r"\.filter_frames=0"),
        ({"pool_frames": 0}, r"\.pool_frames=0"),
        ({"strided_filters": 0}, r"frontend\.strided_filters=0"),
        ({"filters": [32, 0]}, r"frontend\.filters=\[32, 0\]"),
        ({"non_linearity": "tanh"}, "allowed: relu, log"),
    ],
)
def test_settings_that_cannot_work(settings, message):
    with pytest.raises(MusictagError, match=message):
        build_frontend("frame_level", **settings)
