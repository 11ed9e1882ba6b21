"""Layers shared by several models."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from musictag.common.errors import MusictagError
from musictag.models.backends.residual import Residual
from musictag.models.layers import SameConv1d, scaled
from tests.helpers.models import make_small_network


@pytest.mark.parametrize("length", [1, 2, 7, 32, 165])
def test_same_padding_is_tensorflows(length):
    layer = SameConv1d(1, 1, length)
    torch.nn.init.ones_(layer.weight), torch.nn.init.zeros_(layer.bias)
    impulse = torch.zeros(1, 1, 400)
    impulse[0, 0, 200] = 1
    response = layer(impulse)[0, 0]
    assert response.shape == (400,)
    # an even kernel pads one more on the right, so it reaches one frame further ahead than back
    heard = response.nonzero().flatten()
    assert (heard.min().item(), heard.max().item()) == (200 - length // 2, 200 + (length - 1) // 2)


def test_synchronised_batch_norms_find_every_layer() -> None:
    # code that replaces batch norms on several GPUs must not change the model
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


@pytest.mark.parametrize("name", ["pons_waveform", "pons_spectrogram"])
def test_running_statistics_take_a_hundredth_of_each_batch(name: str) -> None:
    """As in the paper's code: TensorFlow's momentum of 0.99."""
    tagger = make_small_network(name).train()
    norms = {key: layer for key, layer in tagger.named_modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)}
    seen: dict[str, Tensor] = {}
    for key, layer in norms.items():
        layer.register_forward_pre_hook(lambda _, inputs, key=key: seen.update({key: inputs[0]}))
    torch.manual_seed(0)
    tagger(0.1 * torch.randn(3, tagger.input_samples))
    assert len(norms) > 9
    for key, layer in norms.items():
        axes = [axis for axis in range(seen[key].ndim) if axis != 1]
        torch.testing.assert_close(layer.running_mean, 0.01 * seen[key].mean(axes), msg=key)
        variance = seen[key].transpose(0, 1).flatten(1).var(1)
        torch.testing.assert_close(layer.running_var, 0.99 + 0.01 * variance, msg=key)
