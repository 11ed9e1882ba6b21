"""What a specification may name, in a configuration and in a file; mistakes are explained."""

from __future__ import annotations

import sys

import pytest

import musictag
from musictag.common.errors import MusictagError
from musictag.models.backends import BackEnd
from musictag.models.backends.residual import Residual
from musictag.models.checkpoint import write_tagger
from musictag.models.factory import build, check_targets
from musictag.models.frontends import FrontEnd
from musictag.models.network import TaggingNetwork


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("os.system", "os.system is not a FrontEnd"),
        ("torch.nn.Linear", "is not a FrontEnd"),
        ("musictagx.evil.Thing", "there is no module musictagx.evil"),
        (None, "dotted name of a class"),
        ("system", "dotted name of a class"),
        ("musictag.", "dotted name of a class"),
        ("musictag.models.frontends..waveform.SampleLevel", "dotted name of a class"),
        ("musictag.models.frontends.waveform.SampleLevel\0", "dotted name of a class"),
        ("musictag.models.frontends./waveform.SampleLevel", "dotted name of a class"),
        ("musictag.models.frontends." + 10_000 * "x", "dotted name of a class"),
        ("musictag.nowhere.Thing", "is not a FrontEnd"),
        ("musictag.frontendsandmore.Thing", "is not a FrontEnd"),
        ("musictag.models.frontends.nowhere.Thing", "no module musictag.models.frontends.nowhere"),
        ("musictag.models.frontends.waveform.NoSuchClass", "is not a FrontEnd"),
        ("musictag.models.frontends.waveform.build_everything", "is not a FrontEnd"),
        ("musictag.models.backends.residual.Residual", "is not a FrontEnd"),
        ("musictag.models.frontends.FrontEnd", "is not a FrontEnd"),
        ("musictag.models.frontends.spectrogram_base.SpectrogramFrontEnd", "is not a FrontEnd"),
    ],
)
def test_refused_targets(target, message):
    with pytest.raises(MusictagError, match=message):
        build({"_target_": target}, FrontEnd)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that is not installed, and that records being imported."""
    (tmp_path / "my_sounds").mkdir()
    (tmp_path / "my_sounds" / "__init__.py").write_text("")
    (tmp_path / "my_sounds" / "parts.py").write_text(
        "import pathlib\n"
        "from musictag.models.frontends.waveform import SampleLevel\n"
        "pathlib.Path(__file__).with_name('imported').touch()\n"
        "class Loud(SampleLevel):\n"
        "    def forward(self, waveform):\n"
        "        return super().forward(2 * waveform)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "my_sounds"
    for name in [name for name in sys.modules if name.startswith("my_sounds")]:
        del sys.modules[name]


LOUD = {"_target_": "my_sounds.parts.Loud", "channels": [8, 8, 8, 8]}
RESIDUAL = {"_target_": "musictag.models.backends.residual.Residual", "filters": 8, "dense_units": 8}


def test_a_configuration_may_name_any_part(package):
    assert type(build(LOUD, FrontEnd)).__name__ == "Loud"


def test_what_a_file_may_name_is_decided_before_anything_is_imported(package, tmp_path):
    network = TaggingNetwork(LOUD, RESIDUAL, [{"name": "a"}], 0.5)
    write_tagger(tmp_path / "x.safetensors", network)
    for name in [name for name in sys.modules if name.startswith("my_sounds")]:
        del sys.modules[name]
    (package / "imported").unlink()
    for trust in ((), ("my",), ("my_sounds.other",), ("sounds",)):
        with pytest.raises(MusictagError, match=r"x\.safetensors: .*'my_sounds\.parts\.Loud', .*trust=\['my_sounds'\]"):
            musictag.load(tmp_path / "x.safetensors", trust=trust)
    assert not (package / "imported").exists()
    for trust in (["my_sounds"], ["my_sounds.parts"]):
        loaded = musictag.load(tmp_path / "x.safetensors", trust=trust)
        assert type(loaded.network.frontend).__name__ == "Loud"

    # registered, as by installation
    (tmp_path / "my_sounds-1.0.dist-info").mkdir()
    (tmp_path / "my_sounds-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: my_sounds\nVersion: 1.0"
    )
    (tmp_path / "my_sounds-1.0.dist-info" / "entry_points.txt").write_text("[musictag.plugins]\nsounds = my_sounds\n")
    assert type(musictag.load(tmp_path / "x.safetensors").network.frontend).__name__ == "Loud"


def test_parts_inside_parts_are_checked():
    inside = {"_target_": "musictag.models.backends.probe.Probe", "body": {"list": [{"_target_": "os.system"}]}}
    with pytest.raises(MusictagError, match=r"'os\.system'"):
        check_targets({"backend": inside})
    check_targets({"backend": inside}, ["os"])


def test_keywords_are_checked_by_name():
    waveform = "musictag.models.frontends.waveform.SampleLevel"
    with pytest.raises(MusictagError, match=r"no setting chanels; allowed: channels, filter_multiplier, norm_momentum"):
        build({"_target_": waveform, "chanels": [8]}, FrontEnd)
    residual = {"_target_": "musictag.models.backends.residual.Residual"}
    with pytest.raises(MusictagError, match=r"needs in_channels, in_frames"):
        build(residual, BackEnd, num_tags=3)
    with pytest.raises(MusictagError, match=r"in_channels: computed"):
        build(residual | {"in_channels": 3}, BackEnd, in_channels=8, in_frames=8, num_tags=3)
    with pytest.raises(MusictagError, match="cannot be built"):
        build(residual | {"filters": "many"}, BackEnd, in_channels=8, in_frames=8, num_tags=3)
    # settings that a class passes on to its base are also known
    inherited = build(
        {"_target_": "musictag.models.frontends.spectrogram.MusicallyMotivated", "num_mels": 40}, FrontEnd
    )
    assert inherited.log_mel.filters_FM.shape[0] == 40


@pytest.mark.parametrize(
    "settings",
    [
        {"pad_mode": "wrap"}, {"mel": "bark"}, {"compression": "mu"}, {"branches": "none"}, {"filter_multiplier": 0},
        {"normalise": "yes"}, {"num_filters": 0}, {"num_mels": 2}, {"num_mels": 0},
        {"hop_samples": 0}, {"f_max_hz": 9000}, {"f_min_hz": 500, "f_max_hz": 400}, {"num_mels": 256},
        {"n_fft": "long"},
    ],
)  # fmt: skip
def test_settings_that_cannot_work(settings):
    with pytest.raises(MusictagError):
        build({"_target_": "musictag.models.frontends.spectrogram.MusicallyMotivated"} | settings, FrontEnd)


def test_other_settings_that_cannot_work():
    for channels in ([], [8, 0, 8]):
        with pytest.raises(MusictagError, match=r"frontend\.channels"):
            build({"_target_": "musictag.models.frontends.waveform.SampleLevel", "channels": channels}, FrontEnd)
    with pytest.raises(MusictagError, match="reference, per_channel"):
        Residual(8, 8, 2, batch_norm="group")
