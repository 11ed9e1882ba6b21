"""Dropout is where the published models have it: before each dense layer, only in training, at the given rate."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from musictag.inference.network_tagger import NetworkTagger
from musictag.models.backends import BackEnd
from musictag.models.network import TaggingNetwork
from tests.helpers.models import as_trained, make_backend, spec

#: Layers whose input has dropout, by back-end.
DROPPED = {
    "residual": ("dense", "output"),
    "waveform_small": ("dense", "output"),
    "musicnn": ("dense", "output"),
    "short_chunk": ("output",),
    "convolutional": ("output",),
    "recurrent": ("output",),
    "self_attention": ("output",),
}
RATES = {"residual": 0.5, "waveform_small": 0.25, "musicnn": 0.5, "recurrent": 0.3}


def inputs_of(backend: nn.Module, layer: str, features: Tensor) -> Tensor:
    """The input of the layer, given ``features``."""
    seen: list[Tensor] = []
    handle = backend.get_submodule(layer).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        backend(features)
    handle.remove()
    (found,) = seen
    return found


def in_training(backend: BackEnd) -> BackEnd:
    """Training mode except for batch norms: any difference is due to dropout."""
    backend.train()
    for layer in backend.modules():
        if isinstance(layer, nn.BatchNorm1d):
            layer.eval()
    return backend


@pytest.mark.parametrize(("name", "layer"), [(name, layer) for name, layers in DROPPED.items() for layer in layers])
def test_dropout_is_before_every_dense_layer_in_training_only(name: str, layer: str) -> None:
    torch.manual_seed(0)
    rate = spec("backend", name)["dropout"]
    assert rate == RATES.get(name, 0.5)
    backend = make_backend(name, in_channels=6, in_frames=27)
    as_trained(backend)
    features = torch.randn(24, 6, 27)
    whole = inputs_of(backend.eval(), layer, features)
    torch.testing.assert_close(inputs_of(backend, layer, features), whole, rtol=0, atol=0)
    there = whole != 0
    assert there.float().mean() > 0.2
    dropped = inputs_of(in_training(backend), layer, features)
    assert (dropped[there] == 0).float().mean() == pytest.approx(rate, abs=0.06)
    assert not torch.equal(inputs_of(backend, layer, features), dropped)
    if layer == DROPPED[name][0] and name != "self_attention":  # no dropout before it
        kept = there & (dropped != 0)
        torch.testing.assert_close(dropped[kept], whole[kept] / (1 - rate))


def test_a_tagger_in_training_mode_tags_the_same_twice() -> None:
    torch.manual_seed(0)
    network = TaggingNetwork(
        {"_target_": "musictag.models.frontends.waveform.SampleLevel", "channels": [8, 8, 8, 8]},
        {"_target_": "musictag.models.backends.residual.Residual", "filters": 8, "dense_units": 8},
        [{"name": "loud"}, {"name": "fast"}],
        patch_seconds=0.5,
    )
    as_trained(network)
    song = (1000 * torch.randn(20_000)).to(torch.int16).numpy(), 16_000
    tagger = NetworkTagger(network)
    network.eval()
    evaluated = tagger.tag(song)
    statistics = {name: value.clone() for name, value in network.named_buffers()}
    network.train()
    assert tagger.tag(song) == tagger.tag(song) == evaluated
    for name, value in network.named_buffers():  # tagging does not update the batch norms either
        assert torch.equal(value, statistics[name]), name
    assert all(module.training for module in network.modules())
