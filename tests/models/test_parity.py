"""The two models against the authors' own graphs: same weights, same input, same logits; and their parameter counts.

tests/reference/paper_*.json holds the graphs' outputs. Variable i of a graph is drawn from default_rng([seed, i]).
"""

from __future__ import annotations

import json
from math import prod, sqrt
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from musictag.models.backends.residual import Residual, _normalised
from musictag.models.frontends.spectrogram import MusicallyMotivated
from musictag.models.frontends.waveform import SampleLevel
from musictag.models.layers import initialise
from tests.helpers.models import num_parameters

REFERENCE = Path(__file__).parents[1] / "reference"
NINE_LAYERS = (64, 64, 64, 128, 128, 128, 128, 128, 256)


def draw(seed: int, i: int, name: str, shape: list[int]) -> torch.Tensor:
    """Variable number ``i`` of a reference graph."""
    r = np.random.default_rng([seed, i]).standard_normal(shape).astype(np.float32)
    kind = name.rpartition("/")[2]
    if kind == "kernel":
        r = r * np.float32(sqrt(2 / prod(shape[:-1])))
    elif kind == "moving_variance":
        r = np.exp(np.float32(0.1) * r)
    else:
        r = np.float32(0.1) * r + np.float32(kind == "gamma")
    return torch.from_numpy(r)


def torch_layout(value: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A kernel from (time, [frequency], in, out) to torch's (out, in, [frequency], time), a dense one transposed."""
    if value.ndim == 4 and weight.ndim == 3:  # the back-end's: two-dimensional over the front-end's channels
        return value[:, :, 0].permute(2, 1, 0)
    return value.permute(*reversed(range(value.ndim)))


def load_reference(model: nn.Module, reference: dict) -> None:
    """Fill ``model`` with the reference's variables, which come in the order of the model's layers."""
    values = [draw(reference["seed"], i, name, shape) for i, (name, shape) in enumerate(reference["variables"])]
    for layer in model.modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear):
            layer.weight.data.copy_(torch_layout(values.pop(0), layer.weight))
            layer.bias.data.copy_(values.pop(0))
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            for field in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
                field.data.copy_(values.pop(0))
    assert not values


@pytest.mark.parametrize("name", ["waveform", "spectrogram"])
def test_same_weights_give_the_logits_of_the_authors_graph(name):
    reference = json.loads((REFERENCE / f"paper_{name}.json").read_text())
    frontend = SampleLevel() if name == "waveform" else MusicallyMotivated(normalise="none")
    backend = Residual(frontend.out_channels, 0, reference["num_tags"])
    model = nn.ModuleList([frontend, backend]).eval()
    load_reference(model, reference)
    shape = (reference["batch"], reference["length"], reference["n_mels"] or 1)
    r = np.random.default_rng([reference["seed"], 10000]).standard_normal(shape).astype(np.float32)
    signal = torch.from_numpy(r)

    with torch.inference_mode():
        features = frontend(signal[:, :, 0]) if name == "waveform" else frontend.features(signal.transpose(1, 2))
        logits = backend(features)

    batch, frames, channels, _ = reference["frontend_shape"]
    assert features.shape == (batch, channels, frames)
    assert features.mean().item() == pytest.approx(reference["frontend_mean"], abs=1e-5)
    assert features.std(correction=0).item() == pytest.approx(reference["frontend_std"], abs=1e-5)
    np.testing.assert_allclose(features[0, :8, 0], reference["frontend_head"], atol=1e-4)
    np.testing.assert_allclose(logits, reference["logits"], atol=2e-4, rtol=0)
    assert np.abs(reference["logits"]).max() > 20  # so that the tolerance means something
    assert num_parameters(model) == reference["num_trainable"]


@pytest.mark.parametrize(
    ("make_frontend", "with_50_tags", "with_139_tags"),
    [
        (MusicallyMotivated, 5_924_154, 5_968_743),
        (SampleLevel, 5_377_082, 5_421_671),
        (lambda: SampleLevel(NINE_LAYERS), 5_476_154, 5_520_743),
    ],
)
def test_parameter_counts_of_the_paper(make_frontend, with_50_tags, with_139_tags):
    with torch.device("meta"):
        frontend = make_frontend()
        for num_tags, expected in ((50, with_50_tags), (139, with_139_tags)):
            assert num_parameters(frontend, Residual(frontend.out_channels, 0, num_tags)) == expected


def test_initialiser_keeps_the_variance_and_cuts_the_tails():
    torch.manual_seed(0)
    layer = nn.Conv1d(64, 256, 3)
    initialise(layer)
    std = sqrt(2 / (64 * 3))
    assert layer.weight.std().item() == pytest.approx(std, rel=0.01)
    assert layer.weight.abs().max().item() <= 2 * std / 0.879  # truncated at two deviations of the full distribution
    assert layer.bias.abs().max().item() == 0


def test_scalar_batch_norm_takes_all_channels_together():
    norm = Residual(8, 0, 2, filters=4).norm2
    features = torch.randn(3, 4, 5) * torch.arange(1.0, 5.0)[:, None] + 7
    out = _normalised(norm, features)
    expected = (features - features.mean()) / (features.var(correction=0) + 1e-3).sqrt()
    torch.testing.assert_close(out, expected)
    assert norm.weight.shape == norm.running_mean.shape == (1,)
    assert Residual(8, 0, 2, filters=4, batch_norm="per_channel").norm2.weight.shape == (4,)
