"""Convolution, ReLU, batch norm and pooling in one step train like the plain layers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from musictag.models import fused
from musictag.models.frontends import FrontEnd, spectrogram
from musictag.models.frontends.spectrogram import MusicallyMotivated
from musictag.models.frontends.waveform import SampleLevel
from musictag.models.fused import Window, conv_relu_norm_pool, fusible
from musictag.models.layers import conv_relu_norm

FRONT_ENDS: dict[str, Callable[[], FrontEnd]] = {
    "waveform": lambda: SampleLevel(channels=(8, 8, 16)),
    "spectrogram": lambda: MusicallyMotivated(num_filters=4, normalise="batch_norm", num_mels=40),
}
#: input positions, those with padding, stride, pooling; a kernel is three positions long
WINDOWS = ((20, 21, 1, 3), (17, 18, 1, 3), (23, 24, 3, 1), (9, 9, 1, 7), (22, 24, 1, 4))


@pytest.fixture(params=FRONT_ENDS)
def front_end(request: pytest.FixtureRequest) -> FrontEnd:
    torch.manual_seed(0)
    made = FRONT_ENDS[request.param]()
    for layer in made.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(layer.weight)  # of both signs: the maximum is that of falling functions, too
            nn.init.normal_(layer.bias)
    return made.train()


def trained(front_end: FrontEnd, waveform: Tensor) -> dict[str, Tensor]:
    """Features, gradients and state after one training step's forward and backward pass."""
    network = copy.deepcopy(front_end).to(waveform.dtype)
    waveform = waveform.clone().requires_grad_()
    features = network(waveform)
    cotangent = torch.randn(features.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    features.backward(cotangent.to(features.dtype))
    found = {"features": features.detach(), "waveform": waveform.grad}
    found |= {f"gradient of {name}": weight.grad for name, weight in network.named_parameters()}
    return found | {name: value for name, value in network.state_dict().items() if "running" in name or "num" in name}


@pytest.mark.parametrize("block", [2**18, 500])
def test_a_step_is_as_close_to_float64_as_the_plain_layers(
    front_end: FrontEnd, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "_BLOCK", block)
    monkeypatch.setattr(spectrogram, "FEWEST_FUSED", (1, 1))  # on every processor
    waveform = 0.1 * torch.randn(5, 8000)
    plain = copy.deepcopy(front_end)
    for layer in plain.modules():
        layer.register_forward_hook(lambda *_: None)
    found, expected = trained(front_end, waveform), trained(plain, waveform)
    exact = trained(plain, waveform.double())
    assert found.keys() == exact.keys()
    assert any(not torch.equal(found[name], expected[name]) for name in found)  # both paths were taken
    for name, value in exact.items():
        scale = value.abs().max().clamp(min=1e-3)
        error, usual = ((side[name] - value).abs().max() / scale for side in (found, expected))
        assert error < 3 * usual + 2e-6, name


@pytest.mark.parametrize(("fewest", "taken"), [((1, 1), True), ((8, 120), True), ((9, 1), False), ((1, 121), False)])
def test_small_layers_stay_plain_where_that_is_faster(
    fewest: tuple[int, int], taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(*_: Any, **__: Any) -> Tensor:
        raise RuntimeError("fused")

    monkeypatch.setattr(spectrogram, "FEWEST_FUSED", fewest)
    monkeypatch.setattr(spectrogram, "conv_relu_norm_pool", step)
    layer = conv_relu_norm(nn.Conv2d(1, 8, (5, 3), padding=(0, 1)), 0.1).train()
    with pytest.raises(RuntimeError, match="fused") if taken else nullcontext():
        assert spectrogram.timbral_features(torch.randn(2, 9, 7), layer).shape == (2, 8, 7)


@pytest.mark.parametrize("window", WINDOWS)
def test_gradients_are_those_of_the_function(
    window: tuple[int, int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    length, padded, stride, pool = window
    monkeypatch.setattr(fused, "_BLOCK", 50)
    torch.manual_seed(0)
    block = conv_relu_norm(nn.Conv1d(2, 5, 3, stride), 0.1).double()
    nn.init.normal_(block[2].weight)
    x = torch.randn(3, padded, 2, dtype=torch.float64, requires_grad=True)
    tensors = [x, block[0].weight, block[0].bias, block[2].weight, block[2].bias]

    def run(x: Tensor, *_: Tensor) -> Tensor:
        weight = block[0].weight.permute(2, 1, 0).flatten(0, 1)
        return conv_relu_norm_pool(x, block, weight, Window(length, 3, stride, pool), pad_to=2)

    plain = nn.functional.max_pool1d(block(x[:, :length].transpose(1, 2)), pool).transpose(1, 2)
    torch.testing.assert_close(run(x)[:, : plain.shape[1]], plain)
    assert run(x).shape[1] % 2 == 0
    assert not run(x)[:, plain.shape[1] :].any()
    assert torch.autograd.gradcheck(run, tensors)


def test_of_equal_values_the_first_gets_the_gradient() -> None:
    torch.manual_seed(0)
    block = conv_relu_norm(nn.Conv1d(1, 4, 3), 0.1).double()
    for weights in block.parameters():
        weights.data.copy_(torch.randint(-3, 4, weights.shape))  # computed without rounding
    block[2].weight.data = torch.tensor([1.0, -2.0, 3.0, -1.0], dtype=torch.float64)
    x = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64).repeat_interleave(9).reshape(2, 18, 1).requires_grad_()
    weight = block[0].weight.permute(2, 1, 0).flatten(0, 1)
    pooled = conv_relu_norm_pool(x, block, weight, Window(18, 3, 1, 3), pad_to=1)
    plain = nn.functional.max_pool1d(block(x.transpose(1, 2)), 3).transpose(1, 2)
    cotangent = torch.randn_like(plain)
    inputs = [x, *block.parameters()]
    for found, expected in zip(
        torch.autograd.grad(pooled, inputs, cotangent), torch.autograd.grad(plain, inputs, cotangent), strict=True
    ):
        torch.testing.assert_close(found, expected)


def test_what_the_plain_layers_must_do() -> None:
    block = conv_relu_norm(nn.Conv1d(1, 4, 3), 0.1).train()
    waveform = torch.randn(2, 30)
    assert fusible(waveform, block)
    with torch.no_grad():
        assert not fusible(waveform, block)
    with torch.autocast("cpu", torch.bfloat16):
        assert not fusible(waveform, block)
    assert not fusible(waveform.double(), block)
    assert not fusible(waveform.to("meta"), block)
    assert not fusible(waveform, block, copy.deepcopy(block).eval())
    assert not fusible(waveform, nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(block)))
    block[1].register_forward_hook(lambda *_: None)
    assert not fusible(waveform, block)
