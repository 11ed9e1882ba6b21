"""SampleCNN: the authors' numbers and parameter counts, levels, gates, dropout, refused settings."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from musictag.common.errors import MusictagError
from musictag.models.frontends.samplecnn import SampleCNN
from tests.helpers.models import build_frontend, heard, num_parameters

TINY_CHANNELS = (2, 2, 2, 4, 4, 4, 4, 4, 4, 8)

# The input of the first dense layer of the authors' Keras code (Kim et al. 2018) for the weights of `drawn` and one
# patch of 59,049 samples from default_rng(6), with 2 filters at first and 4 hidden units per channel.
PUBLISHED_FEATURES = {
    ("basic", False): [1.98258, 0.0, 1.31093, 0.0, 2.09307, 1.71168, 0.0, 0.92362],
    ("se", True): [
        0.15771, 0.04894, 0.03082, 0.11664, 0.0, 0.0, 0.1646, 0.0,
        0.14483, 0.06787, 0.0, 0.06972, 0.23254, 0.0, 0.01413, 0.03127,
    ],
    ("res", True): [
        64.71881, 51.12758, 66.23721, 113.67352, 76.20561, 28.50407, 130.98399, 61.15442,
        164.01862, 0.0, 0.0, 11.49835, 38.37549, 0.0, 52.94701, 83.04444,
    ],
    ("rese", True): [
        6.04794, 7.10036, 4.34795, 38.12482, 5.97284, 7.05729, 4.4259, 37.98696,
        18.27685, 49.20723, 21.79631, 9.57124, 43.17776, 26.32375, 0.0, 5.16629,
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "multi_level", "in_all"),
    [
        # trainable parameters in the Keras code, for 50 tags; the others are in test_published_combinations.py
        ("samplecnn", True, 2_683_442),
        ("samplecnn_se", False, 23_929_138),
        ("samplecnn_res", False, 4_107_314),
        ("samplecnn_rese", False, 26_166_578),
    ],
)
def test_parameter_counts_of_samplecnn(name, multi_level, in_all):
    with torch.device("meta"):
        frontend = build_frontend(name, multi_level=multi_level)
        wide = frontend.out_channels
        # the published back-end: as many hidden units as channels, batch norm, output
        backend = nn.ModuleList([nn.Linear(wide, wide), nn.BatchNorm1d(wide), nn.Linear(wide, 50)])
    assert wide == (1024 if multi_level else 512)
    assert num_parameters(frontend, backend) == in_all


def drawn(i: int, name: str, shape: torch.Size) -> Tensor:
    """Variable number ``i`` of the small models whose features are in PUBLISHED_FEATURES."""
    normal = torch.from_numpy(np.random.default_rng([5, i]).standard_normal(tuple(shape)).astype(np.float32))
    if name.endswith("running_var"):
        return (0.1 * normal).exp()
    if len(shape) > 1:
        return normal * (2 / prod(shape[1:])) ** 0.5
    return 0.1 * normal + float(name.endswith("weight"))


@pytest.mark.parametrize(("block", "multi_level"), PUBLISHED_FEATURES)
def test_same_weights_give_the_features_of_the_authors_code(block, multi_level):
    frontend = SampleCNN(TINY_CHANNELS, block, multi_level, amplifying_ratio=4).eval()
    variables = {name: value for name, value in frontend.state_dict().items() if "num_batches" not in name}
    for i, (name, value) in enumerate(variables.items()):
        value.copy_(drawn(i, name, value.shape))
    patch = torch.from_numpy(np.random.default_rng(6).standard_normal((1, 59049)).astype(np.float32))
    with torch.inference_mode():
        features = frontend(patch)[0, :, 0]
    np.testing.assert_allclose(features, PUBLISHED_FEATURES[block, multi_level], rtol=1e-4, atol=2e-5)


def test_levels_are_pooled_to_the_frames_of_the_last():
    torch.manual_seed(0)
    frontend = SampleCNN((1, 2, 3, 4), multi_level=True).eval()
    kept: list[Tensor] = []
    for block in frontend.blocks:
        block.register_forward_hook(lambda _block, _args, output: kept.append(output))
    with torch.inference_mode():
        features = frontend(torch.randn(2, 5 * 81 + 80))
    assert features.shape == (2, 2 + 3 + 4, 5)
    expected = [
        kept[0][..., :45].unflatten(-1, (5, 9)).amax(-1),
        kept[1][..., :15].unflatten(-1, (5, 3)).amax(-1),
        kept[2],
    ]
    torch.testing.assert_close(features, torch.cat(expected, dim=1))


@pytest.mark.parametrize("block", ["se", "rese"])
def test_a_gate_sees_the_whole_waveform(block):
    torch.manual_seed(0)
    frontend = SampleCNN((2, 2, 2), block=block)
    assert frontend.receptive_samples is None
    assert heard(frontend, 108).all()


def test_dropout_is_inside_residual_blocks():
    torch.manual_seed(0)
    waveform = torch.randn(2, 100)
    for block, dropout, same in (("res", 0.0, True), ("res", 0.5, False), ("rese", 0.5, False), ("se", 0.5, True)):
        frontend = SampleCNN((8, 8, 8), block=block, dropout=dropout).train()
        assert torch.equal(frontend(waveform), frontend(waveform)) is same, block


def test_initialiser_is_the_published_one():
    torch.manual_seed(0)
    frontend = SampleCNN((64, 64, 128), block="rese", amplifying_ratio=2)
    last = frontend.blocks[-1]
    gate = last.gate.excite[0]
    # uniform within sqrt(6 / fan-in), and sqrt(6 / (fan-in + fan-out))
    for layer, bound in (
        (last.convs[0][0], (6 / (3 * 64)) ** 0.5),
        (last.shortcut[0], (6 / (64 + 128)) ** 0.5),
        (gate, (6 / (128 + 256)) ** 0.5),
    ):
        assert 0.99 * bound < layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
        assert layer.bias.abs().max() == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"block": "dense"}, "allowed: basic, se, res, rese"),
        ({"channels": []}, r"frontend\.channels"),
        ({"channels": [8, 8, 8], "multi_level": True}, r"frontend\.multi_level=false"),
        ({"amplifying_ratio": 0}, r"frontend\.amplifying_ratio=0"),
        ({"dropout": 1.0}, r"frontend\.dropout=1\.0"),
    ],
)
def test_settings_that_cannot_work(settings, message):
    with pytest.raises(MusictagError, match=message):
        build_frontend("samplecnn", **settings)
