"""Speed of computing features and fitting baselines."""

from __future__ import annotations

import time
from collections.abc import Iterator

import librosa
import numpy as np

from musictag.common.timing import median_seconds
from musictag.data.features.descriptors import HOP_SAMPLES, N_FFT, SAMPLE_RATE, feature_names, song_features
from musictag.models.baselines.linear import Linear
from musictag.models.baselines.trees import Trees
from tests.benchmarks.figures import Figure

_SONG_SECONDS = (10, 30, 240)
_TRAIN_SONGS, _VALIDATION_SONGS = 16_000, 2_000
_STFT = {"n_fft": N_FFT, "hop_length": HOP_SAMPLES}


def benchmark() -> Iterator[Figure]:
    """Features of songs, the same descriptors with one STFT each, and models of one tag; one thread."""
    for seconds in _SONG_SECONDS:
        song = made_song(seconds)
        rate = seconds / median_seconds(lambda song=song: song_features(song))
        yield Figure(f"features of songs of {seconds} s", rate, "s of audio / s")
    song = made_song(_SONG_SECONDS[1])
    rate = _SONG_SECONDS[1] / median_seconds(lambda: one_by_one(song))
    yield Figure(f"songs of {_SONG_SECONDS[1]} s: librosa, one STFT per descriptor", rate, "s of audio / s")
    rng = np.random.default_rng(0)
    features = rng.normal(0, 1, (_TRAIN_SONGS + _VALIDATION_SONGS, len(feature_names()))).astype(np.float32)
    noise = rng.normal(0, 2, len(features))
    targets = (features[:, :20].sum(axis=1) + noise > 6).astype(np.float32)
    train, validation = slice(0, _TRAIN_SONGS), slice(_TRAIN_SONGS, None)
    for name, model in (("trees", Trees(threads=1)), ("linear", Linear(threads=1))):
        began = time.perf_counter()
        fitter = model.fitter(features[train], features[validation], seed=0)
        yield Figure(f"{name}: setup for {_TRAIN_SONGS:,} songs, once", time.perf_counter() - began, "s")
        began = time.perf_counter()
        fitter.fit("classification", targets[train], targets[validation], None)
        yield Figure(f"{name}: one tag of these songs", time.perf_counter() - began, "s")


def made_song(seconds: int) -> np.ndarray:
    """Two notes per second over noise, float32."""
    rng = np.random.default_rng(0)
    song = rng.normal(0, 0.01, seconds * SAMPLE_RATE)
    half = SAMPLE_RATE // 2
    decay = np.exp(-6 * np.arange(half) / SAMPLE_RATE)
    for begin in range(0, len(song), half):
        pitch = 110 * 2 ** (rng.integers(0, 36) / 12)
        song[begin : begin + half] += 0.2 * decay * np.sin(2 * np.pi * pitch * np.arange(half) / SAMPLE_RATE)
    return song.astype(np.float32)


def one_by_one(song: np.ndarray) -> None:
    """The descriptors of ``song_features`` by librosa's functions on the waveform, each with its own STFT."""
    of, rate = librosa.feature, {"y": song, "sr": SAMPLE_RATE}
    mfcc = of.mfcc(**rate, n_mfcc=20, n_mels=96, **_STFT)
    of.delta(mfcc, mode="nearest")
    of.delta(mfcc, order=2, mode="nearest")
    of.chroma_stft(**rate, tuning=0.0, **_STFT)
    of.spectral_contrast(**rate, n_bands=5, **_STFT)
    for describe in (of.spectral_centroid, of.spectral_bandwidth, of.spectral_rolloff):
        describe(**rate, **_STFT)
    of.spectral_flatness(y=song, **_STFT)
    of.zero_crossing_rate(song, frame_length=N_FFT, hop_length=HOP_SAMPLES)
    of.rms(y=song, frame_length=N_FFT, hop_length=HOP_SAMPLES)
    strength = librosa.onset.onset_strength(**rate, n_mels=96, **_STFT)
    of.tempo(onset_envelope=strength, sr=SAMPLE_RATE, hop_length=HOP_SAMPLES)
    librosa.onset.onset_detect(onset_envelope=strength, sr=SAMPLE_RATE, hop_length=HOP_SAMPLES)
