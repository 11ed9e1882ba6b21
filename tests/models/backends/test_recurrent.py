"""Recurrent layers: which state predicts, published initial weights, autocast, and refused settings."""

from __future__ import annotations

import pytest
import torch

from musictag.common.errors import MusictagError
from musictag.models.backends.recurrent import Recurrent
from tests.helpers.models import num_parameters, penultimate


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("bidirectional", [False, True])
@torch.no_grad()
def test_the_last_state_predicts(cell, bidirectional):
    torch.manual_seed(0)
    backend = Recurrent(6, 10, 3, cell=cell, units=5, bidirectional=bidirectional).eval()
    features = torch.randn(4, 6, 10)
    outputs, _ = backend.recurrent(features.transpose(1, 2))
    # the backward direction ends at the first frame
    ends = [outputs[:, -1, :5], outputs[:, 0, 5:]] if bidirectional else [outputs[:, -1]]
    torch.testing.assert_close(penultimate(backend, features), torch.cat(ends, dim=1))
    assert not torch.allclose(backend(features), backend(features.flip(-1)), atol=1e-4)
    assert backend(features[..., :2]).shape == (4, 3)
    with pytest.raises(RuntimeError, match="1 frames, but this back-end needs 2"):
        backend(features[..., :1])


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@torch.no_grad()
def test_recurrent_weights_begin_as_published(cell):
    torch.manual_seed(0)
    recurrent = Recurrent(40, 10, 3, cell=cell).recurrent
    for layer, inputs in enumerate((40, 32)):
        for gate in getattr(recurrent, f"weight_hh_l{layer}").split(32):
            torch.testing.assert_close(gate @ gate.T, torch.eye(32), atol=1e-5, rtol=0)
        for gate in getattr(recurrent, f"weight_ih_l{layer}").split(32):
            largest = (6 / (inputs + 32)) ** 0.5
            assert 0.95 * largest < gate.abs().max() <= largest
        assert getattr(recurrent, f"bias_hh_l{layer}").eq(0).all()
        biases = [gate.unique().tolist() for gate in getattr(recurrent, f"bias_ih_l{layer}").split(32)]
        assert biases == ([[0], [0], [0]] if cell == "gru" else [[0], [1], [0], [0]])


@torch.no_grad()
def test_recurrent_layers_are_float32_under_autocast():
    backend = Recurrent(6, 10, 3).eval()
    features = torch.randn(4, 6, 10)
    with torch.autocast("cpu", torch.bfloat16):
        within = penultimate(backend, features)
        assert backend(features).dtype == torch.bfloat16
    torch.testing.assert_close(within, penultimate(backend, features), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cell": "rnn"}, r"backend\.cell is 'rnn'; allowed: gru, lstm"),
        ({"units": 0}, r"backend\.units=0"),
        ({"num_layers": 0}, r"backend\.num_layers=0"),
        ({"bidirectional": "yes"}, r"backend\.bidirectional is 'yes'; allowed: true, false"),
    ],
)
def test_impossible_recurrent_layers(settings, message):
    with pytest.raises(MusictagError, match=message):
        Recurrent(6, 10, 3, **settings)


def test_long_short_term_memory_has_four_gates_for_three():
    sizes = [num_parameters(Recurrent(128, 15, 50, cell=cell)) for cell in ("gru", "lstm")]
    assert sizes == [15_552 + 6_336 + 1_650, 20_736 + 8_448 + 1_650]
