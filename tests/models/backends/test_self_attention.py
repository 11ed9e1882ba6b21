"""Self-attention: torch's encoder layer, positions, dropout, the token, the projection, and refused settings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from musictag.common.errors import MusictagError
from musictag.models.backends.self_attention import EncoderLayer, SelfAttention, sinusoids


@torch.no_grad()
def test_encoder_layer_is_torchs_in_evaluation():
    torch.manual_seed(0)
    ours = EncoderLayer(12, 3, 0.4, 0.4).eval()
    theirs = nn.TransformerEncoderLayer(
        12, 3, 48, activation="gelu", layer_norm_eps=1e-12, batch_first=True, norm_first=False
    ).eval()
    pairs = [
        (theirs.self_attn.out_proj, ours.attended), (theirs.linear1, ours.widen), (theirs.linear2, ours.narrow),
        (theirs.norm1, ours.norm1), (theirs.norm2, ours.norm2),
    ]  # fmt: skip
    for target, source in pairs:
        for parameter in source.parameters():
            nn.init.normal_(parameter)
        target.load_state_dict(source.state_dict())
    theirs.self_attn.in_proj_weight.copy_(ours.query_key_value.weight)
    theirs.self_attn.in_proj_bias.copy_(ours.query_key_value.bias)
    frames = torch.randn(2, 9, 12)
    torch.testing.assert_close(ours(frames), theirs(frames), atol=1e-5, rtol=1e-4)


def test_sinusoids_are_those_of_vaswani():
    ours = sinusoids(20, 6, torch.device("cpu"))
    for position in (1, 2, 20):
        for pair in range(3):
            angle = position / 10000 ** (2 * pair / 6)
            expected = [np.sin(angle), np.cos(angle)]
            np.testing.assert_allclose(ours[position - 1, 2 * pair : 2 * pair + 2], expected, atol=1e-5)


@pytest.mark.parametrize("positions", ["sinusoidal", "none"])
@torch.no_grad()
def test_only_positions_tell_the_order_of_frames(positions):
    torch.manual_seed(0)
    backend = SelfAttention(7, 10, 3, hidden_units=16, positions=positions).eval()
    features = torch.randn(4, 7, 10)
    forwards, backwards = backend(features), backend(features.flip(-1))
    assert torch.allclose(forwards, backwards, atol=1e-5) == (positions == "none")
    assert backend(torch.randn(1, 7, 1500)).isfinite().all()


def test_attention_weights_are_dropped_in_training_only():
    torch.manual_seed(0)
    layer = EncoderLayer(16, 2, dropout=0.0, attention_dropout=0.5)
    frames = torch.randn(2, 9, 16)
    assert not torch.allclose(layer(frames), layer(frames), atol=1e-4)
    layer.eval()
    torch.testing.assert_close(layer(frames), layer(frames))
    # a schedule of dropout finds both
    assert [part.p for part in layer.modules() if isinstance(part, torch.nn.Dropout)] == [0.0, 0.5]
    # and the other rate applies to the rest
    layer = EncoderLayer(16, 2, dropout=0.5, attention_dropout=0.0)
    assert not torch.allclose(layer(frames), layer(frames), atol=1e-4)


def test_token_travels_with_the_weights_and_is_not_trained():
    first, second = (SelfAttention(8, 10, 3, hidden_units=8).eval() for _ in range(2))
    assert "token" not in dict(first.named_parameters())
    assert 0 <= first.token.min() < first.token.max() < 1
    assert not torch.equal(first.token, second.token)
    second.load_state_dict(first.state_dict())
    features = torch.randn(2, 8, 10)
    torch.testing.assert_close(second(features), first(features))


def test_projection_only_where_channels_differ():
    assert not list(SelfAttention(16, 10, 3, hidden_units=16).projection.parameters())
    conv, norm, relu = SelfAttention(7, 10, 3, hidden_units=16, norm_momentum=0.2).projection
    assert (conv.in_channels, conv.out_channels, conv.kernel_size) == (7, 16, (1,))
    assert (norm.momentum, norm.eps) == (0.2, 1e-5)
    assert isinstance(relu, nn.ReLU)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"positions": "learned"}, r"backend\.positions is 'learned'; allowed: sinusoidal, none"),
        ({"hidden_units": 100}, r"backend\.hidden_units=100 .* use a multiple, for example backend\.hidden_units=104"),
        ({"num_heads": 0}, r"\.num_heads=0"),
        ({"num_layers": 0}, r"\.num_layers=0"),
        ({"hidden_units": 0}, r"backend\.hidden_units=0"),
        ({"attention_dropout": 1.0}, r"backend\.attention_dropout=1\.0 must be at least 0 and less than 1"),
    ],
)
def test_impossible_self_attention(settings, message):
    with pytest.raises(MusictagError, match=message):
        SelfAttention(7, 10, 3, **settings)
