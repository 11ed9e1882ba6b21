"""Dense layers: their order, their input, dropout, and refused settings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from musictag.common.errors import MusictagError
from musictag.models.backends.dense import Dense
from musictag.models.backends.pooling import Pooling
from tests.helpers.models import penultimate


@pytest.mark.parametrize(("batch_norm", "kinds"), [(True, [nn.BatchNorm1d]), (False, [])])
def test_hidden_layers_are_in_order(batch_norm, kinds):
    for backend in (
        Dense(8, 3, 2, hidden_units=[6, 5], batch_norm=batch_norm, dropout=0.25),
        Pooling(8, 3, 2, hidden_units=[6, 5], batch_norm=batch_norm, dropout=0.25),
    ):
        assert [type(layer) for layer in backend.hidden] == 2 * [nn.Linear, *kinds, nn.ReLU, nn.Dropout]
        assert {layer.p for layer in backend.hidden if isinstance(layer, nn.Dropout)} == {0.25}
        assert backend.output.in_features == 5


def test_dense_sees_every_frame_of_every_channel():
    backend = Dense(3, 4, 2)
    features = torch.randn(5, 3, 4)
    hidden, output = backend.hidden[0], backend.output
    first = np.einsum("hct,bct->bh", hidden.weight.detach().numpy().reshape(100, 3, 4), features.numpy())
    expected = np.maximum(first + hidden.bias.detach().numpy(), 0) @ output.weight.detach().numpy().T
    np.testing.assert_allclose(backend(features).detach(), expected + output.bias.detach().numpy(), atol=1e-5)


def test_without_hidden_layers_dropout_is_before_the_output():
    backend = Dense(3, 4, 2, hidden_units=[], dropout=0.5)
    features = torch.ones(200, 3, 4)
    assert set(penultimate(backend, features).unique().tolist()) == {0.0, 2.0}
    torch.testing.assert_close(penultimate(backend.eval(), features), features.flatten(1))


@pytest.mark.parametrize("cls", [Dense, Pooling])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_units": 512}, r"backend\.hidden_units=512 .* use for example backend\.hidden_units=\[512\]"),
        ({"hidden_units": [512, 0]}, r"backend\.hidden_units=\[512, 0\]"),
        ({"hidden_units": [0.5]}, r"backend\.hidden_units"),
        ({"hidden_units": [True]}, r"backend\.hidden_units"),
        ({"batch_norm": "reference"}, r"backend\.batch_norm is 'reference'; allowed: true, false"),
    ],
)
def test_impossible_hidden_layers(cls, settings, message):
    with pytest.raises(MusictagError, match=message):
        cls(8, 3, 2, **settings)
