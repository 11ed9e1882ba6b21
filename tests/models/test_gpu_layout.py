"""What runs on GPUs in another layout computes the same as the plain layers, forward and backward."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from musictag.models.backends.residual import Residual, normalised_over_all
from musictag.models.frontends.waveform import SampleLevel
from musictag.models.layers import batch_norm, with_channels_last


def results(layers: nn.Module, run: Callable[[nn.Module, Tensor], Tensor], features: Tensor) -> list[Tensor]:
    """Output, gradients and running statistics, of a copy of the layers."""
    layers, features = copy.deepcopy(layers).double(), features.double().requires_grad_()
    output = run(layers, features)
    output.square().sum().backward()
    return [output, features.grad, *(p.grad for p in layers.parameters()), *layers.buffers()]


@pytest.mark.parametrize("training", [True, False])
def test_channels_last(training: bool):
    torch.manual_seed(0)
    layers = SampleLevel((8, 6, 5, 4), norm_momentum=0.1).layers.train(training)
    waveform = torch.randn(3, 1, 400)
    plain = results(layers, lambda layers, x: layers(x), waveform)
    for ours, reference in zip(results(layers, with_channels_last, waveform), plain, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-9)


def test_one_scale_for_all():
    torch.manual_seed(0)
    norm, features = batch_norm(1, 0.1), torch.randn(3, 5, 7) + 1
    nn.init.constant_(norm.weight, 1.5)
    plain = results(norm, lambda norm, x: norm(x.flatten(1).unsqueeze(1)).view_as(x), features)
    for ours, reference in zip(results(norm, normalised_over_all, features), plain, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-9)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_trains_like_a_cpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    torch.manual_seed(0)
    network = nn.Sequential(SampleLevel((16, 16, 32), norm_momentum=0.1), Residual(32, 90, 5, 64, 20, dropout=0.0))
    waveform = torch.randn(8, 3000)
    plain = results(network, lambda network, x: network(x), waveform)
    on_gpu = results(network.cuda(), lambda network, x: network(x), waveform.cuda())
    for ours, reference in zip(on_gpu, plain, strict=True):
        torch.testing.assert_close(ours.cpu(), reference, rtol=1e-4, atol=1e-4)
