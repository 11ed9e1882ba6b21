"""Contracts of front-ends and back-ends, one function a promise. Legend: B patches, N samples, C channels, T frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from musictag.common.errors import MusictagError
from musictag.common.text import is_one_line
from musictag.inference.load import load_network
from musictag.models.backends import BackEnd
from musictag.models.checkpoint import write_tagger
from musictag.models.factory import build, find_class
from musictag.models.frontends import FAMILIES, FrontEnd
from musictag.models.frontends.encoder import brings_weights, described
from musictag.models.network import TaggingNetwork
from musictag.testing.refusals import refused

#: A part as its YAML file describes it: ``_target_`` and settings.
Spec = Mapping[str, Any]
#: Small partners, where a check of one part needs the other.
FRONTEND: Spec = {"_target_": "musictag.models.frontends.waveform.SampleLevel", "channels": [8, 8, 8]}
BACKEND: Spec = {"_target_": "musictag.models.backends.residual.Residual", "filters": 8, "dense_units": 8}
_FEW = 1 / 32  # of the filters, where their number does not matter
_WIDE = 1_000_000  # parameters; a front-end with more learns a quarter of its filters here
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def check_frontend(spec: Spec) -> None:
    """Raise AssertionError unless the front-end fulfils its contract (see ``musictag.FrontEnd``)."""
    for check in FRONTEND_CHECKS:
        check(spec)


def check_backend(spec: Spec) -> None:
    """Raise AssertionError unless the back-end fulfils its contract (see ``musictag.BackEnd``)."""
    for check in BACKEND_CHECKS:
        check(spec)


@torch.inference_mode()
def frames_are_counted(spec: Spec) -> None:
    """``num_frames`` says exactly how many frames ``forward`` makes, ``out_channels`` how many channels they have."""
    frontend = _frontend(spec, filter_multiplier=_FEW).eval()
    shortest = frontend.min_samples
    steps = [frontend.samples_for(frames) for frames in (2, 3, 4)]
    lengths = {shortest, shortest + 1, 2 * shortest + 5, *steps, *(step - 1 for step in steps), 16000}
    for num_samples in sorted(n for n in lengths if n >= shortest):
        made = tuple(frontend(torch.zeros(1, num_samples)).shape)
        told = (1, frontend.out_channels, frontend.num_frames(num_samples))
        assert made == told, f"of {num_samples} samples forward makes {made}; out_channels and num_frames say {told}"


def frames_never_become_fewer(spec: Spec) -> None:
    """``num_frames`` is 0 for no samples, never falls as the waveform grows, and ``samples_for`` is its inverse."""
    frontend = _unmeasured(spec)
    frames = [frontend.num_frames(n) for n in range(0, 200_000, 37)]
    assert frames[0] == 0, f"num_frames(0) is {frames[0]}, not 0"
    assert frames == sorted(frames), "num_frames falls somewhere as the waveform grows"
    for wanted in (1, 2, 7, 8, 100):
        num_samples = frontend.samples_for(wanted)
        found = (frontend.num_frames(num_samples - 1), frontend.num_frames(num_samples))
        assert found[0] < wanted <= found[1], f"samples_for({wanted}) is {num_samples}, not the shortest waveform"


def hop_and_receptive_field_are_exact(spec: Spec) -> None:
    """``receptive_samples`` is from the first to the last sample that a frame in the middle hears, ``hop_samples`` from
    there to the next frame."""
    frontend = _frontend(spec, filter_multiplier=1e-6).eval()  # one filter a layer hears as much as many
    if frontend.receptive_samples is None:
        num_samples = 2 * frontend.samples_for(2)
        (reached,) = _reach(frontend, num_samples, frontend.num_frames(num_samples) // 2, [0])
        assert reached, "receptive_samples is None, and the first sample does not reach a frame in the middle"
        return
    span, hop = frontend.receptive_samples, frontend.hop_samples
    frame = span // hop + 1  # whose first sample is no earlier than the waveform's, whatever the padding
    num_samples = (frame + 1) * hop + span + 1
    outside, first = frame * hop - span, frame * hop
    wrong = f"receptive_samples={span} or hop_samples={hop} is wrong"
    assert _reach(frontend, num_samples, frame, [outside, first]) == [False, True], wrong
    while first - outside > 1:
        between = (outside + first) // 2
        (reaches,) = _reach(frontend, num_samples, frame, [between])
        outside, first = (outside, between) if reaches else (between, first)
    last = first + span - 1
    heard = _reach(frontend, num_samples, frame, [last, last + 1])
    assert heard == [True, False], f"{wrong}: the frame begins at sample {first}, and does not end at {last}"
    edges = [edge + hop for edge in (first - 1, first, last, last + 1)]
    heard = _reach(frontend, num_samples, frame + 1, edges)
    assert heard == [False, True, True, False], f"{wrong}: the next frame is not {hop} samples later"


@torch.inference_mode()
def _reach(frontend: FrontEnd, num_samples: int, frame: int, samples: list[int]) -> list[bool]:
    """Whether each of ``samples`` reaches ``frame``: a NaN there makes one here."""
    waveforms = torch.zeros(len(samples), num_samples)
    waveforms[range(len(samples)), samples] = torch.nan
    return frontend(waveforms)[:, :, frame].isnan().any(1).tolist()


def filters_are_multiplied(spec: Spec) -> None:
    """``filter_multiplier`` scales the numbers of filters, leaves the sizes in time alone, and refuses 0."""
    if brings_weights(spec):
        refused(lambda: build({**described(spec), "filter_multiplier": 0.5}, FrontEnd), MusictagError, "another size")
        return
    whole, half = (_unmeasured(spec, filter_multiplier=multiplier) for multiplier in (1.0, 0.5))
    assert _parameters(half) < 0.7 * _parameters(whole), "filter_multiplier=0.5 leaves more than 0.7 of the parameters"
    assert half.out_channels < whole.out_channels, "filter_multiplier=0.5 leaves out_channels as they are"
    sizes = [(part.hop_samples, part.receptive_samples) for part in (half, whole)]
    assert sizes[0] == sizes[1], "filter_multiplier changes hop_samples or receptive_samples"
    refused(lambda: _unmeasured(spec, filter_multiplier=0), MusictagError, "filter_multiplier=0")


def it_says_what_it_is(spec: Spec) -> None:
    """``family`` is one that tables and figures know, ``describe_input`` a word or two on one line."""
    frontend = _unmeasured(spec)
    assert frontend.family in FAMILIES, f"family is {frontend.family!r}; it must be one of {', '.join(FAMILIES)}"
    told = frontend.describe_input()
    assert isinstance(told, str), f"describe_input() is a {type(told).__name__}, not text"
    assert told, "describe_input() is empty"
    assert is_one_line(told), "describe_input() is more than one line"
    assert len(told) <= 30, f"describe_input() has {len(told)} characters; a table has room for 30"


def meta_device_and_several_gpus(spec: Spec) -> None:
    """It can be made on the device ``meta``, and its batch norms, as several GPUs synchronise them, are all found."""
    with torch.device("meta"):
        sketched = _either(spec)
    whole = _either(spec)
    shapes = [{key: value.shape for key, value in part.state_dict().items()} for part in (sketched, whole)]
    assert shapes[0] == shapes[1], "made on the device meta it has other parameters"
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(whole)
    left = [name for name, layer in converted.named_modules() if isinstance(layer, _BATCH_NORMS)]
    assert not left, f"batch norms that cannot be synchronised: {', '.join(left)}"
    assert converted.state_dict().keys() == sketched.state_dict().keys(), "synchronised, it has other parameters"


def every_parameter_learns(spec: Spec) -> None:
    """No parameter is dead from the start; of front-ends with millions of them, a quarter of the filters."""
    if _is_frontend(spec):
        with torch.device("meta"):
            size = _parameters(_unmeasured(spec))
        part: nn.Module = _frontend(spec, **({} if size < _WIDE else {"filter_multiplier": 0.25}))
        given = 0.1 * torch.randn(2, part.samples_for(2))
    else:
        part, given = _backend_and_features(spec, 3, 12, 16)
    out = part.train()(given)
    (out * torch.randn_like(out)).sum().backward()
    for name, parameter in _learning(part):
        assert parameter.grad is not None, f"{name} has no gradient: it is not used"
        assert parameter.grad.abs().max() > 0, f"{name} has a gradient of zero: it cannot learn"


@torch.inference_mode()
def the_last_layer_is_output(spec: Spec) -> None:
    """``output`` is the linear layer that makes the logits."""
    backend, features = _backend_and_features(spec, 3, 6, 40)
    seen: list[torch.Tensor] = []
    backend.eval()
    assert isinstance(backend.output, nn.Linear), f"output is a {type(backend.output).__name__}, not a Linear"
    handle = backend.output.register_forward_pre_hook(lambda _layer, inputs: seen.append(inputs[0]))
    logits = backend(features)
    handle.remove()
    assert len(seen) == 1, f"output is applied {len(seen)} times, not once"
    expected = (3, backend.output.in_features)
    assert seen[0].shape == expected, f"output gets {tuple(seen[0].shape)}, not B×H: {expected}"
    made = F.linear(seen[0], backend.output.weight, backend.output.bias)
    torch.testing.assert_close(logits, made, msg="the logits are not what output makes")


@torch.inference_mode()
def any_channels_and_frames(spec: Spec) -> None:
    """It takes any number of channels, and any number of frames from ``min_frames`` on, or with ``fixed_length`` just
    those that it was made for."""
    for channels in (1, 1500):
        backend, features = _backend_and_features(spec, 2, channels, 50)
        length, made = features.shape[2], tuple(backend.eval()(features).shape)
        assert made == (2, 5), f"of {channels} channels and 5 tags it makes {made}, not (2, 5)"
        for frames in {backend.min_frames, length - 1, length + 283} - {length}:
            features = torch.randn(2, channels, frames)
            if backend.fixed_length:
                refused(lambda: backend(features), RuntimeError, f"{frames} frames instead of {length}")  # noqa: B023
            else:
                assert backend(features).isfinite().all(), f"of {frames} frames it makes logits that are not finite"
        shortest = _backend(spec, channels, backend.min_frames).eval()
        made = shortest(torch.randn(2, channels, backend.min_frames))
        assert made.isfinite().all(), f"of min_frames={backend.min_frames} it makes logits that are not finite"


def check_pair(frontend_spec: Spec, backend_spec: Spec) -> None:
    """With the shortest patch for both: no mixing of the songs of a batch, and finite gradients for every parameter,
    also with bfloat16."""
    frontend = _frontend(frontend_spec)
    frames = _backend(backend_spec, frontend.out_channels, 1000).min_frames
    patch_samples = frontend.samples_for(frames)
    backend = _backend(backend_spec, frontend.out_channels, frontend.num_frames(patch_samples))
    waveform = 0.1 * torch.randn(2, patch_samples)
    frontend.eval(), backend.eval()
    with torch.inference_mode():
        together = backend(frontend(waveform))
        assert together.shape == (2, 5), f"two patches and 5 tags make logits of {tuple(together.shape)}"
        alone = backend(frontend(waveform[:1]))
        mixed = "a patch has other logits alone than beside another one"
        torch.testing.assert_close(together[:1], alone, atol=1e-4, rtol=1e-4, msg=mixed)
        refused(lambda: backend(frontend(waveform[:, :-1])), RuntimeError, "a patch that is one sample too short")
    frontend.train(), backend.train()
    targets = torch.tensor([[1.0, 0, 0, 1, 0], [0.0, 1, 1, 0, 1]])
    for autocast, kind in ((False, torch.float32), (True, torch.bfloat16)):
        # without oneDNN, whose bfloat16 convolutions of such small inputs are wrong on some processors
        with torch.backends.mkldnn.flags(enabled=False):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                logits = backend(frontend(waveform))
            assert logits.dtype == kind, f"the logits are {logits.dtype}, not {kind}"
            F.binary_cross_entropy_with_logits(logits.float(), targets).backward()
        for part in (frontend, backend):
            for name, parameter in _learning(part):
                assert parameter.grad is not None, f"{name} has no gradient"
                assert parameter.grad.isfinite().all(), f"the gradient of {name} is not finite with {kind}"
                parameter.grad = None


def it_fits_a_partner(spec: Spec) -> None:
    """``check_pair`` with a small partner of musictag's own."""
    if _is_frontend(spec):
        check_pair({**spec, "filter_multiplier": _FEW}, BACKEND)
    else:
        check_pair(FRONTEND, spec)


@torch.inference_mode()
def its_inference_form_scores_the_same(spec: Spec) -> None:
    """What ``inference_form`` makes computes what ``forward`` does, within 1e-5, whatever the batch norms learned."""
    if _is_frontend(spec):
        part: nn.Module = _frontend(spec, filter_multiplier=_FEW)
        given = 0.1 * torch.randn(2, part.samples_for(2))
    else:
        part, given = _backend_and_features(spec, 2, 12, 16)
    for layer in part.eval().modules():
        if isinstance(layer, _BATCH_NORMS) and layer.running_mean is not None:
            layer.running_mean.uniform_(-0.3, 0.3), layer.running_var.uniform_(0.5, 1.5)
            if layer.affine:
                layer.weight.uniform_(-1, 1), layer.bias.uniform_(-0.3, 0.3)
    form, wrong = part.inference_form(), "inference_form() computes something else than forward"
    torch.testing.assert_close(form(given), part(given), atol=1e-5, rtol=1e-5, msg=wrong)
    if isinstance(part, BackEnd):
        assert isinstance(form.output, nn.Linear), "inference_form() has no linear layer output"


@torch.inference_mode()
def it_comes_back_from_its_file(spec: Spec) -> None:
    """A tagger is made again from its file alone, and scores the same to the last bit."""
    few = spec if _is_frontend(spec) and brings_weights(spec) else {**spec, "filter_multiplier": _FEW}
    frontend_spec, backend_spec = (few, BACKEND) if _is_frontend(spec) else (FRONTEND, spec)
    frontend = _frontend(frontend_spec)
    frames = max(2, _backend(backend_spec, frontend.out_channels, 1000).min_frames)
    seconds = (frontend.samples_for(frames) + 1) / frontend.sample_rate
    network = TaggingNetwork(described(frontend_spec), backend_spec, [{"name": "a"}, {"name": "b"}], seconds)
    network.fit_normalisation([0.1 * torch.randn(1, network.input_samples)])
    waveform = 0.1 * torch.randn(2, network.input_samples)
    with TemporaryDirectory() as folder:
        path = Path(folder, "tagger.safetensors")
        write_tagger(path, network)
        again = load_network(path, trust=[spec["_target_"].partition(".")[0]])
    assert torch.equal(again(waveform), network.eval()(waveform)), "the tagger in its file scores otherwise"


#: Each takes the spec of a part.
FRONTEND_CHECKS: tuple[Callable[[Spec], None], ...] = (
    frames_are_counted, frames_never_become_fewer, hop_and_receptive_field_are_exact, filters_are_multiplied,
    it_says_what_it_is, meta_device_and_several_gpus, every_parameter_learns, it_fits_a_partner,
    its_inference_form_scores_the_same, it_comes_back_from_its_file,
)  # fmt: skip
BACKEND_CHECKS: tuple[Callable[[Spec], None], ...] = (
    the_last_layer_is_output, any_channels_and_frames, meta_device_and_several_gpus, every_parameter_learns,
    it_fits_a_partner, its_inference_form_scores_the_same, it_comes_back_from_its_file,
)  # fmt: skip


def _unmeasured(spec: Spec, **changes: Any) -> FrontEnd:
    torch.manual_seed(0)
    if brings_weights(spec):  # at the size that it has
        spec, changes = described(spec), changes | {"filter_multiplier": 1.0}
    return build({**spec, **changes}, FrontEnd)


def _frontend(spec: Spec, **changes: Any) -> FrontEnd:
    """With what it measures before training."""
    frontend = _unmeasured(spec, **changes)
    frontend.fit_normalisation([0.1 * torch.randn(1, max(16000, frontend.min_samples))])
    return frontend


def _backend(spec: Spec, in_channels: int, in_frames: int) -> BackEnd:
    torch.manual_seed(0)
    return build(spec, BackEnd, in_channels=in_channels, in_frames=in_frames, num_tags=5)


def _backend_and_features(spec: Spec, patches: int, channels: int, frames: int) -> tuple[BackEnd, torch.Tensor]:
    """The back-end, and features of so many frames, or of one more than it needs, if that is more."""
    frames = max(frames, _backend(spec, channels, 1000).min_frames + 1)
    return _backend(spec, channels, frames), torch.randn(patches, channels, frames)


def _is_frontend(spec: Spec) -> bool:
    try:
        find_class(spec["_target_"], FrontEnd)
    except MusictagError:
        return False
    return True


def _either(spec: Spec) -> nn.Module:
    return _unmeasured(spec) if _is_frontend(spec) else _backend_and_features(spec, 1, 12, 16)[0]


def _learning(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Its parameters, by name, without those that are fixed by design."""
    return [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
