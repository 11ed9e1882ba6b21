"""What runs on GPUs in another layout computes the same as the plain layers, forward and backward."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from musictag.models.backends.residual import Residual, normalised_over_all
from musictag.models.frontends.spectrogram import MusicallyMotivated
from musictag.models.frontends.waveform import FEW_CHANNELS, SampleLevel
from musictag.models.layers import batch_norm, channels_innermost


def results(layers: nn.Module, run: Callable[[nn.Module, Tensor], Tensor], features: Tensor) -> list[Tensor]:
    """Output, gradients and running statistics, of a copy of the layers."""
    layers, features = copy.deepcopy(layers).double(), features.double().requires_grad_()
    output = run(layers, features)
    output.square().sum().backward()
    return [output, features.grad, *(p.grad for p in layers.parameters()), *layers.buffers()]


@pytest.mark.parametrize("compiled", [True, False])
def test_waveform_layers(compiled: bool):
    torch.manual_seed(0)
    layers = SampleLevel((8, 6, 5, 4), norm_momentum=0.1).layers
    ours = torch.compile(channels_innermost, backend="eager", fullgraph=True) if compiled else channels_innermost
    waveform = torch.randn(3, 400)  # a last sample that no frame has
    plain = results(layers, lambda layers, x: layers(x.unsqueeze(1)), waveform)
    for value, reference in zip(results(layers, ours, waveform), plain, strict=True):
        torch.testing.assert_close(value, reference, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("channels", [FEW_CHANNELS, FEW_CHANNELS + 1])
def test_few_channels_are_innermost_in_a_compiled_step_on_a_cpu(channels: int, monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    frontend, waveform, layouts = SampleLevel((channels, 4), norm_momentum=0.1), torch.randn(3, 400), []
    plain = results(frontend, lambda frontend, x: frontend.layers(x.unsqueeze(1)), waveform)

    def run(frontend: SampleLevel, x: Tensor) -> Tensor:
        first = frontend.layers[1][1]  # the ReLU of the second convolution
        first.register_forward_hook(lambda layer, given, made: layouts.append(made.dim()))
        return torch.compile(frontend, backend="eager")(x)

    for value, reference in zip(results(frontend, run, waveform), plain, strict=True):
        torch.testing.assert_close(value, reference, rtol=1e-9, atol=1e-9)
    assert layouts == [4 if channels == FEW_CHANNELS else 3]


def test_one_scale_for_all():
    torch.manual_seed(0)
    norm, features = batch_norm(1, 0.1), torch.randn(3, 5, 7) + 1
    nn.init.constant_(norm.weight, 1.5)
    plain = results(norm, lambda norm, x: norm(x.flatten(1).unsqueeze(1)).view_as(x), features)
    for ours, reference in zip(results(norm, normalised_over_all, features), plain, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-9)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("family", ["waveform", "spectrogram"])
def test_a_gpu_trains_like_a_cpu(family: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    torch.manual_seed(0)
    if family == "waveform":
        frontend, features = SampleLevel((16, 16, 32), norm_momentum=0.1), torch.randn(8, 6000)
    else:
        frontend, features = MusicallyMotivated(2, normalise="none"), torch.randn(8, 96, 200)
    network = nn.Sequential(frontend, Residual(frontend.out_channels, 90, 5, 64, 20, dropout=0.0))

    def run(network: nn.Module, x: Tensor) -> Tensor:
        return network[1](network[0](x) if family == "waveform" else network[0].features(x))

    plain = results(network, run, features)
    on_gpu = results(network.cuda(), run, features.cuda())
    for value, reference in zip(on_gpu, plain, strict=True):
        torch.testing.assert_close(value.cpu(), reference, rtol=1e-4, atol=1e-4)
