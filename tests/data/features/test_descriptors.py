"""Features of signals with known values, and compared with librosa's."""

from __future__ import annotations

import tracemalloc

import librosa
import numpy as np
import pytest

from musictag.common.errors import MusictagError
from musictag.data.features import descriptors as features
from musictag.data.features.descriptors import (
    HOP_SAMPLES,
    N_FFT,
    SAMPLE_RATE,
    feature_digest,
    feature_family,
    feature_names,
    song_features,
)

#: Constants of ``music()``.
DIGEST = "9b4fb775"
KNOWN = {
    "mfcc 0 mean": -58.9819,
    "mfcc 7 deviation": 10.6828,
    "mfcc delta 4 deviation": 0.819025,
    "contrast 400-800 Hz percentile 90": 31.848,
    "centroid mean": 3207.54,
    "bandwidth percentile 10": 2303.69,
    "roll-off mean": 6336.52,
    "flatness mean": 0.0404381,
    "zero crossings mean": 0.109967,
    "loudness deviation": 0.554676,
    "onset strength mean": 1.46204,
    "chroma G mean": 0.106278,
    "tempogram 80-100 bpm": 0.860752,
    "tempo": 98.6842,
    "onset rate": 1.83333,
}
STFT = {"n_fft": N_FFT, "hop_length": HOP_SAMPLES}


def by_name(waveform: np.ndarray) -> dict[str, float]:
    return dict(zip(feature_names(), song_features(waveform.astype(np.float32)).tolist(), strict=True))


def sine(frequency: float, seconds: float = 3.0, amplitude: float = 0.3) -> np.ndarray:
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (amplitude * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def clicks(bpm: float, seconds: float = 20.0) -> np.ndarray:
    """Short bursts of noise over very quiet noise."""
    rng = np.random.default_rng(0)
    song = rng.normal(0, 1e-4, round(seconds * SAMPLE_RATE))
    for beat in np.arange(0.2, seconds - 0.2, 60 / bpm):
        start = round(beat * SAMPLE_RATE)
        song[start : start + 400] += rng.normal(0, 0.3, 400)
    return song.astype(np.float32)


def music(seconds: float = 6.0) -> np.ndarray:
    """A bit of everything: a gliding tone, its octave, clicks and noise."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    glide = np.sin(2 * np.pi * (200 * time + 100 * time**2))
    noise = np.random.default_rng(1).normal(0, 0.03, len(time))
    return (0.2 * glide + 0.1 * np.sign(glide) + noise + clicks(100, seconds)).astype(np.float32)


def test_every_number_has_its_own_name():
    names = feature_names()
    assert len(names) == len(set(names)) == len(song_features(music(1.0)))
    assert song_features(music(1.0)).dtype == np.float32
    assert {feature_family(name) for name in names} == {
        "mfcc", "contrast", "centroid", "bandwidth", "roll-off", "flatness", "zero crossings", "loudness",
        "onset strength", "chroma", "tempogram", "tempo", "onset rate",
    }  # fmt: skip


def test_a_tone_is_where_it_is():
    found = by_name(sine(440))
    chroma = {name.split()[1]: value for name, value in found.items() if name.startswith("chroma") and "mean" in name}
    assert max(chroma, key=chroma.get) == "A"
    assert found["centroid percentile 50"] == pytest.approx(440, abs=5)
    assert found["roll-off percentile 50"] == pytest.approx(440, abs=SAMPLE_RATE / N_FFT)
    assert found["bandwidth percentile 50"] < 60
    assert found["zero crossings percentile 50"] == pytest.approx(2 * 440 / SAMPLE_RATE, rel=0.01)
    assert found["flatness percentile 50"] < 1e-3
    # a sine's mean square is half of the squared amplitude
    assert found["loudness percentile 50"] == pytest.approx(10 * np.log10(0.3**2 / 2), abs=0.05)
    higher = by_name(sine(523.25))
    assert max((n for n in higher if n.startswith("chroma") and "mean" in n), key=higher.get) == "chroma C mean"


@pytest.mark.parametrize("bpm", [90, 120, 150])
def test_the_tempo_of_clicks(bpm: int):
    found = by_name(clicks(bpm))
    assert any(found["tempo"] == pytest.approx(beats, rel=0.03) for beats in (bpm, bpm / 2))  # or half as fast
    assert found["onset rate"] == pytest.approx(bpm / 60, rel=0.05)
    bands = {name: value for name, value in found.items() if name.startswith("tempogram") and name.endswith("bpm")}
    low, high = max(bands, key=bands.get).split()[1].split("-")
    assert any(int(low) <= beats <= int(high) for beats in (bpm, bpm / 2, 2 * bpm))
    noise = by_name(np.random.default_rng(0).normal(0, 0.1, 20 * SAMPLE_RATE))
    assert found["tempogram clarity"] > 0.5 > noise["tempogram clarity"]


@pytest.mark.parametrize(("frames", "band"), [(15, "120-150"), (16, "100-120"), (20, "80-100"), (24, "60-80")])
def test_the_tempogram_knows_the_tempo_to_a_frame(frames: int, band: str):
    """A click every n frames of 32 ms: at 125, 117, 94 and 78 beats per minute; half the tempo does not count."""
    waveform = np.zeros(20 * SAMPLE_RATE)
    for start in range(0, len(waveform) - 800, frames * 512):
        waveform[start : start + 800] = sine(880)[:800]
    found = by_name(waveform)
    bands = {name: found[f"tempogram {name} bpm"] for name in ("60-80", "80-100", "100-120", "120-150")}
    assert max(bands, key=bands.get) == band
    assert bands[band] > 0.5


def test_noise_is_flat_and_bright():
    noise, tone = by_name(np.random.default_rng(0).normal(0, 0.1, 3 * SAMPLE_RATE)), by_name(sine(440))
    assert noise["flatness mean"] > 0.4 > tone["flatness mean"]
    assert noise["centroid mean"] == pytest.approx(SAMPLE_RATE / 4, rel=0.03)
    assert noise["contrast 1600-3200 Hz mean"] < tone["contrast 400-800 Hz mean"]


def test_louder_is_louder_and_nothing_else():
    quiet, loud = by_name(0.1 * music()), by_name(music())
    assert loud["loudness mean"] - quiet["loudness mean"] == pytest.approx(20, abs=0.01)
    for name in ("centroid mean", "zero crossings mean", "chroma A mean", "contrast 800-1600 Hz mean", "tempo"):
        assert loud[name] == pytest.approx(quiet[name], rel=1e-3)


def test_the_descriptors_are_those_of_librosa():
    song, found = music(), by_name(music())
    mfcc = librosa.feature.mfcc(y=song, sr=SAMPLE_RATE, n_mfcc=20, n_mels=96, **STFT)
    for i in range(20):
        assert found[f"mfcc {i} mean"] == pytest.approx(mfcc[i].mean(), abs=0.01)
        assert found[f"mfcc {i} deviation"] == pytest.approx(mfcc[i].std(), abs=0.01)
    slopes = librosa.feature.delta(mfcc, mode="nearest").std(axis=1)
    assert found["mfcc delta 3 deviation"] == pytest.approx(slopes[3], rel=1e-3)
    magnitude = np.abs(librosa.stft(song, **STFT))
    rates = {"S": magnitude, "sr": SAMPLE_RATE}
    for name, theirs in (
        ("centroid", librosa.feature.spectral_centroid(**rates)),
        ("bandwidth", librosa.feature.spectral_bandwidth(**rates)),
        ("roll-off", librosa.feature.spectral_rolloff(**rates)),
        ("flatness", librosa.feature.spectral_flatness(S=magnitude)),
    ):
        assert found[f"{name} mean"] == pytest.approx(theirs.mean(), rel=2e-3)
        assert found[f"{name} percentile 90"] == pytest.approx(np.percentile(theirs, 90), rel=2e-3)
    chroma = librosa.feature.chroma_stft(S=magnitude**2, sr=SAMPLE_RATE, tuning=0.0)
    assert [found[f"chroma {p} mean"] for p in ("C", "F#", "B")] == pytest.approx(
        chroma.mean(axis=1)[[0, 6, 11]], rel=1e-3
    )
    # these bands share no bin, and the highest ends at 6.4 kHz, not at the last bin
    contrast = librosa.feature.spectral_contrast(**rates, n_bands=5).mean(axis=1)
    assert found["contrast 800-1600 Hz mean"] == pytest.approx(contrast[3], abs=0.5)
    strength = librosa.onset.onset_strength(y=song, sr=SAMPLE_RATE, n_mels=96, **STFT)
    assert found["onset strength mean"] == pytest.approx(strength.mean(), rel=0.02)


@pytest.mark.parametrize(
    "song",
    [
        np.zeros(3 * SAMPLE_RATE), np.zeros(1), np.ones(1), sine(440, 0.1), np.full(SAMPLE_RATE, 0.5), sine(440, 0.033),
        np.concatenate([np.zeros(2 * SAMPLE_RATE), [1.0], np.zeros(2 * SAMPLE_RATE)]), -np.ones(5000), sine(7999, 1),
        np.sign(sine(100, 1)), 1e-9 * sine(440, 1), clicks(120, 1.0),
    ],
    ids=["silence", "one zero", "one sample", "0.1 s", "constant", "two frames", "impulse", "bottom", "top", "square",
         "hardly there", "clicks"],
)  # fmt: skip
def test_all_numbers_are_finite(song: np.ndarray):
    found = song_features(np.asarray(song, dtype=np.float32))
    assert np.isfinite(found).all()


def test_blocks_of_frames_leave_no_trace(monkeypatch: pytest.MonkeyPatch):
    song = music(10.0)
    whole = song_features(song)
    for block in (37, 100_000):
        monkeypatch.setattr(features, "_BLOCK_FRAMES", block)
        np.testing.assert_allclose(song_features(song), whole, rtol=1e-3, atol=1e-4)


def test_ten_minutes_need_little_more_than_their_samples():
    song = np.tile(music(6.0), 100)
    tracemalloc.start()
    found = song_features(song)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.isfinite(found).all()
    # the spectrum alone would take 150 MB, its power and magnitude as much again
    assert peak < 100e6
    # repetitions have nearly the same features
    few = dict(zip(feature_names(), song_features(np.tile(music(6.0), 5)), strict=True))
    many = dict(zip(feature_names(), found, strict=True))
    for name in ("centroid mean", "mfcc 2 mean", "onset rate", "loudness percentile 50"):
        assert many[name] == pytest.approx(few[name], rel=0.02)


def test_what_cannot_be_described_is_refused():
    with pytest.raises(MusictagError, match="defined at 16000 Hz, not 22050"):
        song_features(music(1.0), 22050)
    for wrong in (np.zeros(0), np.zeros((2, 100)), np.array([0.0, np.nan]), np.array([np.inf])):
        with pytest.raises(MusictagError, match="one or more finite mono samples"):
            song_features(wrong.astype(np.float32))


def test_numbers_that_change_need_another_version():
    """If this fails, the features have changed: increase ``VERSION``, and write down the new ones."""
    found = by_name(music())
    assert feature_digest() == DIGEST
    assert {name: found[name] for name in KNOWN} == pytest.approx(KNOWN, rel=2e-3)
