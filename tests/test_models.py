"""Every front-end and back-end that conf/ offers, taken from there, fulfils its contract, with every partner."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml

from musictag.backends import BackEnd
from musictag.build import build
from musictag.errors import MusictagError
from musictag.frontends import FrontEnd

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
