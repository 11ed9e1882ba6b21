"""The image-like front-ends: sizes and numbers of the published models, references written out, refused settings."""

from __future__ import annotations

from math import sqrt
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

from musictag.build import build
from musictag.errors import MusictagError
from musictag.frontends import FrontEnd
from musictag.frontends.harmonic import Harmonic, HarmonicSpectrogram
from musictag.frontends.images import ResidualBlock, Step, receptive_field, size_after, smallest_size, stride_of
from musictag.frontends.short_chunk import ShortChunk
from musictag.frontends.squares import SmallSquares
from musictag.frontends.vertical import SingleVertical

CONF = Path(__file__).parent.parent / "conf" / "frontend"


def from_yaml(name: str, **changes) -> FrontEnd:
    return build(yaml.safe_load((CONF / f"{name}.yaml").read_text()) | changes, FrontEnd)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def draw(module: nn.Module, rng: np.random.Generator) -> None:
    """Weights and running statistics from ``rng``, in the order of the state dictionary."""
    for name, value in module.state_dict().items():
        if name.endswith(("running_var", "bandwidth_q")):
            value.copy_(torch.from_numpy(rng.uniform(0.5, 2, value.shape)))
        elif not name.endswith("num_batches_tracked"):
            value.copy_(torch.from_numpy(rng.standard_normal(value.shape)))


def normed(norm: nn.BatchNorm2d, image: Tensor) -> Tensor:
    return F.batch_norm(image, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)


# the published models


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
        ("self_attention", 8_863_490, 256, 240_000, 118),
        # the authors' code for MagnaTagATune without its dense layers; 80,000 samples
        ("harmonic", 3_552_397, 256, 80_000, 1),
    ],
)
def test_sizes_of_the_published_models(name, expected, channels, num_samples, frames):
    with torch.device("meta"):
        frontend = from_yaml(name)
    assert parameters(frontend) == expected
    assert frontend.out_channels == channels
    assert frontend.num_frames(num_samples) == frames


def test_choi_s_patch_has_as_many_frames_of_log_mel_at_16_khz():
    frontend = from_yaml("fcn", filter_multiplier=0.01)
    assert frontend.log_mel.num_frames(round(29.1 * 16000)) == 1366
    assert frontend.log_mel.hop_samples / 16000 == pytest.approx(256 / 12000, rel=1e-3)
    assert frontend.log_mel.n_fft / 16000 == pytest.approx(512 / 12000, rel=2e-3)


def test_filter_multiplier_leaves_at_least_one_filter_a_layer():
    assert from_yaml("crnn", filter_multiplier=0.5).out_channels == 64
    assert from_yaml("harmonic", filter_multiplier=0.25).out_channels == 64
    for name in ("vertical", "fcn", "vgg", "short_chunk", "self_attention", "harmonic"):
        assert from_yaml(name, filter_multiplier=1e-6).out_channels == 1


# sizes


STACKS = [
    (Step(3, padding=1), Step(1, 2)),
    (Step(3, padding=1), Step(4, 2), Step(3, padding=1), Step(2, 2)),
    (Step(8), Step(4, 4), Step(8), Step(4, 4)),
    (Step(3, 2, padding=1), Step(3, padding=1)) * 3,
    (Step(3, padding=1), Step(3, padding=1), Step(3, 3)) * 2,
]


@pytest.mark.parametrize("steps", STACKS)
def test_sizes_are_those_of_torch(steps):
    layers = nn.Sequential(
        *(nn.Conv1d(1, 1, step.window, step.stride, step.padding, bias=False) for step in steps)
    )  # a convolution has the sizes of a max-pooling with the same window and stride
    for layer in layers:
        nn.init.ones_(layer.weight)
    shortest = smallest_size(steps)
    assert size_after(steps, 0) == size_after(steps, shortest - 1) == 0
    for size in range(shortest, shortest + 60):
        assert size_after(steps, size) == layers(torch.zeros(1, 1, size)).shape[-1]
    # far from the ends, a place hears a window of the input, and the next one the window beside it
    size = 4 * receptive_field(steps) + 2 * stride_of(steps)
    heard = torch.func.jacrev(layers)(torch.zeros(1, 1, size))[0, 0, :, 0, 0, :] != 0
    middle = size_after(steps, size) // 2
    first, last = heard[middle].nonzero().flatten()[[0, -1]].tolist()
    assert last - first + 1 == receptive_field(steps)
    assert heard[middle + 1].nonzero().flatten()[0].item() - first == stride_of(steps)


@pytest.mark.parametrize(
    "make",
    [
        lambda **small: SingleVertical(filters=(2, 2), kernel_frames=3, pool_frames=2, normalise="none", **small),
        lambda **small: SmallSquares((2, 3), ((1, 4), (2, 2)), ((2, 2), (2, 3)), (0, 0), norm="after", **small),
        lambda **small: ShortChunk((2, 2), ((2, 2), (2, 1)), **small),
        lambda **small: ShortChunk((2, 3), ((2, 3), (1, 2)), residual=True, **small),
    ],
)
@torch.inference_mode()
def test_frames_hops_and_what_a_frame_hears_for_settings_of_ones_own(make):
    torch.manual_seed(0)
    frontend = make(n_fft=64, hop_samples=16, num_mels=8).eval()
    for num_samples in range(frontend.min_samples, frontend.min_samples + 200, 7):
        features = frontend(torch.randn(1, num_samples))
        assert features.shape == (1, frontend.out_channels, frontend.num_frames(num_samples))
    waveforms = torch.randn(2048).repeat(2048, 1)
    waveforms.fill_diagonal_(torch.nan)  # what is not a number spreads to all that hear it
    heard = frontend(waveforms).isnan().any(1)
    middle = heard.shape[1] // 2
    samples = [heard[:, frame].nonzero().flatten() for frame in (middle, middle + 1)]
    assert samples[0][-1] - samples[0][0] + 1 == frontend.receptive_samples
    assert samples[1][0] - samples[0][0] == frontend.hop_samples


# single vertical filters


def test_vertical_filters_span_all_bands():
    frontend = SingleVertical(filters=(3,), kernel_frames=2, pool_frames=3, n_fft=256, num_mels=10)
    spectrogram = torch.randn(1, 10, 7)
    kernel, bias = frontend.layers[0][0].weight, frontend.layers[0][0].bias
    responses = torch.stack(
        [(kernel * spectrogram[0, :, t : t + 2]).sum((1, 2)) + bias for t in range(6)], dim=1
    ).clamp(min=0)
    expected = torch.stack([responses[:, :3].amax(1), responses[:, 3:].amax(1)], dim=1)
    torch.testing.assert_close(frontend.features(spectrogram)[0], expected)


# small squares


@pytest.mark.parametrize("norm", ["before", "after"])
@pytest.mark.parametrize(("activation", "function"), [("relu", F.relu), ("elu", F.elu)])
@torch.inference_mode()
def test_order_of_the_layers_and_bands_left_become_channels(norm, activation, function):
    frontend = SmallSquares(
        filters=(3, 4), poolings=((2, 3), (2, 2)), strides=((2, 1), (2, 2)), dropouts=(0.5, 0.5),
        activation=activation, norm=norm, num_mels=13,
    ).eval()  # fmt: skip
    draw(frontend, np.random.default_rng(1))
    spectrogram = torch.randn(2, 13, 20)
    image = spectrogram.unsqueeze(1)
    for layer, window, stride in zip(frontend.layers, ((2, 3), (2, 2)), ((2, 1), (2, 2)), strict=True):
        conv = next(part for part in layer if isinstance(part, nn.Conv2d))
        batch_norm = next(part for part in layer if isinstance(part, nn.BatchNorm2d))
        image = F.conv2d(image, conv.weight, conv.bias, padding=1)
        image = function(normed(batch_norm, image)) if norm == "before" else normed(batch_norm, function(image))
        image = F.max_pool2d(image, window, stride)
    assert image.shape == (2, 4, 3, 9)
    features = frontend.features(spectrogram)
    assert features.shape == (2, frontend.out_channels, 9) == (2, 12, 9)
    for channel in range(4):
        for band in range(3):
            torch.testing.assert_close(features[:, 3 * channel + band], image[:, channel, band])


def test_dropout_has_a_share_for_each_layer():
    torch.manual_seed(0)
    settings = {"filters": (8, 8), "poolings": ((1, 1), (1, 1)), "activation": "elu"}
    spectrogram = torch.randn(2, 96, 30)
    for dropouts, expected in (((0.0, 0.75), 0.75), ((0.75, 0.0), 0.0)):
        frontend = SmallSquares(dropouts=dropouts, **settings)
        assert (frontend.features(spectrogram) == 0).float().mean().item() == pytest.approx(expected, abs=0.01)
        assert (frontend.layers[0](spectrogram[:, None]) == 0).float().mean().item() == pytest.approx(
            dropouts[0], abs=0.01
        )
        assert (frontend.eval().features(spectrogram) != 0).all()


def test_squares_begin_as_glorot_s():
    torch.manual_seed(0)
    conv = SmallSquares(filters=(64, 128), poolings=((2, 2),) * 2, dropouts=(0, 0)).layers[1][0]
    limit = sqrt(6 / (9 * 64 + 9 * 128))
    assert 0.99 * limit < conv.weight.abs().max().item() <= limit
    assert conv.weight.std().item() == pytest.approx(limit / sqrt(3), rel=0.01)
    assert conv.bias.abs().max().item() == 0


# residual blocks and short chunks


@pytest.mark.parametrize(("wide_in", "stride"), [(2, (2, 2)), (2, (2, 1)), (3, (2, 1)), (2, (1, 1)), (3, (1, 1))])
@torch.inference_mode()
def test_residual_block(wide_in, stride):
    block = ResidualBlock(wide_in, 3, 0.1, stride).eval()
    draw(block, np.random.default_rng(2))
    convs = [part for part in block.modules() if isinstance(part, nn.Conv2d)]
    norms = [part for part in block.modules() if isinstance(part, nn.BatchNorm2d)]
    image = torch.randn(2, wide_in, 9, 10)
    out = F.relu(normed(norms[0], F.conv2d(image, convs[0].weight, convs[0].bias, stride, padding=1)))
    out = normed(norms[1], F.conv2d(out, convs[1].weight, convs[1].bias, padding=1))
    shortcut = image
    if (wide_in, stride) != (3, (1, 1)):
        shortcut = normed(norms[2], F.conv2d(image, convs[2].weight, convs[2].bias, stride, padding=1))
    assert len(convs) == len(norms) == (2 if shortcut is image else 3)
    torch.testing.assert_close(block(image), F.relu(shortcut + out))


@torch.inference_mode()
def test_short_chunk_layer_is_convolution_norm_relu_pooling():
    frontend = ShortChunk(filters=(3,), strides=((4, 2),), num_mels=8).eval()
    draw(frontend, np.random.default_rng(3))
    conv, norm = frontend.layers[0][0][0], frontend.layers[0][0][1]
    spectrogram = torch.randn(2, 8, 11)
    image = F.conv2d(spectrogram.unsqueeze(1), conv.weight, conv.bias, padding=1)
    expected = F.max_pool2d(F.relu(normed(norm, image)), (4, 2)).reshape(2, 6, 5)
    torch.testing.assert_close(frontend.features(spectrogram), expected)


def test_batch_norms_of_models_published_in_torch_are_torch_s():
    for name in ("short_chunk", "self_attention", "harmonic"):
        norms = [part for part in from_yaml(name, filter_multiplier=0.01).layers.modules() if hasattr(part, "eps")]
        assert norms
        assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-5, 0.1)}


# harmonics


def test_harmonic_filters_are_triangles_on_the_harmonics_of_notes():
    module = HarmonicSpectrogram(sample_rate=16000, n_fft=512, hop_samples=256, num_harmonics=6, bands_per_semitone=2)
    highest = librosa.note_to_midi(librosa.hz_to_note(16000 / 12))
    notes = np.arange(librosa.note_to_midi("C1"), highest, 0.5)
    assert module.num_notes == len(notes) == 128
    expected = np.zeros((6, 128, 257))
    for h in range(6):
        for n, fundamental in enumerate(librosa.midi_to_hz(notes)):
            centre = (h + 1) * fundamental
            half_width = (0.1079 * centre + 24.7) / 1.5 / 2
            corners = [centre - half_width, centre, centre + half_width]
            expected[h, n] = np.interp(np.arange(257) * 31.25, corners, [0, 1, 0], left=0, right=0)
    module.bandwidth_q.data.fill_(1.5)
    np.testing.assert_allclose(module.filters().detach().reshape(6, 128, 257), expected, atol=2e-5)


@torch.inference_mode()
def test_each_harmonic_of_a_note_is_loudest_at_that_note():
    module = HarmonicSpectrogram(sample_rate=16000, n_fft=512, hop_samples=256, num_harmonics=6, bands_per_semitone=2)
    seconds = torch.arange(16000) / 16000
    harmonics_of_a4 = torch.stack([torch.sin(2 * torch.pi * 440 * h * seconds) for h in range(1, 7)])
    decibels = module(harmonics_of_a4)
    assert decibels.shape == (6, 6, 128, module.num_frames(16000)) == (6, 6, 128, 63)
    loudest = decibels[range(6), range(6), :, 30].argmax(1)
    assert (loudest - 2 * (69 - 24)).abs().max() <= 2  # within a semitone
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(module(harmonics_of_a4), decibels, rtol=0, atol=0)


@torch.inference_mode()
def test_harmonic_gives_what_the_authors_code_gives():
    # their Model(conv_channels=2, n_fft=512, learn_bw="only_Q", dataset="mtat") up to its res7, the same weights
    frontend = Harmonic(filters=(2, 2, 2, 2, 4, 4, 4)).eval()
    rng = np.random.default_rng(7)
    draw(frontend, rng)
    waveform = torch.from_numpy(0.1 * rng.standard_normal((1, 80_000))).float()
    expected = torch.tensor([9853.888671875, 6832.41357421875, 49293.2109375, 4884.5419921875])
    torch.testing.assert_close(frontend(waveform).flatten(), expected, rtol=1e-4, atol=0)


def test_bandwidth_is_learnt():
    frontend = Harmonic(filters=(2,), poolings=((2, 2),))
    frontend(0.1 * torch.randn(2, 4000)).square().mean().backward()
    assert frontend.harmonics.bandwidth_q.grad.abs().item() > 0
    assert [name for name, _ in frontend.harmonics.named_parameters()] == ["bandwidth_q"]


# refusals


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("vertical", {"filters": []}, r"frontend\.filters"),
        ("vertical", {"filters": [8, 0]}, r"frontend\.filters"),
        ("vertical", {"kernel_frames": 0}, r"frontend\.kernel_frames=0"),
        ("vertical", {"pool_frames": 0}, r"frontend\.pool_frames=0"),
        ("vertical", {"filter_multiplier": 0}, r"frontend\.filter_multiplier"),
        ("fcn", {"filters": [8, 8]}, r"frontend\.poolings .* each of the 2 layers .* such as \[\[2, 2\], \[2, 2\]\]"),
        ("fcn", {"poolings": [[2, 4], [4, 5], [3, 8], [4]]}, r"frontend\.poolings .* each of the 4 layers"),
        ("fcn", {"poolings": [[2, 4], [4, 5], [3, 8], [4, 0]]}, r"frontend\.poolings"),
        ("vgg", {"strides": [[2, 2]]}, r"frontend\.strides"),
        ("fcn", {"dropouts": [0.5]}, r"frontend\.dropouts"),
        ("fcn", {"dropouts": [0.5, 0.5, 0.5, 1.0]}, r"frontend\.dropouts"),
        ("fcn", {"activation": "tanh"}, "allowed: relu, elu"),
        ("fcn", {"norm": "none"}, "allowed: before, after"),
        ("fcn", {"num_mels": 95}, r"num_mels=95 are too few .* frontend\.poolings, .* type frontend\.num_mels=96"),
        ("short_chunk", {"num_mels": 96}, r"num_mels=96 are too few .* frontend\.strides, .* frontend\.num_mels=128"),
        ("short_chunk", {"filters": [-1] * 7}, r"frontend\.filters"),
        ("self_attention", {"strides": [[2, 2]] * 6}, r"frontend\.strides .* each of the 7 layers"),
        ("harmonic", {"filters": []}, r"frontend\.filters"),
        ("harmonic", {"poolings": [[2, 2]]}, r"frontend\.poolings"),
        ("harmonic", {"num_harmonics": 0}, r"frontend\.num_harmonics=0 must be positive"),
        ("harmonic", {"bands_per_semitone": 1}, r"frontend\.bands_per_semitone=1 make 64 bands .* needs 128"),
        ("harmonic", {"num_harmonics": 300}, r"frontend\.num_harmonics=300 .* make 0 bands"),
        ("harmonic", {"hop_samples": 0}, r"frontend\.hop_samples=0"),
    ],
)  # fmt: skip
def test_settings_that_cannot_work(name, settings, message):
    with pytest.raises(MusictagError, match=message):
        from_yaml(name, **settings)


def test_fewer_bands_are_fine_where_blocks_pad():
    assert from_yaml("self_attention", num_mels=96, filter_multiplier=0.01).out_channels == 3
    assert from_yaml("harmonic", bands_per_semitone=4, filter_multiplier=1 / 128).out_channels == 2 * 2
