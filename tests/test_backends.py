"""The families of back-ends: sizes as published, formulas against references of their own, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.export import Dim

from musictag.backends import BackEnd
from musictag.backends.convolutional import FullyConvolutional
from musictag.backends.dense import Dense
from musictag.backends.pooling import Attention, Auto, Max, MaxMean, Mean, Pooling
from musictag.backends.recurrent import Recurrent
from musictag.backends.self_attention import EncoderLayer, SelfAttention, sinusoids
from musictag.build import build
from musictag.errors import MusictagError

CONF = Path(__file__).parent.parent / "conf" / "backend"


def make(name: str, in_channels: int, in_frames: int, num_tags: int = 50) -> BackEnd:
    torch.manual_seed(0)
    spec = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    return build(spec, BackEnd, in_channels=in_channels, in_frames=in_frames, num_tags=num_tags)


def penultimate(backend: BackEnd, features: Tensor) -> Tensor:
    """What goes into the output layer."""
    seen = []
    handle = backend.output.register_forward_pre_hook(lambda _layer, inputs: seen.append(inputs[0]))
    backend(features)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize(
    ("name", "in_channels", "in_frames", "expected"),
    [
        # 3 * 4 features to 100 units to 50 tags
        ("dense", 3, 4, 100 * 12 + 100 + 50 * 100 + 50),
        # the last layer of the public re-implementation of Choi et al. 2016: 64 channels, one frame
        ("linear", 64, 1, 3_250),
        # SampleCNN: the convolution of width 1 (262,656), its batch norm (1,024), the output (25,650)
        ("samplecnn", 512, 1, 289_330),
        # resemul: dense 1,024 to 1,024 (1,049,600), batch norm (2,048), output (51,250)
        ("samplecnn_se", 1024, 5, 1_102_898),
        # the public short-chunk CNN after its maximum over time
        ("short_chunk", 512, 5, 289_330),
        # three convolutions (393,728 + 2 * 786,944), three batch norms (3,072), output (25,650)
        ("convolutional", 256, 27, 1_996_338),
        # counted in the public CRNN in torch: two layers (15,552 + 6,336) and the output (1,650)
        ("recurrent", 128, 15, 23_538),
        # four gates where the former has three: 20,736 + 8,448 + 1,650
        ("lstm", 128, 15, 30_834),
        # counted in the authors' code: encoder, pooler and output
        ("self_attention", 512, 30, 6_593_074),
        # and their projection from the 464 channels of the paper's front-end: 238,080 and a batch norm of 1,024
        ("self_attention", 464, 30, 6_593_074 + 239_104),
        # counted in the public code of the re-evaluation, after its convolutions
        ("self_attention_2020", 256, 30, 1_658_162),
        # score and output
        ("attention_pool", 64, 30, 65 + 3_250),
        # one alpha a channel, and output
        ("auto_pool", 64, 30, 64 + 3_250),
        ("max_pool", 64, 30, 3_250),
        ("mean_pool", 64, 30, 3_250),
        ("max_mean_pool", 64, 30, 6_450),
    ],
)
def test_number_of_parameters(name, in_channels, in_frames, expected):
    with torch.device("meta"):
        backend = make(name, in_channels, in_frames)
    assert sum(parameter.numel() for parameter in backend.parameters()) == expected


SMALL = {
    "dense": (Dense, {"hidden_units": [6, 5], "batch_norm": True}),
    "convolutional": (FullyConvolutional, {"filters": 6}),
    **{name: (Pooling, {"pooling": name, "hidden_units": [6]}) for name in ("max", "mean", "max_mean")},
    **{name: (Pooling, {"pooling": name, "hidden_units": []}) for name in ("attention", "auto")},
    "gru": (Recurrent, {"units": 6}),
    "lstm": (Recurrent, {"cell": "lstm", "units": 6, "bidirectional": True}),
    "self_attention": (SelfAttention, {"hidden_units": 8, "num_heads": 2}),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch about how its own recurrent layers are exported
@pytest.mark.parametrize("name", SMALL)
def test_exported_back_end_gives_the_same(name):
    torch.manual_seed(0)
    cls, settings = SMALL[name]
    backend = cls(7, 12, 3, **settings).eval()
    # torch unrolls recurrent layers when it exports them, so that their number of frames is settled then
    any_length = not backend.fixed_length and cls is not Recurrent
    sizes = {0: Dim("B", max=64)} | ({2: Dim("T", min=backend.min_frames, max=500)} if any_length else {})
    exported = torch.export.export(backend, (torch.randn(2, 7, 12),), dynamic_shapes=(sizes,)).module()
    others = torch.randn(5, 7, 29 if any_length else 12)
    torch.testing.assert_close(exported(others), backend(others), atol=1e-5, rtol=1e-4)


# dense


@pytest.mark.parametrize(("batch_norm", "kinds"), [(True, [nn.BatchNorm1d]), (False, [])])
def test_hidden_layers_stand_in_order(batch_norm, kinds):
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


def test_without_hidden_layers_dropout_stands_before_the_output():
    backend = Dense(3, 4, 2, hidden_units=[], dropout=0.5)
    features = torch.ones(200, 3, 4)
    assert set(penultimate(backend, features).unique().tolist()) == {0.0, 2.0}
    torch.testing.assert_close(penultimate(backend.eval(), features), features.flatten(1))


@pytest.mark.parametrize("cls", [Dense, Pooling])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_units": 512}, r"backend\.hidden_units=512 .* type for example backend\.hidden_units=\[512\]"),
        ({"hidden_units": [512, 0]}, r"backend\.hidden_units=\[512, 0\]"),
        ({"hidden_units": [0.5]}, r"backend\.hidden_units"),
        ({"hidden_units": [True]}, r"backend\.hidden_units"),
        ({"batch_norm": "reference"}, r"backend\.batch_norm is 'reference'; allowed: true, false"),
    ],
)
def test_hidden_layers_that_cannot_be(cls, settings, message):
    with pytest.raises(MusictagError, match=message):
        cls(8, 3, 2, **settings)


# convolutional


@pytest.mark.parametrize(
    ("in_frames", "pool_frames", "layers"),
    [(1, 3, 1), (2, 3, 1), (3, 3, 1), (4, 3, 2), (9, 3, 2), (10, 3, 3), (243, 3, 5), (244, 3, 6), (8, 2, 3), (5, 7, 1)],
)
def test_convolutions_until_one_frame_is_left_and_none_unheard(in_frames, pool_frames, layers):
    torch.manual_seed(0)
    backend = FullyConvolutional(3, in_frames, 2, filters=4, pool_frames=pool_frames).eval()
    assert sum(isinstance(layer, nn.Conv1d) for layer in backend.modules()) == layers
    features = torch.randn(2, 3, in_frames)
    assert backend.layers(features).shape == (2, 4, 1)
    for frame in {0, in_frames // 2, in_frames - 1}:
        spoilt = features.clone()
        spoilt[0, :, frame] = torch.nan
        logits = backend(spoilt)
        assert logits[0].isnan().all(), frame
        assert logits[1].isfinite().all()


@pytest.mark.parametrize("in_frames", [9, 10])
def test_convolutional_takes_one_length_only(in_frames):
    backend = FullyConvolutional(3, in_frames, 2, filters=4).eval()
    for other in (in_frames - 1, in_frames + 1, 1, 30):
        with pytest.raises(RuntimeError, match=f"{other} frames, but .* made for {in_frames}"):
            backend(torch.randn(2, 3, other))


def test_pooling_of_single_frames_is_refused():
    with pytest.raises(MusictagError, match=r"backend\.pool_frames=1 must be at least 2"):
        FullyConvolutional(3, 9, 2, pool_frames=1)


# pooling


def softmax(scores: np.ndarray) -> np.ndarray:
    return np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)


@pytest.mark.parametrize("num_frames", [2, 3, 40])
def test_pooling_is_as_its_formula(num_frames):
    torch.manual_seed(0)
    features = torch.randn(4, 6, num_frames)
    x = features.double().numpy()
    attention, auto = Attention(6), Auto(6)
    nn.init.normal_(auto.alpha)
    w, b = attention.score.weight.detach().double().numpy()[0, :, 0], attention.score.bias.item()
    weights = softmax(np.tanh(np.einsum("c,bct->bt", w, x) + b))
    both = np.stack([x.max(-1), x.mean(-1)], axis=-1)
    alpha = auto.alpha.detach().double().numpy()
    for layer, expected in [
        (Max(6), x.max(-1)),
        (Mean(6), x.mean(-1)),
        (MaxMean(6), both.reshape(4, 12)),
        (attention, np.einsum("bt,bct->bc", weights, x)),
        (auto, (softmax(alpha * x) * x).sum(-1)),
    ]:
        np.testing.assert_allclose(layer(features).detach(), expected, atol=1e-5, err_msg=type(layer).__name__)
        assert layer.out_channels == expected.shape[1]


def test_auto_pooling_begins_as_the_mean_and_reaches_both_ends():
    features, layer = torch.randn(4, 6, 30), Auto(6)
    torch.testing.assert_close(layer(features), features.mean(-1))
    nn.init.constant_(layer.alpha, 1e4)
    torch.testing.assert_close(layer(features), features.amax(-1))
    nn.init.constant_(layer.alpha, -1e4)
    torch.testing.assert_close(layer(features), features.amin(-1))


def test_auto_pooling_is_float32_under_autocast():
    features, layer = 100 * torch.randn(4, 6, 30), Auto(6)
    nn.init.constant_(layer.alpha, 0.02)
    with torch.autocast("cpu", torch.bfloat16):
        within = layer(features)
    torch.testing.assert_close(within, layer(features), rtol=0, atol=0)


def test_pooling_takes_any_length_but_has_no_weights_for_a_single_frame():
    for pooling, fewest in [("max", 1), ("mean", 1), ("max_mean", 1), ("attention", 2), ("auto", 2)]:
        backend = Pooling(6, 10, 3, pooling=pooling).eval()
        assert backend.min_frames == fewest
        assert backend(torch.randn(2, 6, fewest)).isfinite().all()
        assert backend(torch.randn(2, 6, 77)).shape == (2, 3)
        if fewest == 2:
            with pytest.raises(RuntimeError, match="1 frames, but this pooling needs 2"):
                backend(torch.randn(2, 6, 1))


def test_unknown_pooling():
    with pytest.raises(
        MusictagError, match=r"backend\.pooling is 'sum'; allowed: max, mean, max_mean, attention, auto"
    ):
        Pooling(6, 10, 3, pooling="sum")


# recurrent


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("bidirectional", [False, True])
@torch.no_grad()
def test_the_last_state_predicts(cell, bidirectional):
    torch.manual_seed(0)
    backend = Recurrent(6, 10, 3, cell=cell, units=5, bidirectional=bidirectional).eval()
    features = torch.randn(4, 6, 10)
    outputs, _ = backend.recurrent(features.transpose(1, 2))
    # what reads backwards ends at the first frame
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
def test_recurrent_layers_that_cannot_be(settings, message):
    with pytest.raises(MusictagError, match=message):
        Recurrent(6, 10, 3, **settings)


# self-attention


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
    assert backend(torch.randn(1, 7, 1)).isfinite().all()
    assert backend(torch.randn(1, 7, 1500)).isfinite().all()


def test_attention_weights_are_dropped_in_training_only():
    torch.manual_seed(0)
    layer = EncoderLayer(16, 2, dropout=0.0, attention_dropout=0.5)
    frames = torch.randn(2, 9, 16)
    assert not torch.allclose(layer(frames), layer(frames), atol=1e-4)
    layer.eval()
    torch.testing.assert_close(layer(frames), layer(frames))
    # and the other rate is of the rest
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
        ({"hidden_units": 100}, r"backend\.hidden_units=100 .* type a multiple, for example backend\.hidden_units=104"),
        ({"num_heads": 0}, r"\.num_heads=0"),
        ({"num_layers": 0}, r"\.num_layers=0"),
        ({"hidden_units": 0}, r"backend\.hidden_units=0"),
        ({"attention_dropout": 1.0}, r"backend\.attention_dropout=1\.0 must be at least 0 and less than 1"),
    ],
)
def test_self_attention_that_cannot_be(settings, message):
    with pytest.raises(MusictagError, match=message):
        SelfAttention(7, 10, 3, **settings)
