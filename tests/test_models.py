"""Every front-end and back-end that conf/ offers, taken from there, fulfils its contract, with every partner."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import nn

from musictag.backends import BackEnd
from musictag.backends.residual import Residual
from musictag.build import build
from musictag.errors import MusictagError
from musictag.frontends import FrontEnd
from musictag.frontends.spectrogram import LogMel, MusicallyMotivated
from musictag.layers import SameConv1d

CONF = Path(__file__).parent.parent / "conf"
FRONTENDS = sorted(path.stem for path in (CONF / "frontend").glob("*.yaml"))
BACKENDS = sorted(path.stem for path in (CONF / "backend").glob("*.yaml"))
PAIRS = list(itertools.product(FRONTENDS, BACKENDS))


def spec(group: str, name: str) -> dict:
    return yaml.safe_load((CONF / group / f"{name}.yaml").read_text())


def make_frontend(name: str) -> FrontEnd:
    torch.manual_seed(0)
    frontend = build(spec("frontend", name), FrontEnd)
    frontend.fit_normalisation([0.1 * torch.randn(1, 16000)])
    return frontend


def make_pair(frontend_name: str, backend_name: str, num_tags: int = 5) -> tuple[FrontEnd, BackEnd, int]:
    """Both parts, and the patch: the shortest that suits them."""
    frontend = make_frontend(frontend_name)
    frames = build_backend(backend_name, frontend.out_channels, 1000, num_tags).min_frames
    patch_samples = frontend.samples_for(frames)
    in_frames = frontend.num_frames(patch_samples)
    return frontend, build_backend(backend_name, frontend.out_channels, in_frames, num_tags), patch_samples


def build_backend(name: str, in_channels: int, in_frames: int, num_tags: int) -> BackEnd:
    return build(spec("backend", name), BackEnd, in_channels=in_channels, in_frames=in_frames, num_tags=num_tags)


@pytest.mark.parametrize("name", FRONTENDS)
@torch.inference_mode()
def test_num_frames_is_exact(name):
    frontend = make_frontend(name).eval()
    shortest = frontend.min_samples
    assert frontend.num_frames(shortest) == 1 or frontend.num_frames(shortest - 1) == 0
    steps = [frontend.samples_for(frames) for frames in (2, 3, 4)]
    lengths = {shortest, shortest + 1, 2 * shortest + 5, *steps, *(step - 1 for step in steps), 16000}
    for num_samples in sorted(n for n in lengths if n >= shortest):
        features = frontend(torch.zeros(1, num_samples))
        assert features.shape == (1, frontend.out_channels, frontend.num_frames(num_samples)), num_samples


@pytest.mark.parametrize("name", FRONTENDS)
def test_num_frames_never_falls_and_samples_for_is_its_inverse(name):
    frontend = build(spec("frontend", name), FrontEnd)
    frames = [frontend.num_frames(n) for n in range(0, 200_000, 37)]
    assert frames == sorted(frames)
    assert frontend.num_frames(0) == 0
    for wanted in (1, 2, 7, 8, 100):
        num_samples = frontend.samples_for(wanted)
        assert frontend.num_frames(num_samples) >= wanted > frontend.num_frames(num_samples - 1)


@pytest.mark.parametrize(("frontend_name", "backend_name"), PAIRS)
@torch.inference_mode()
def test_shortest_patch_works_and_one_sample_less_does_not(frontend_name, backend_name):
    frontend, backend, patch_samples = make_pair(frontend_name, backend_name)
    frontend.eval(), backend.eval()
    logits = backend(frontend(torch.zeros(2, patch_samples)))
    assert logits.shape == (2, 5)
    assert logits.isfinite().all()
    with pytest.raises(RuntimeError):
        backend(frontend(torch.zeros(2, patch_samples - 1)))
    if not backend.fixed_length:
        longer = patch_samples + frontend.samples_for(3)
        assert backend(frontend(torch.zeros(1, longer))).isfinite().all()


@pytest.mark.parametrize(("frontend_name", "backend_name"), PAIRS)
@pytest.mark.parametrize("autocast", [False, True])
def test_gradient_reaches_every_parameter(frontend_name, backend_name, autocast):
    frontend, backend, patch_samples = make_pair(frontend_name, backend_name)
    waveform = 0.1 * torch.randn(3, patch_samples)
    targets = torch.tensor([[1.0, 0, 0, 1, 0], [0.0, 1, 1, 0, 1], [0.0, 0, 1, 1, 0]])
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        logits = backend(frontend(waveform))
    assert logits.dtype == (torch.bfloat16 if autocast else torch.float32)
    F.binary_cross_entropy_with_logits(logits.float(), targets).backward()
    for part in (frontend, backend):
        for name, parameter in part.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(("frontend_name", "backend_name"), PAIRS)
def test_songs_of_a_batch_do_not_mix_in_evaluation(frontend_name, backend_name):
    frontend, backend, patch_samples = make_pair(frontend_name, backend_name)
    frontend.eval(), backend.eval()
    waveform = 0.1 * torch.randn(2, patch_samples)
    with torch.inference_mode():
        together = backend(frontend(waveform))
        alone = torch.cat([backend(frontend(row[None])) for row in waveform])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=1e-4)


@pytest.mark.parametrize(("group", "name"), [("frontend", n) for n in FRONTENDS] + [("backend", n) for n in BACKENDS])
def test_every_key_of_the_yaml_is_commented_and_none_is_missing(group, name):
    lines = [line for line in (CONF / group / f"{name}.yaml").read_text().splitlines() if line]
    assert lines[0].startswith("# ")
    keys = {line.partition(":")[0] for line in lines if ":" in line and not line.startswith(("#", "_target_"))}
    assert all("  # " in line for line in lines if line.partition(":")[0] in keys)
    with pytest.raises(MusictagError, match="allowed: ") as refused:
        build(spec(group, name) | {"no_such_setting": 1}, FrontEnd if group == "frontend" else BackEnd,
              in_channels=8, in_frames=8, num_tags=2)  # fmt: skip
    assert keys == set(str(refused.value).partition("allowed: ")[2].split(", ")) - {
        "in_channels",
        "in_frames",
        "num_tags",
    }


def test_compiled_model_gives_the_same():
    frontend = make_frontend("spectrogram").eval()
    backend = build_backend("residual", frontend.out_channels, 63, 5).eval()
    waveform = 0.1 * torch.randn(2, 16000)
    model = torch.nn.Sequential(frontend, backend)
    with torch.no_grad():
        plain = model(waveform)
        model.compile(backend="eager")
        torch.testing.assert_close(model(waveform), plain)


# building from untrusted specs


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("os.system", "inside musictag"),
        ("musictagx.evil.Thing", "inside musictag"),
        (None, "inside musictag"),
        ("musictag.", "is not a FrontEnd"),
        ("musictag.nowhere.Thing", "no module musictag.nowhere"),
        ("musictag.frontends.waveform.NoSuchClass", "is not a FrontEnd"),
        ("musictag.frontends.waveform.build_everything", "is not a FrontEnd"),
        ("musictag.backends.residual.Residual", "is not a FrontEnd"),
        ("musictag.frontends.FrontEnd", "is not a FrontEnd"),
        ("musictag.frontends.spectrogram.SpectrogramFrontEnd", "is not a FrontEnd"),
    ],
)
def test_refused_targets(target, message):
    with pytest.raises(MusictagError, match=message):
        build({"_target_": target}, FrontEnd)


def test_keywords_are_checked_by_name():
    waveform = "musictag.frontends.waveform.SampleLevel"
    with pytest.raises(MusictagError, match=r"no setting chanels; allowed: channels, norm_momentum, sample_rate"):
        build({"_target_": waveform, "chanels": [8]}, FrontEnd)
    residual = {"_target_": "musictag.backends.residual.Residual"}
    with pytest.raises(MusictagError, match=r"needs in_channels, in_frames"):
        build(residual, BackEnd, num_tags=3)
    with pytest.raises(MusictagError, match=r"in_channels: computed"):
        build(residual | {"in_channels": 3}, BackEnd, in_channels=8, in_frames=8, num_tags=3)
    with pytest.raises(MusictagError, match="cannot be built"):
        build(residual | {"filters": "many"}, BackEnd, in_channels=8, in_frames=8, num_tags=3)
    # settings that a class hands on to its base are known, too
    inherited = build({"_target_": "musictag.frontends.spectrogram.MusicallyMotivated", "num_mels": 40}, FrontEnd)
    assert inherited.log_mel.filters_FM.shape[0] == 40


@pytest.mark.parametrize(
    "settings",
    [
        {"pad_mode": "wrap"}, {"normalise": "yes"}, {"num_filters": 0}, {"num_mels": 2}, {"num_mels": 0},
        {"hop_samples": 0}, {"f_max_hz": 9000}, {"f_min_hz": 500, "f_max_hz": 400}, {"num_mels": 256},
        {"n_fft": "long"},
    ],
)  # fmt: skip
def test_settings_that_cannot_work(settings):
    with pytest.raises(MusictagError):
        build({"_target_": "musictag.frontends.spectrogram.MusicallyMotivated"} | settings, FrontEnd)


def test_other_settings_that_cannot_work():
    for channels in ([], [8, 0, 8]):
        with pytest.raises(MusictagError, match=r"frontend\.channels"):
            build({"_target_": "musictag.frontends.waveform.SampleLevel", "channels": channels}, FrontEnd)
    with pytest.raises(MusictagError, match="reference, per_channel"):
        Residual(8, 8, 2, batch_norm="group")


# the spectrogram


@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize(
    ("n_fft", "hop", "mels", "f_min", "f_max"), [(512, 256, 96, 0.0, None), (1024, 400, 64, 50.0, 7000.0)]
)
def test_log_mel_equals_librosa(pad_mode, n_fft, hop, mels, f_min, f_max):
    rng = np.random.default_rng(0)
    waveform = (0.3 * rng.standard_normal((2, 12345))).astype(np.float32)
    waveform[1] *= np.linspace(0, 1, 12345, dtype=np.float32)
    log_mel = LogMel(16000, n_fft, hop, mels, f_min, f_max, pad_mode)
    mel = librosa.feature.melspectrogram(
        y=waveform, sr=16000, n_fft=n_fft, hop_length=hop, n_mels=mels, fmin=f_min, fmax=f_max, pad_mode=pad_mode
    )
    ours = log_mel(torch.from_numpy(waveform))
    assert ours.shape == (2, mels, log_mel.num_frames(12345))
    np.testing.assert_allclose(ours, np.log10(10000 * mel + 1), atol=1e-4)


def test_log_mel_is_float32_under_autocast_and_for_loud_music():
    loud = torch.sign(torch.sin(torch.arange(16000) * 0.3))[None]  # a square wave at full scale
    log_mel = LogMel()
    with torch.autocast("cpu", torch.bfloat16):
        within = log_mel(loud)
    assert within.dtype == torch.float32
    torch.testing.assert_close(within, log_mel(loud), rtol=0, atol=0)
    assert within.max() > np.log10(65504)  # more than float16 holds before the logarithm


def test_normalisation_is_exact_and_travels_with_the_weights():
    torch.manual_seed(0)
    blocks = [torch.randn(n, 4000) * level for n, level in ((3, 0.3), (1, 0.01), (2, 0.1))]
    frontend = MusicallyMotivated(num_filters=1)
    frontend.fit_normalisation(iter(blocks))
    values = torch.cat([frontend.log_mel(block).flatten() for block in blocks]).double()
    assert frontend.normalisation_mean.item() == pytest.approx(values.mean().item(), rel=1e-6)
    assert frontend.normalisation_std.item() == pytest.approx(values.std(correction=0).item(), rel=1e-6)
    normal = torch.cat([frontend.spectrogram(block).flatten() for block in blocks])
    assert normal.mean().item() == pytest.approx(0, abs=1e-5)
    assert normal.std().item() == pytest.approx(1, abs=1e-4)

    other = MusicallyMotivated(num_filters=1)
    other.load_state_dict(frontend.state_dict())
    torch.testing.assert_close(other.spectrogram(blocks[0]), frontend.spectrogram(blocks[0]))


def test_unset_normalisation_is_an_error_never_silence():
    frontend = MusicallyMotivated(num_filters=1)
    with pytest.raises(MusictagError, match="not set"):
        frontend(torch.randn(2, 4000))
    for nothing in ([], [torch.zeros(2, 4000)]):
        with pytest.raises(MusictagError, match="none, or silent"):
            frontend.fit_normalisation(nothing)
    unfitted = copy.deepcopy(frontend.state_dict())
    frontend.fit_normalisation([torch.randn(2, 4000)])
    assert frontend(torch.randn(2, 4000)).isfinite().all()
    frontend.load_state_dict(unfitted)
    with pytest.raises(MusictagError, match="not set"):
        frontend(torch.randn(2, 4000))


def test_other_ways_to_normalise():
    waveform = 0.1 * torch.randn(4, 16000)
    learnt = MusicallyMotivated(num_filters=1, normalise="batch_norm")
    normal = learnt.spectrogram(waveform)
    assert normal.mean().item() == pytest.approx(0, abs=1e-3)
    assert normal.std().item() == pytest.approx(1, abs=1e-2)
    assert learnt.input_norm.num_features == 1
    plain = MusicallyMotivated(num_filters=1, normalise="none")
    torch.testing.assert_close(plain.spectrogram(waveform), plain.log_mel(waveform))


# layers


@pytest.mark.parametrize("length", [1, 2, 7, 32, 165])
def test_same_padding_is_tensorflows(length):
    layer = SameConv1d(1, 1, length)
    torch.nn.init.ones_(layer.weight), torch.nn.init.zeros_(layer.bias)
    impulse = torch.zeros(1, 1, 400)
    impulse[0, 0, 200] = 1
    response = layer(impulse)[0, 0]
    assert response.shape == (400,)
    # an even kernel pads one more on the right, so it looks one frame further ahead than back
    heard = response.nonzero().flatten()
    assert (heard.min().item(), heard.max().item()) == (200 - length // 2, 200 + (length - 1) // 2)


def test_synchronised_batch_norms_find_every_layer() -> None:
    # what several GPUs use in place of batch norms must leave the model the same
    backend = Residual(
        in_channels=6, in_frames=20, num_tags=3, filters=16, dense_units=8, batch_norm="reference"
    ).eval()
    features = torch.randn(4, 6, 20)
    before = backend(features)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(backend).eval()
    assert isinstance(converted.norm2, nn.SyncBatchNorm)
    torch.testing.assert_close(converted(features), before)
