"""Every front-end and back-end in conf/ fulfils its contract, with every partner."""

from __future__ import annotations

import itertools
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from musictag.common.errors import MusictagError
from musictag.models.backends import BackEnd
from musictag.models.factory import build, find_class, settings
from musictag.models.frontends import FAMILIES, FrontEnd
from tests.helpers.models import (
    BACKENDS,
    CLASSES,
    FRONTENDS,
    PRESETS,
    SMALL_MULTIPLIER,
    build_frontend,
    make_backend,
    make_frontend,
    make_small_pair,
    num_parameters,
    penultimate,
    preset,
    spec,
)

#: All; those that are not slow have each front-end with two back-ends, and each back-end with two front-ends or more.
PAIRS = [
    pytest.param(frontend, backend, marks=[] if (j - i) % len(BACKENDS) in (0, 5) else pytest.mark.slow)
    for (i, frontend), (j, backend) in itertools.product(enumerate(FRONTENDS), enumerate(BACKENDS))
]
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@pytest.mark.parametrize("name", FRONTENDS)
@torch.inference_mode()
def test_num_frames_is_exact(name):
    frontend = make_frontend(name, filter_multiplier=SMALL_MULTIPLIER).eval()
    shortest = frontend.min_samples
    assert frontend.num_frames(shortest) == 1 or frontend.num_frames(shortest - 1) == 0
    steps = [frontend.samples_for(frames) for frames in (2, 3, 4)]
    lengths = {shortest, shortest + 1, 2 * shortest + 5, *steps, *(step - 1 for step in steps), 16000}
    for num_samples in sorted(n for n in lengths if n >= shortest):
        features = frontend(torch.zeros(1, num_samples))
        assert features.shape == (1, frontend.out_channels, frontend.num_frames(num_samples)), num_samples


@pytest.mark.parametrize("name", FRONTENDS)
def test_num_frames_never_falls_and_samples_for_is_its_inverse(name):
    frontend = build_frontend(name)
    frames = [frontend.num_frames(n) for n in range(0, 200_000, 37)]
    assert frames == sorted(frames)
    assert frontend.num_frames(0) == 0
    for wanted in (1, 2, 7, 8, 100):
        num_samples = frontend.samples_for(wanted)
        assert frontend.num_frames(num_samples) >= wanted > frontend.num_frames(num_samples - 1)


@pytest.mark.parametrize("name", FRONTENDS)
def test_hop_and_receptive_field_are_exact(name):
    frontend = make_frontend(
        name, filter_multiplier=1e-6
    ).eval()  # one filter per layer has the same receptive field as many
    if frontend.receptive_samples is None:
        num_samples = 2 * frontend.samples_for(2)
        assert _reach(frontend, num_samples, frontend.num_frames(num_samples) // 2, [0]) == [True]
        return
    span, hop = frontend.receptive_samples, frontend.hop_samples
    frame = span // hop + 1  # whose first sample is no earlier than the waveform's, whatever the padding
    num_samples = (frame + 1) * hop + span + 1
    outside, first = frame * hop - span, frame * hop
    assert _reach(frontend, num_samples, frame, [outside, first]) == [False, True]
    while first - outside > 1:
        between = (outside + first) // 2
        (reaches,) = _reach(frontend, num_samples, frame, [between])
        outside, first = (outside, between) if reaches else (between, first)
    last = first + span - 1
    assert _reach(frontend, num_samples, frame, [last, last + 1]) == [True, False]
    edges = [first - 1, first, last, last + 1]
    assert _reach(frontend, num_samples, frame + 1, [edge + hop for edge in edges]) == [False, True, True, False]


@torch.inference_mode()
def _reach(frontend: FrontEnd, num_samples: int, frame: int, samples: list[int]) -> list[bool]:
    """Whether each of ``samples`` reaches ``frame``: a NaN there makes one here."""
    waveforms = torch.zeros(len(samples), num_samples)
    waveforms[range(len(samples)), samples] = torch.nan
    return frontend(waveforms)[:, :, frame].isnan().any(1).tolist()


@pytest.mark.parametrize("name", FRONTENDS)
def test_filters_are_multiplied(name):
    whole, half = (build_frontend(name, filter_multiplier=multiplier) for multiplier in (1.0, 0.5))
    assert num_parameters(half) < 0.7 * num_parameters(whole)
    assert half.out_channels < whole.out_channels
    assert (half.hop_samples, half.receptive_samples) == (whole.hop_samples, whole.receptive_samples)
    with pytest.raises(MusictagError, match=r"frontend\.filter_multiplier=0 must be positive"):
        build_frontend(name, filter_multiplier=0)


@pytest.mark.parametrize("name", BACKENDS)
def test_the_output_layer_sees_the_penultimate_features(name):
    backend = make_backend(name, 6, 40).eval()
    features = torch.randn(3, 6, 40)
    with torch.inference_mode():
        seen = penultimate(backend, features)
        assert isinstance(backend.output, nn.Linear)
        assert seen.shape == (3, backend.output.in_features)
        torch.testing.assert_close(backend(features), F.linear(seen, backend.output.weight, backend.output.bias))


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("channels", [1, 1500])
@torch.inference_mode()
def test_any_number_of_channels_and_frames(name, channels):
    backend = make_backend(name, channels, 50, small=True).eval()
    assert backend(torch.randn(2, channels, 50)).shape == (2, 5)
    for frames in (backend.min_frames, 49, 333):
        if backend.fixed_length:
            with pytest.raises(RuntimeError):
                backend(torch.randn(2, channels, frames))
        else:
            assert backend(torch.randn(2, channels, frames)).isfinite().all()
    shortest = make_backend(name, channels, backend.min_frames, small=True).eval()
    assert shortest(torch.randn(2, channels, backend.min_frames)).isfinite().all()


@pytest.mark.parametrize(("frontend_name", "backend_name"), PAIRS)
def test_every_pair(frontend_name, backend_name):
    """Shortest patch, no mixing of the songs of a batch, and gradients for every parameter, also with bfloat16."""
    frontend, backend, patch_samples = make_small_pair(frontend_name, backend_name)
    waveform = 0.1 * torch.randn(2, patch_samples)
    frontend.eval(), backend.eval()
    with torch.inference_mode():
        together = backend(frontend(waveform))
        assert together.shape == (2, 5)
        torch.testing.assert_close(together[:1], backend(frontend(waveform[:1])), atol=1e-4, rtol=1e-4)
        with pytest.raises(RuntimeError):
            backend(frontend(waveform[:, :-1]))
    frontend.train(), backend.train()
    targets = torch.tensor([[1.0, 0, 0, 1, 0], [0.0, 1, 1, 0, 1]])
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            logits = backend(frontend(waveform))
        assert logits.dtype == (torch.bfloat16 if autocast else torch.float32)
        F.binary_cross_entropy_with_logits(logits.float(), targets).backward()
        for part in (frontend, backend):
            for name, parameter in part.named_parameters():
                assert parameter.grad is not None, name
                assert parameter.grad.isfinite().all(), name
                parameter.grad = None


@pytest.mark.parametrize(("group", "name"), [("frontend", n) for n in FRONTENDS] + [("backend", n) for n in BACKENDS])
def test_every_parameter_learns(group, name):
    """No filter is dead at initialisation; for front-ends with millions of parameters, a quarter of the filters."""
    if group == "frontend":
        with torch.device("meta"):
            size = num_parameters(build_frontend(name))
        part = make_frontend(name, filter_multiplier=1.0 if size < 1_000_000 else 0.25)
        given = 0.1 * torch.randn(2, part.samples_for(2))
    else:
        part = make_backend(name, 12, 16)
        given = torch.randn(3, 12, 16)
    part.train()
    out = part(given)
    (out * torch.randn_like(out)).sum().backward()
    for key, parameter in part.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize(("group", "name"), [("frontend", n) for n in FRONTENDS] + [("backend", n) for n in BACKENDS])
def test_synchronised_batch_norms_and_the_meta_device(group, name):
    # code that replaces batch norms on several GPUs must find every one, and not change the model
    with torch.device("meta"):
        sketched = build_frontend(name) if group == "frontend" else make_backend(name, 12, 16)
    whole = build_frontend(name) if group == "frontend" else make_backend(name, 12, 16)
    assert {k: v.shape for k, v in sketched.state_dict().items()} == {k: v.shape for k, v in whole.state_dict().items()}
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(whole)
    assert not any(isinstance(layer, BATCH_NORMS) for layer in converted.modules())
    assert converted.state_dict().keys() == sketched.state_dict().keys()


@pytest.mark.parametrize(("group", "name"), [(group, name) for group, names in CLASSES.items() for name in names])
def test_a_class_has_one_file_with_all_its_settings(group, name):
    contract = {"frontend": FrontEnd, "backend": BackEnd}[group]
    content = spec(group, name)
    assert [other for other in CLASSES[group] if spec(group, other)["_target_"] == content["_target_"]] == [name]
    cls = find_class(content["_target_"], contract)
    assert set(content) - {"_target_"} == set(settings(cls)) - {"in_channels", "in_frames", "num_tags"}
    cited = cls.__doc__ or ""
    assert "paper" in cited or any(year in cited for year in ("2014", "2016", "2017", "2018", "2019", "2020"))


@pytest.mark.parametrize(("group", "names"), [("frontend", FRONTENDS), ("backend", BACKENDS)])
def test_the_parts_of_every_model_are_among_those_that_are_tested(group, names):
    tested = [spec(group, name) for name in names]
    assert all(preset(model)[group] in tested for model in PRESETS)
    assert all(tested.count(content) == 1 for content in tested)


@pytest.mark.parametrize("name", FRONTENDS)
def test_a_front_end_says_what_it_is(name):
    with torch.device("meta"):
        frontend = build_frontend(name)
    assert frontend.family in FAMILIES
    assert bool(re.fullmatch(r"\d+ (mel|notes × \d+)", frontend.describe_input())) == (frontend.family == "spectrogram")
    assert frontend.family == "spectrogram" or frontend.describe_input() == "waveform"


@pytest.mark.parametrize(
    ("group", "name", "changes", "message"),
    [
        (
            "frontend",
            "spectrogram",
            {"n_fft": 2**16, "num_mels": 4096},
            "make 134,221,824 constants; at most 16,777,216",
        ),
        ("frontend", "spectrogram", {"n_fft": 2, "num_mels": 2**17}, "of 65,536 bands, are allowed"),
        ("frontend", "harmonic", {"n_fft": 2**16, "num_harmonics": 10}, "constants; at most 16,777,216"),
        ("backend", "recurrent", {"num_layers": 1001}, "num_layers=1001 must lie between 1 and 1,000"),
        ("backend", "self_attention", {"num_layers": 1001}, "num_layers=1001 must lie between 1 and 1,000"),
    ],
)
def test_parts_refuse_what_exceeds_memory(group, name, changes, message):
    contract = {"frontend": FrontEnd, "backend": BackEnd}[group]
    sizes = {"in_channels": 8, "in_frames": 8, "num_tags": 2} if group == "backend" else {}
    with pytest.raises(MusictagError, match=message):
        build(spec(group, name) | changes, contract, **sizes)
