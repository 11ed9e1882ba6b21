"""The plug-in of docs/plugins.md for an encoder with a package of its own, with a small package in place of MuQ's."""

from __future__ import annotations

import dataclasses
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

import musictag
from musictag import testing
from musictag.models.checkpoint import read_tagger, write_tagger
from musictag.models.frontends.encoder import described, load_weights
from musictag.models.network import TaggingNetwork
from musictag.training.finetune import FineTuning
from tests.helpers.experiments import ROOT

SPEC = {"_target_": "my_package.muq_encoder.MuQ", "name": "OpenMuQ/MuQ-large-msd-iter"}
MEAN = {"_target_": "musictag.models.backends.pooling.Pooling", "pooling": "mean"}


@dataclasses.dataclass
class MuQConfig:
    encoder_dim: int = 6
    stat: dict = dataclasses.field(default_factory=lambda: {"melspec_2048_mean": 6.77})


class MuQ(nn.Module):
    """With MuQ's interface and frames: spectrogram frames of 240 samples without the last, halved twice."""

    def __init__(self, config: MuQConfig):
        super().__init__()
        self.config = config
        convolutions = (nn.Conv1d(wide, 6, 3, stride=2, padding=1) for wide in (129, 6))
        self.layers = nn.Sequential(*convolutions)
        assert torch.ones(2).sum().item() == 2  # its filters are made like that

    @classmethod
    def from_pretrained(cls, name):
        assert name == SPEC["name"]
        torch.manual_seed(3)
        return cls(MuQConfig())

    def forward(self, waveform):
        window = torch.hann_window(2048, device=waveform.device)
        spectrum = torch.stft(waveform, 2048, 240, window=window, return_complex=True).abs()[:, :129, :-1]
        hidden = self.layers(spectrum).transpose(1, 2)
        whole = hidden.mean(1, keepdim=True)  # as attention sees everything
        return SimpleNamespace(last_hidden_state=hidden + whole)


@pytest.fixture
def _muq(monkeypatch):
    module = ModuleType("muq")
    module.MuQ, module.MuQConfig = MuQ, MuQConfig
    monkeypatch.setitem(sys.modules, "muq", module)
    monkeypatch.syspath_prepend(str(ROOT / "tests/plugin/src"))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        del sys.modules[name]


@pytest.mark.usefixtures("_muq")
@pytest.mark.parametrize("check", testing.FRONTEND_CHECKS)
def test_contract(check):
    check(SPEC)


@pytest.mark.usefixtures("_muq")
def test_its_weights_and_licence_come_with_it_and_stay_with_the_tagger(tmp_path, monkeypatch):
    network = TaggingNetwork(described(SPEC), MEAN, [{"name": "a"}], 1.0).eval()
    waveform = 0.1 * torch.randn(1, 16000)
    fresh = network.frontend(waveform)
    message = load_weights(network.frontend, SPEC["name"])
    assert "licence cc-by-nc-4.0, which also applies" in message
    expected = MuQ.from_pretrained(SPEC["name"])(network.frontend.resample(waveform)).last_hidden_state
    assert torch.equal(network.frontend(waveform), expected.transpose(1, 2))
    assert not torch.equal(network.frontend(waveform), fresh)
    FineTuning(network.frontend, blocks=0, frontend_lr_factor=1.0, unfreeze_epochs=None)
    assert not any(p.requires_grad for p in network.frontend.parameters())
    write_tagger(tmp_path / "tagger.safetensors", network)
    monkeypatch.setattr(MuQ, "from_pretrained", None)  # no hub
    again = musictag.load(tmp_path / "tagger.safetensors", trust=["my_package"]).network
    assert torch.equal(again(waveform), network(waveform))
    assert read_tagger(tmp_path / "tagger.safetensors").description["licence"] == "cc-by-nc-4.0"


@pytest.mark.usefixtures("_muq")
def test_other_weights_under_the_same_name_are_another_run(monkeypatch):
    first = described(SPEC)["encoder"]
    assert described(SPEC)["encoder"] == first
    changed = MuQ.from_pretrained(SPEC["name"])
    next(changed.parameters()).data[0] += 1
    monkeypatch.setattr(MuQ, "from_pretrained", lambda name: changed)
    other = described(SPEC)["encoder"]
    assert other.pop("weights") != first.pop("weights")
    assert other == first


@pytest.mark.usefixtures("_muq")
def test_in_16_bits_it_hears_audio_of_full_precision(monkeypatch):
    frontend = TaggingNetwork(described(SPEC), MEAN, [{"name": "a"}], 1.0).frontend
    heard = []
    monkeypatch.setattr(frontend, "encode", lambda waveform: heard.append(waveform) or waveform)
    waveform = 0.1 * torch.randn(1, 16000)
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            frontend(waveform)
    assert torch.equal(*heard)
