"""The log-mel spectrogram: librosa's and torchaudio's numbers, float32 throughout, normalised as measured."""

from __future__ import annotations

import copy

import librosa
import numpy as np
import pytest
import torch
import torchaudio

from musictag.common.errors import MusictagError
from musictag.models.frontends.log_mel import LogMel
from musictag.models.frontends.spectrogram import MusicallyMotivated


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


@pytest.mark.parametrize("pad_mode", ["constant", "reflect", "song"])
def test_frames_of_an_odd_window_are_counted_exactly(pad_mode):
    log_mel = LogMel(n_fft=401, hop_samples=160, num_mels=40, pad_mode=pad_mode)
    for num_samples in (1600, 1601, 1759):
        assert log_mel(torch.zeros(1, num_samples)).shape[-1] == log_mel.num_frames(num_samples)


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


def test_unset_normalisation_is_an_error():
    frontend = MusicallyMotivated(num_filters=1)
    with pytest.raises(MusictagError, match="not set"):
        frontend(torch.randn(2, 4000))
    for nothing in ([], [torch.zeros(2, 4000)]):
        with pytest.raises(MusictagError, match="empty, silent"):
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


def test_htk_decibels_equal_torchaudios():
    waveform = 0.3 * torch.randn(2, 12345)
    waveform[1, 4000:] = 0  # down to the floor
    mel = torchaudio.transforms.MelSpectrogram(16000, n_fft=512, hop_length=256, n_mels=128)(waveform)
    expected = torchaudio.transforms.AmplitudeToDB()(mel)
    ours = LogMel(num_mels=128, pad_mode="reflect", mel="htk", compression="decibel")(waveform)
    torch.testing.assert_close(ours, expected, atol=1e-3, rtol=1e-4)
    assert ours.min().item() == pytest.approx(-100)


@pytest.mark.parametrize(("n_fft", "hop"), [(512, 256), (1024, 400), (512, 100)])
def test_with_the_songs_margins_frames_of_patches_are_those_of_the_song(n_fft, hop):
    song = 0.1 * torch.randn(1, 40 * hop)
    whole = LogMel(n_fft=n_fft, hop_samples=hop, num_mels=40)(song)  # centred, silence beyond the ends
    log_mel = LogMel(n_fft=n_fft, hop_samples=hop, num_mels=40, pad_mode="song")
    before, after = log_mel.margin_samples
    padded = torch.nn.functional.pad(song, (before, after))
    patches = [padded[:, i * 10 * hop : (i + 1) * 10 * hop + before + after] for i in range(4)]
    assert {log_mel.num_frames(patch.shape[1]) for patch in patches} == {10}
    torch.testing.assert_close(torch.cat([log_mel(patch) for patch in patches], dim=2), whole[:, :, :40])
    assert log_mel.num_frames(n_fft - 1) == log_mel.num_frames(0) == 0
    with pytest.raises(MusictagError, match="pad_mode=song needs frames that overlap"):
        LogMel(n_fft=512, hop_samples=257, pad_mode="song")
    assert LogMel(n_fft=512, hop_samples=257).margin_samples == (0, 0)


# branches


def test_branches_switch_off():
    waveform = 0.1 * torch.randn(2, 16000)
    both = MusicallyMotivated(num_filters=2, normalise="none").eval()
    timbral = MusicallyMotivated(num_filters=2, normalise="none", branches="timbral").eval()
    temporal = MusicallyMotivated(num_filters=2, normalise="none", branches="temporal").eval()
    assert (timbral.out_channels, temporal.out_channels, both.out_channels) == (28, 30, 58)
    for part in (timbral, temporal):
        part.load_state_dict({key: value for key, value in both.state_dict().items() if key in part.state_dict()})
    torch.testing.assert_close(both(waveform), torch.cat([timbral(waveform), temporal(waveform)], dim=1))
