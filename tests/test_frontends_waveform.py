"""The waveform front-ends: sizes and numbers of the published models, what a frame hears, and refused settings."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

from musictag.build import build
from musictag.errors import MusictagError
from musictag.frontends import FrontEnd
from musictag.frontends.frame_level import FrameLevel
from musictag.frontends.multi_resolution import MultiResolution
from musictag.frontends.samplecnn import SampleCNN
from musictag.frontends.waveform import SampleLevel

CONF = Path(__file__).parent.parent / "conf" / "frontend"
TINY_CHANNELS = (2, 2, 2, 4, 4, 4, 4, 4, 4, 8)

# What the first dense layer of the authors' Keras code (Kim et al. 2018) is given for the weights of `drawn` and one
# patch of 59,049 samples from default_rng(6), with 2 filters at first and 4 hidden units a channel.
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


def from_yaml(name: str, **changes) -> FrontEnd:
    return build(yaml.safe_load((CONF / f"{name}.yaml").read_text()) | changes, FrontEnd)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def heard(frontend: FrontEnd, num_samples: int) -> Tensor:
    """Whether a frame's channel hears a sample: N×C×T. What is not a number spreads to all that hear it."""
    waveforms = torch.zeros(num_samples, num_samples)
    waveforms.fill_diagonal_(torch.nan)
    with torch.inference_mode():
        return frontend.eval()(waveforms).isnan()


@pytest.mark.parametrize(
    "make",
    [
        lambda: SampleLevel((3, 3, 3)),
        lambda: FrameLevel(6, 6, 3, (2, 2), filter_frames=3, pool_frames=2),
        lambda: FrameLevel(8, 4, 3, (2,), filter_frames=2, pool_frames=3, non_linearity="log"),
        lambda: FrameLevel(3, 5, 3, (2,), filter_frames=2, pool_frames=2),
        lambda: FrameLevel(7, 3, 3, ()),
        lambda: MultiResolution((2, 4, 12), (1, 2, 4), (1, 1, 1), hop_samples=8),
        lambda: MultiResolution((9,), (3,), (2,), hop_samples=3),
        lambda: SampleCNN((2, 2, 2)),
        lambda: SampleCNN((2, 2, 2), block="res"),
        lambda: SampleCNN((1, 2, 2, 2), multi_level=True),
        lambda: SampleCNN((2,)),
    ],
)
def test_what_a_frame_hears_and_how_many_there_are(make):
    torch.manual_seed(0)
    frontend = make()
    num_samples = frontend.samples_for(7) + 1
    samples_by_frame = heard(frontend, num_samples).any(dim=1).T
    middle = [torch.nonzero(samples).flatten() for samples in samples_by_frame[2:5]]
    first = [int(samples.min()) for samples in middle]
    assert [int(samples.max()) - start + 1 for samples, start in zip(middle, first, strict=True)] == [
        frontend.receptive_samples
    ] * 3
    assert np.diff(first).tolist() == [frontend.hop_samples] * 2
    for length in range(num_samples):
        frames = frontend.num_frames(length)
        if frames:
            assert frontend(torch.zeros(1, length)).shape == (1, frontend.out_channels, frames)
        else:
            with pytest.raises(RuntimeError):
                frontend(torch.zeros(1, length))


@pytest.mark.parametrize("block", ["se", "rese"])
def test_a_gate_hears_the_whole_waveform(block):
    torch.manual_seed(0)
    frontend = SampleCNN((2, 2, 2), block=block)
    assert frontend.receptive_samples is None
    assert heard(frontend, 108).all()


@pytest.mark.parametrize(
    ("name", "hop", "receptive", "shortest", "frames_of_15_seconds"),
    [
        ("waveform", 2187, 4371, 4371, 108),
        ("waveform9", 19683, 39363, 39363, 11),
        ("frame_level", 4096, 13056, 13056, 56),
        ("multi_resolution", 160, 760, 760, 1496),
        ("samplecnn", 59049, 118095, 59049, 4),
        ("samplecnn_se", 59049, None, 59049, 4),
        ("samplecnn_res", 59049, 177141, 59049, 4),
        ("samplecnn_rese", 59049, None, 59049, 4),
    ],
)
def test_sizes_in_time(name, hop, receptive, shortest, frames_of_15_seconds):
    with torch.device("meta"):
        frontend = from_yaml(name)
    assert (frontend.hop_samples, frontend.receptive_samples, frontend.min_samples) == (hop, receptive, shortest)
    assert frontend.num_frames(15 * 16000) == frames_of_15_seconds


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # 128 filters of 256 samples, 32 of 8 frames on those, 32 of 8 frames on those; a bias each
        ("frame_level", 128 * 257 + 32 * (128 * 8 + 1) + 32 * (32 * 8 + 1)),
        # filters and biases of each resolution, two numbers of batch norm a channel
        ("multi_resolution", 32 * 17 + 32 * 65 + 96 * 641 + 2 * 160),
    ],
)
def test_parameter_counts_by_hand(name, expected):
    with torch.device("meta"):
        assert parameters(from_yaml(name)) == expected


@pytest.mark.parametrize(
    ("name", "multi_level", "in_all"),
    [
        # trainable parameters that the authors' Keras code counts, for 50 tags
        ("samplecnn", False, 1_869_874),
        ("samplecnn", True, 2_683_442),
        ("samplecnn_se", False, 23_929_138),
        ("samplecnn_se", True, 24_742_706),
        ("samplecnn_res", False, 4_107_314),
        ("samplecnn_res", True, 4_920_882),
        ("samplecnn_rese", False, 26_166_578),
        ("samplecnn_rese", True, 26_980_146),
    ],
)
def test_parameter_counts_of_samplecnn(name, multi_level, in_all):
    with torch.device("meta"):
        frontend = from_yaml(name, multi_level=multi_level)
        wide = frontend.out_channels
        # the published back-end: as many hidden units as channels, batch norm, output
        backend = nn.ModuleList([nn.Linear(wide, wide), nn.BatchNorm1d(wide), nn.Linear(wide, 50)])
    assert wide == (1024 if multi_level else 512)
    assert parameters(frontend) + parameters(backend) == in_all


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


def test_dropout_stands_inside_residual_blocks():
    torch.manual_seed(0)
    waveform = torch.randn(2, 100)
    for block, dropout, same in (("res", 0.0, True), ("res", 0.5, False), ("rese", 0.5, False), ("se", 0.5, True)):
        frontend = SampleCNN((8, 8, 8), block=block, dropout=dropout).train()
        assert torch.equal(frontend(waveform), frontend(waveform)) is same, block


def test_samplecnn_initialiser_is_the_published_one():
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


@pytest.mark.parametrize("non_linearity", ["relu", "log"])
@torch.inference_mode()
def test_frame_level_by_hand(non_linearity):
    torch.manual_seed(0)
    frontend = FrameLevel(8, 4, 5, (3,), filter_frames=2, pool_frames=3, non_linearity=non_linearity).double().eval()
    waveform = torch.randn(50, dtype=torch.float64)
    strided, conv = (layer for layer in frontend.layers if isinstance(layer, nn.Conv1d))
    windows = np.lib.stride_tricks.sliding_window_view(waveform.numpy(), 8)[::4]
    bank = windows @ strided.weight[:, 0].numpy().T  # frames × filters
    bank = np.maximum(bank, 0) if non_linearity == "relu" else np.log(10000 * np.abs(bank) + 1)
    both = np.concatenate([bank[:-1], bank[1:]], axis=1)
    kernel = conv.weight.permute(0, 2, 1).flatten(1).numpy()
    hidden = np.maximum(both @ kernel.T, 0)
    expected = hidden[:9].reshape(3, 3, 3).max(axis=1).T
    if non_linearity == "log":  # which is taken in float32
        frontend.layers[2].float()
    np.testing.assert_allclose(frontend(waveform[None])[0], expected, rtol=1e-5, atol=1e-6)


def test_log_compression_is_float32_under_autocast():
    torch.manual_seed(0)
    compression = FrameLevel(non_linearity="log").layers[1]
    with torch.autocast("cpu", torch.bfloat16):
        loud = compression(torch.tensor([-100.0, 0.0, 100.0], dtype=torch.float16))
    assert loud.dtype == torch.float32
    torch.testing.assert_close(loud, torch.tensor([1_000_001.0, 1.0, 1_000_001.0]).log())


def test_frame_level_has_batch_norm_where_asked():
    def norms(**settings) -> list[float]:
        layers = from_yaml("frame_level", **settings).layers
        return [layer.momentum for layer in layers if isinstance(layer, nn.BatchNorm1d)]

    assert norms() == []
    assert norms(batch_norm=True, norm_momentum=0.25) == [0.25] * 3


def test_resolutions_are_centred_on_one_another():
    torch.manual_seed(0)
    frontend = MultiResolution((2, 4, 12), (1, 2, 4), (1, 1, 1), hop_samples=4)
    frame = heard(frontend, 60)[:, :, 5].T
    spans = [torch.nonzero(samples).flatten() for samples in frame]
    # a filter's length, and a hop less a stride
    assert [len(samples) for samples in spans] == [2 + 3, 4 + 2, 12]
    centres = [(samples.min() + samples.max()).item() / 2 for samples in spans]
    assert max(centres) - min(centres) <= 0.5


def test_filter_multiplier_scales_every_layer():
    with torch.device("meta"):
        for name, channels in (
            ("waveform", [32, 32, 32, 64, 64, 64, 128]),
            ("frame_level", [64, 16, 16]),
            ("multi_resolution", [16, 16, 48]),
            ("samplecnn", [64, 64, 64, *[128] * 6, 256]),
        ):
            frontend = from_yaml(name, filter_multiplier=0.5)
            convs = [layer for layer in frontend.modules() if isinstance(layer, nn.Conv1d)]
            assert [conv.out_channels for conv in convs] == channels
            assert frontend.out_channels == (sum(channels) if name == "multi_resolution" else channels[-1])
            least = from_yaml(name, filter_multiplier=1e-6)
            assert {conv.out_channels for conv in least.modules() if isinstance(conv, nn.Conv1d)} == {1}


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("waveform", {"channels": [8, 0]}, r"frontend\.channels"),
        ("waveform", {"filter_multiplier": 0}, r"frontend\.filter_multiplier=0 must be positive"),
        ("frame_level", {"filter_samples": 0}, r"frontend\.filter_samples=0"),
        ("frame_level", {"stride_samples": 0}, r"\.stride_samples=0"),
        ("frame_level", {"filter_frames": 0}, r"\.filter_frames=0"),
        ("frame_level", {"pool_frames": 0}, r"\.pool_frames=0"),
        ("frame_level", {"strided_filters": 0}, r"frontend\.strided_filters=0"),
        ("frame_level", {"filters": [32, 0]}, r"frontend\.filters=\[32, 0\]"),
        ("frame_level", {"non_linearity": "tanh"}, "allowed: relu, log"),
        ("frame_level", {"filter_multiplier": -1}, r"frontend\.filter_multiplier"),
        ("multi_resolution", {"filter_samples": [16, 64]}, "one positive number a resolution"),
        ("multi_resolution", {"num_filters": [32, 32, 0]}, "one positive number a resolution"),
        ("multi_resolution", {"filter_samples": [], "stride_samples": [], "num_filters": []}, "a resolution"),
        ("multi_resolution", {"hop_samples": 100}, r"multiple of every frontend\.stride_samples"),
        ("multi_resolution", {"hop_samples": 0}, r"frontend\.hop_samples=0"),
        ("samplecnn", {"block": "dense"}, "allowed: basic, se, res, rese"),
        ("samplecnn", {"channels": []}, r"frontend\.channels"),
        ("samplecnn", {"channels": [8, 8, 8], "multi_level": True}, r"frontend\.multi_level=false"),
        ("samplecnn", {"amplifying_ratio": 0}, r"frontend\.amplifying_ratio=0"),
        ("samplecnn", {"dropout": 1.0}, r"frontend\.dropout=1\.0"),
    ],
)
def test_settings_that_cannot_work(name, changes, message):
    with pytest.raises(MusictagError, match=message):
        from_yaml(name, **changes)
