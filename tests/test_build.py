"""Specs from YAML and from checkpoints are untrusted: nothing outside musictag is built, and mistakes are explained."""

from __future__ import annotations

import pytest

from musictag.backends import BackEnd
from musictag.backends.residual import Residual
from musictag.build import build
from musictag.errors import MusictagError
from musictag.frontends import FrontEnd


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("os.system", "inside musictag"),
        ("musictagx.evil.Thing", "inside musictag"),
        (None, "inside musictag"),
        ("musictag.", "dotted name of a class inside musictag"),
        ("musictag.frontends..waveform.SampleLevel", "dotted name of a class inside musictag"),
        ("musictag.frontends.waveform.SampleLevel\0", "dotted name of a class inside musictag"),
        ("musictag.frontends./waveform.SampleLevel", "dotted name of a class inside musictag"),
        ("musictag.frontends." + 10_000 * "x", "dotted name of a class inside musictag"),
        ("musictag.nowhere.Thing", "is not a FrontEnd"),
        ("musictag.frontendsandmore.Thing", "is not a FrontEnd"),
        ("musictag.frontends.nowhere.Thing", "no module musictag.frontends.nowhere"),
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
    with pytest.raises(MusictagError, match=r"no setting chanels; allowed: channels, filter_multiplier, norm_momentum"):
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
        {"pad_mode": "wrap"}, {"mel": "bark"}, {"compression": "mu"}, {"branches": "none"}, {"filter_multiplier": 0},
        {"normalise": "yes"}, {"num_filters": 0}, {"num_mels": 2}, {"num_mels": 0},
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
