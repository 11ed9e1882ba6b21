"""The inference form computes what the network does, for every architecture, whatever its batch norms have learned."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from musictag.common.errors import MusictagError
from musictag.models import inference_form as inference_form_module
from musictag.models.backends import BackEnd
from musictag.models.fast_convolution import FastVertical
from musictag.models.frontends.musicnn import Musicnn
from musictag.models.frontends.waveform import SampleLevel
from musictag.models.inference_form import PRECISIONS, Chain, Stage, inference_form
from musictag.models.network import TaggingNetwork
from tests.helpers.models import PRESETS, VARIED_PRESETS, make_small_network

TOLERANCE = 1e-5


def as_trained(module: nn.Module) -> None:
    """Batch norms with any statistics, and weights of both signs, one of them 0."""
    torch.manual_seed(1)
    for layer in module.modules():
        if isinstance(layer, _BatchNorm):
            if layer.track_running_stats:
                layer.running_mean.normal_(0, 0.3)
                layer.running_var.uniform_(0.5, 1.5)
            if layer.affine:
                layer.weight.data.uniform_(-1.2, 1.2)
                layer.weight.data[-1] = -1.0 if layer.num_features == 1 else 0.0
                layer.bias.data.normal_(0, 0.3)
    module.eval()


def check(plain: nn.Module, form: nn.Module, given: Tensor) -> None:
    with torch.inference_mode():
        expected, found = plain(given), form(given)
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("name", VARIED_PRESETS)
def test_logits_and_probabilities_of_every_model(name: str) -> None:
    network = make_small_network(name)
    as_trained(network)
    form = network.inference_form()
    waveform = 0.1 * torch.randn(3, network.input_samples)
    check(network, form, waveform)
    with torch.inference_mode():
        probabilities = [network.probabilities(either(waveform)) for either in (network, form)]
    torch.testing.assert_close(*probabilities, atol=TOLERANCE, rtol=0)


def test_many_vertical_filters_in_fewer_products() -> None:
    front_end = Musicnn(timbral_filters=128, temporal_filters=2)
    as_trained(front_end)
    form = inference_form(front_end)
    stages = [step for chain in form.timbral for step in chain._steps if isinstance(step, Stage)]
    assert [type(stage._fast) for stage in stages] == [FastVertical] * 2
    check(front_end, form, 0.1 * torch.randn(2, 16000))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", PRESETS)
def test_every_model_on_a_gpu(name: str) -> None:
    network = make_small_network(name).cuda()
    as_trained(network)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        check(network, network.inference_form(), 0.1 * torch.randn(3, network.input_samples).cuda())


class Doubled(nn.Module):
    """A layer of a plug-in that does not work on any memory layout."""

    def forward(self, features: Tensor) -> Tensor:
        return 2 * features.view(len(features), -1).view_as(features)


def normed(channels: int, dimensions: int, **settings) -> nn.Module:
    return {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}[dimensions](channels, **settings)


CHAINS = {
    "ReLU before norm": [nn.Conv1d(4, 8, 3), nn.ReLU(), normed(8, 1)],
    "norm before ReLU": [nn.Conv1d(4, 8, 3, stride=2, bias=False), normed(8, 1), nn.ReLU()],
    "padded": [nn.Conv1d(4, 8, 3), nn.ReLU(), normed(8, 1), nn.Conv1d(8, 8, 5, padding="same"), nn.ReLU()],
    "several norms": [nn.Conv1d(4, 8, 3), normed(8, 1), nn.ReLU(), normed(8, 1), nn.ReLU(), normed(8, 1)],
    "norm without weights": [nn.Conv1d(4, 8, 3), normed(8, 1, affine=False), nn.ReLU()],
    "norm of the batch": [nn.Conv1d(4, 8, 3), normed(8, 1, track_running_stats=False)],
    "pooling": [nn.Conv1d(4, 8, 3, dilation=2), nn.ReLU(), normed(8, 1), nn.MaxPool1d(3, ceil_mode=True)],
    "pooling first": [nn.Conv1d(4, 8, 3), nn.MaxPool1d(3, 2, padding=1), nn.ReLU(), normed(8, 1)],
    "pooling twice": [nn.Conv1d(4, 8, 3), nn.MaxPool1d(2), nn.MaxPool1d(2, 1, dilation=2), nn.ReLU()],
    "norm first": [normed(4, 1), nn.Conv1d(4, 8, 3), nn.ReLU()],
    "reflected": [nn.Conv1d(4, 8, 3, padding=1, padding_mode="reflect"), normed(8, 1), nn.ReLU()],
    "images": [
        nn.Conv2d(4, 8, (3, 2), padding=(0, 1), groups=2), nn.ReLU(), normed(8, 2), nn.MaxPool2d((2, 3), (1, 2)),
        nn.Conv2d(8, 8, 3, padding=1), normed(8, 2), nn.ReLU(), nn.Dropout(0.5),
    ],
    "other activations": [nn.Conv2d(4, 8, 3), normed(8, 2), nn.ELU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 1), nn.Tanh()],
    "activations that fall": [nn.Conv1d(4, 8, 3), nn.LeakyReLU(-0.5), nn.MaxPool1d(2), nn.ELU(-0.5), nn.MaxPool1d(2)],
    "chains in chains": [nn.Sequential(nn.Sequential(nn.Conv1d(4, 8, 3), nn.ReLU()), normed(8, 1)), nn.MaxPool1d(2)],
    "layers of others": [nn.Conv1d(4, 8, 3), nn.ReLU(), Doubled(), normed(8, 1), nn.Conv1d(8, 8, 3), Doubled()],
    "to vectors": [nn.Conv1d(4, 8, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 5), normed(5, 1), nn.ReLU()],
    "images, then time": [nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Flatten(1, 2), nn.Conv1d(64, 8, 3), normed(8, 1)],
}  # fmt: skip


@pytest.mark.parametrize("layers", CHAINS.values(), ids=CHAINS)
def test_chains(layers: list[nn.Module]) -> None:
    chain = nn.Sequential(*layers)
    as_trained(chain)
    image = any(isinstance(layer, nn.Conv2d) for layer in chain)
    given = torch.randn(3, 4, 10, 20) if image else torch.randn(3, 4, 20)
    form = inference_form(chain)
    assert isinstance(form, Chain)
    before = given.clone()
    check(chain, form, given)
    assert torch.equal(given, before)
    assert form(given).is_contiguous()


def test_what_is_rearranged() -> None:
    chain = nn.Sequential(
        nn.Conv1d(1, 8, 3), nn.ReLU(), normed(8, 1), nn.Dropout(), nn.MaxPool1d(3), nn.Conv1d(8, 8, 3)
    )
    steps = inference_form(chain.eval())._steps
    assert [type(step) for step in steps] == [Stage, Stage]


def test_the_layers_of_a_chain_are_still_there() -> None:
    chain = nn.Sequential(OrderedDict(conv=nn.Conv1d(4, 8, 3), norm=normed(8, 1))).eval()
    form = inference_form(chain)
    given = torch.randn(2, 4, 9)
    assert torch.equal(form.norm(form.conv(given)), chain(given))
    torch.testing.assert_close(form[:1](given), chain[:1](given))


def test_later_training_does_not_change_it() -> None:
    network = make_small_network("waveform_small")
    as_trained(network)
    waveform = 0.1 * torch.randn(2, network.input_samples)
    form = network.inference_form()
    before = form(waveform)
    assert not before.requires_grad
    with torch.no_grad():
        for value in network.state_dict().values():
            value += 1
    assert torch.equal(form(waveform), before)
    assert network.training is False
    assert network.train().inference_form().training is False
    assert network.backend.training


class Twice(nn.Module):
    """One layer under two names, one name without a layer, and a hook."""

    def __init__(self) -> None:
        super().__init__()
        self.first = self.second = nn.Sequential(nn.Conv1d(4, 4, 3), nn.ReLU(), normed(4, 1))
        self.third = None
        self.first[0].register_forward_hook(lambda _layer, _given, made: made - 0.1)
        self.scale = nn.Parameter(torch.full((4, 1), 0.5))

    def forward(self, features: Tensor) -> Tensor:
        return self.scale * self.second(self.first(features)) if self.third is None else features


def test_shared_layers_and_hooks() -> None:
    module = Twice()
    as_trained(module)
    form = inference_form(module)
    check(module, form, torch.randn(2, 4, 20))
    assert form.first is form.second is not module.first
    assert not form.scale.requires_grad
    assert module.scale.requires_grad


class Unusual(SampleLevel):
    """A front-end that goes through the layers of its chain one by one."""

    def forward(self, waveform: Tensor) -> Tensor:
        features = waveform.unsqueeze(1)
        for layer in self.layers:
            features = layer(features)
        return features.view(len(waveform), self.out_channels, -1)


class Last(BackEnd):
    """A back-end with a form of its own."""

    min_frames, fixed_length = 1, False

    def __init__(self, in_channels: int, in_frames: int, num_tags: int):
        super().__init__()
        self.output = nn.Linear(in_channels, num_tags)

    def forward(self, features: Tensor) -> Tensor:
        return self.output(features.view(len(features), -1, features.shape[-1]).amax(-1))

    def inference_form(self) -> nn.Module:
        return self


def test_parts_of_others() -> None:
    parts = [{"_target_": f"{__name__}.{kind.__name__}"} for kind in (Unusual, Last)]
    network = TaggingNetwork(parts[0] | {"channels": [4, 4, 4]}, parts[1], [{"name": "a"}, {"name": "b"}], 0.2)
    as_trained(network)
    network.train()
    form = network.inference_form()
    assert form.backend is network.backend
    assert network.backend.training
    network.eval()
    check(network, form, torch.randn(3, network.input_samples))


@pytest.fixture
def bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its instructions torch computes the same, slowly."""
    monkeypatch.setattr(inference_form_module, "has_bfloat16", lambda _device: True)


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize("name", VARIED_PRESETS)
def test_every_model_in_bfloat16(name: str) -> None:
    """Within 0.03 of the probabilities in float32."""
    network = make_small_network(name)
    as_trained(network)
    waveform = 0.1 * torch.randn(3, network.input_samples)
    exact, form = (network.probabilities(network.inference_form(kind)(waveform)) for kind in PRECISIONS)
    assert form.dtype == torch.float32
    torch.testing.assert_close(form, exact, atol=0.03, rtol=0)
    assert not torch.allclose(form, exact, atol=1e-6)  # it is in bfloat16


@pytest.mark.usefixtures("bfloat16")
def test_a_device_that_computes_something_else_in_bfloat16_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    network = make_small_network("waveform_small").eval()
    prepare = Stage.prepare

    def wrongly(stage: Stage, dtype: torch.dtype | None = None) -> None:
        prepare(stage, dtype)
        if dtype == torch.bfloat16:
            stage._bias += torch.nan

    monkeypatch.setattr(Stage, "prepare", wrongly)
    network.inference_form()
    with pytest.raises(MusictagError, match="precision=bf16-mixed changes scores of this network by nan on this cpu"):
        network.inference_form("bf16-mixed")


def test_precisions_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    network = make_small_network("waveform_small").eval()
    with pytest.raises(MusictagError, match=r"precision=16-mixed does not exist.*32-true, bf16-mixed"):
        network.inference_form("16-mixed")
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    with pytest.raises(MusictagError, match="this cpu has no instructions for bfloat16; use precision=32-true"):
        network.inference_form("bf16-mixed")
