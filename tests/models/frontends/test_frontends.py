"""Front-ends of every family: sizes as published, and receptive fields with custom settings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from musictag.models.frontends.frame_level import FrameLevel
from musictag.models.frontends.multi_resolution import MultiResolution
from musictag.models.frontends.samplecnn import SampleCNN
from musictag.models.frontends.short_chunk import ShortChunk
from musictag.models.frontends.small_filters import SmallFilters
from musictag.models.frontends.vertical import SingleVertical
from musictag.models.frontends.waveform import SampleLevel
from tests.helpers.models import build_frontend, heard, num_parameters


@pytest.mark.parametrize(
    ("name", "hop", "receptive", "shortest", "frames_of_15_seconds"),
    [
        ("waveform", 2187, 4371, 4371, 108),
        ("pons_waveform9", 19683, 39363, 39363, 11),
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
        frontend = build_frontend(name)
    assert (frontend.hop_samples, frontend.receptive_samples, frontend.min_samples) == (hop, receptive, shortest)
    assert frontend.num_frames(15 * 16000) == frames_of_15_seconds


@pytest.mark.parametrize(
    ("name", "expected", "channels", "num_samples", "frames"),
    [
        # filters of 8 frames over 128 bands and over 32 channels: 8·128·32 + 32 + 8·32·32 + 32; 3 s
        ("vertical", 41_024, 32, 48_000, 3),
        # input norm 2; 3×3 kernels 1,280 + 442,752 + 2,654,976 + 14,157,824; norms 2·(128 + 384 + 768 + 2048); 29.1 s
        ("fcn", 17_263_490, 2048, 465_600, 1),
        # input norm 2; 3×3 kernels 640 + 73,856 + 2·147,584; norms 2·(64 + 3·128); 29.1 s: 14 of Choi's 15, who pads
        ("crnn", 370_562, 128, 465_600, 14),
        # musicnn's vgg has 605,748 parameters for 50 tags, 12,850 of them in its last layer; 187 frames
        ("vgg", 592_898, 128, 187 * 256 + 256, 2),
        # the authors' code of 2020 without its dense layers; 59,049 samples
        ("short_chunk", 3_398_018, 512, 59_049, 1),
        ("short_chunk_res", 11_814_914, 512, 59_049, 2),
        # the same, without its Transformer; 15 s
        ("self_attention_2020", 8_863_490, 256, 240_000, 118),
        # the authors' code for MagnaTagATune without its dense layers; 80,000 samples
        ("harmonic", 3_552_397, 256, 80_000, 1),
    ],
)
def test_sizes_of_the_published_models(name, expected, channels, num_samples, frames):
    with torch.device("meta"):
        frontend = build_frontend(name)
    assert num_parameters(frontend) == expected
    assert frontend.out_channels == channels
    assert frontend.num_frames(num_samples) == frames


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # 128 filters of 256 samples, 32 of 8 frames on those, 32 of 8 frames on those; with biases
        ("frame_level", 128 * 257 + 32 * (128 * 8 + 1) + 32 * (32 * 8 + 1)),
        # filters and biases of each resolution, two batch-norm parameters per channel
        ("multi_resolution", 32 * 17 + 32 * 65 + 96 * 641 + 2 * 160),
    ],
)
def test_parameter_counts_by_hand(name, expected):
    with torch.device("meta"):
        assert num_parameters(build_frontend(name)) == expected


def test_filter_multiplier_scales_every_layer():
    with torch.device("meta"):
        for name, channels in (
            ("waveform", [32, 32, 32, 64, 64, 64, 128]),
            ("frame_level", [64, 16, 16]),
            ("multi_resolution", [16, 16, 48]),
            ("samplecnn", [64, 64, 64, *[128] * 6, 256]),
        ):
            frontend = build_frontend(name, filter_multiplier=0.5)
            convs = [layer for layer in frontend.modules() if isinstance(layer, nn.Conv1d)]
            assert [conv.out_channels for conv in convs] == channels
            assert frontend.out_channels == (sum(channels) if name == "multi_resolution" else channels[-1])
            least = build_frontend(name, filter_multiplier=1e-6)
            assert {conv.out_channels for conv in least.modules() if isinstance(conv, nn.Conv1d)} == {1}


def test_filter_multiplier_leaves_at_least_one_filter_per_layer():
    assert build_frontend("crnn", filter_multiplier=0.5).out_channels == 64
    assert build_frontend("harmonic", filter_multiplier=0.25).out_channels == 64
    for name in ("vertical", "fcn", "vgg", "short_chunk", "self_attention_2020", "harmonic"):
        assert build_frontend(name, filter_multiplier=1e-6).out_channels == 1


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
def test_receptive_field_and_number_of_frames(make):
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


@pytest.mark.parametrize(
    "make",
    [
        lambda **small: SingleVertical(filters=(2, 2), kernel_frames=3, pool_frames=2, normalise="none", **small),
        lambda **small: SmallFilters((2, 3), ((1, 4), (2, 2)), ((2, 2), (2, 3)), (0, 0), norm="after", **small),
        lambda **small: ShortChunk((2, 2), ((2, 2), (2, 1)), **small),
        lambda **small: ShortChunk((2, 3), ((2, 3), (1, 2)), residual=True, **small),
    ],
)
@torch.inference_mode()
def test_frames_hops_and_receptive_fields_for_custom_settings(make):
    torch.manual_seed(0)
    frontend = make(n_fft=64, hop_samples=16, num_mels=8).eval()
    for num_samples in range(frontend.min_samples, frontend.min_samples + 200, 7):
        features = frontend(torch.randn(1, num_samples))
        assert features.shape == (1, frontend.out_channels, frontend.num_frames(num_samples))
    samples_by_frame = heard(frontend, 2048).any(dim=1).T
    middle = len(samples_by_frame) // 2
    samples = [torch.nonzero(samples).flatten() for samples in samples_by_frame[middle : middle + 2]]
    assert samples[0][-1] - samples[0][0] + 1 == frontend.receptive_samples
    assert samples[1][0] - samples[0][0] == frontend.hop_samples


@pytest.mark.parametrize("branch", ["timbral", "temporal"])
def test_filters_of_musicnn_are_padded_as_tensorflow_pads(branch):
    """Keeps the number of frames; an even filter reaches one frame further ahead than back."""
    frontend = build_frontend("musicnn", timbral_filters=1, temporal_filters=1).eval()
    impulse = torch.zeros(1, frontend.log_mel.num_mels, 400)
    impulse[0, :, 200] = 1
    for layer in [*frontend.timbral, *frontend.temporal]:
        nn.init.ones_(layer[0].weight), nn.init.zeros_(layer[0].bias)
    features = frontend.features(impulse)[0]
    assert features.shape == (5, 400)
    rows = features[:2] if branch == "timbral" else features[2:]
    for row, frames in zip(rows, [7, 7] if branch == "timbral" else [128, 64, 32], strict=True):
        reached = row.detach().nonzero().flatten()
        assert (reached.min().item(), reached.max().item()) == (200 - frames // 2, 200 + (frames - 1) // 2)
