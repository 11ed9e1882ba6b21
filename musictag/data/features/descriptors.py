"""Features of a whole song, for models without audio input: timbre, harmony and rhythm as one row of numbers.

Every spectral descriptor is computed from one STFT, a block of frames at a time, so that a song of an hour needs
little more memory than its samples; a frame leaves a hundred numbers. Descriptors over time are summarised by means,
deviations and percentiles over the song. Filters, onsets and tempo are librosa's, and so are the other definitions
(Tzanetakis & Cook 2002 for the spectral shape, Jiang et al. 2002 for the contrast, Grosche et al. 2010 for the
tempogram). Legend: N samples, T frames, F frequencies of the STFT, D features.
"""

from __future__ import annotations

import hashlib
from functools import cache
from itertools import pairwise

import numpy as np
import scipy.fft

from musictag.common.errors import MusictagError

#: Increased with every change to the constants or computations below: new features make a new run.
VERSION = 1
SAMPLE_RATE = 16000
N_FFT, HOP_SAMPLES = 2048, 512  # 128 ms every 32 ms: resolves semitones from 130 Hz up without blurring onsets
NUM_MELS, NUM_MFCC, NUM_CHROMA = 96, 20, 12
#: Band edges in Hz for comparing peaks and valleys: below 200 Hz, then octaves.
CONTRAST_EDGES = (0.0, 200.0, 400.0, 800.0, 1600.0, 3200.0, 6400.0)
CONTRAST_SHARE = 0.02  # share of a band's bins taken as its peaks and its valleys
ROLLOFF = 0.85  # share of the magnitude below the roll-off
QUIETEST_DB = -100.0
PERCENTILES = (10, 50, 90)
#: The tempogram: autocorrelation of the onset strength in windows of 8.2 s, 1 s apart.
TEMPOGRAM_FRAMES, TEMPOGRAM_HOP = 256, 31
TEMPO_EDGES = (40, 60, 80, 100, 120, 150, 190, 240, 320)  # beats per minute
#: An onset is the maximum of these frames, and above their average; librosa's defaults are less than a frame here.
_ONSET_FRAMES = {"pre_max": 2, "post_max": 2, "pre_avg": 4, "post_avg": 4, "wait": 2}
_PITCHES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_BLOCK_FRAMES = 128
_TINY = 1e-10

#: Per-frame descriptors that get all statistics, and their units.
_SUMMARISED = (
    *(f"mfcc {i}" for i in range(NUM_MFCC)),  # dB, of the discrete cosine transform
    *(f"contrast {round(low)}-{round(high)} Hz" for low, high in pairwise(CONTRAST_EDGES)),  # dB
    "centroid",  # Hz
    "bandwidth",  # Hz
    "roll-off",  # Hz
    "flatness",  # 0 (a tone) to 1 (noise)
    "zero crossings",  # share of the samples
    "loudness",  # dB of full scale
    "onset strength",  # dB per frame, mean increase over mel bands
)
_STATISTICS = ("mean", "deviation", *(f"percentile {p}" for p in PERCENTILES))


@cache
def feature_names() -> tuple[str, ...]:
    """The D names, in the order of ``song_features``.

    ``mfcc`` in dB, ``mfcc delta`` and ``mfcc delta 2`` (deviations of their slope and curvature) in dB per frame,
    ``chroma`` relative to the strongest pitch class, ``contrast`` in dB, ``centroid``, ``bandwidth`` and ``roll-off``
    in Hz, ``flatness`` and ``zero crossings`` from 0 to 1, ``loudness`` in dB of full scale, ``onset strength`` in dB
    per frame, ``onset rate`` in onsets per second, ``tempo`` in beats per minute, ``tempogram`` as autocorrelation, up
    to 1: the strongest between two tempi, of all of them (``clarity``) and its deviation over the song (``change``).
    """
    names = [f"{name} {statistic}" for name in _SUMMARISED for statistic in _STATISTICS]
    names += [f"mfcc {delta} {i} deviation" for delta in ("delta", "delta 2") for i in range(NUM_MFCC)]
    names += [f"chroma {pitch} {statistic}" for pitch in _PITCHES for statistic in _STATISTICS[:2]]
    names += [f"tempogram {low}-{high} bpm" for low, high in pairwise(TEMPO_EDGES)]
    return *names, "tempogram clarity", "tempogram change", "tempo", "onset rate"


def feature_family(name: str) -> str:
    """The descriptor that a feature is a statistic of, without numbers and units: mfcc, chroma, tempogram, ..."""
    words = name.split()
    return " ".join(words[:2]) if words[0] in ("onset", "zero") else words[0]


@cache
def feature_digest() -> str:
    """Identifies this version of the features: 8 hexadecimal digits."""
    return hashlib.sha256("\n".join([str(VERSION), *feature_names()]).encode()).hexdigest()[:8]


def song_features(waveform: np.ndarray, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Features (D, float32, all finite) of a song: ``waveform`` is N float32 in [-1, 1].

    Raises MusictagError for an empty or non-finite waveform, and for a rate other than 16 kHz, at which the features
    would have another meaning.
    """
    import librosa

    if sample_rate != SAMPLE_RATE:
        raise MusictagError(f"features are defined at {SAMPLE_RATE} Hz, not {sample_rate}; resample the audio first")
    if waveform.ndim != 1 or not len(waveform) or not np.isfinite(waveform).all():
        raise MusictagError(f"features need one or more finite mono samples, not an array of shape {waveform.shape}")
    mel, chroma, contrast, shape = _frame_descriptors(waveform.astype(np.float32, copy=False))
    log_mel = librosa.power_to_db(mel.T)
    mfcc = librosa.feature.mfcc(S=log_mel, n_mfcc=NUM_MFCC)
    strength = _onset_strength(log_mel)
    summarised = np.vstack([mfcc, contrast.T, shape.T, strength])
    slopes = np.vstack([librosa.feature.delta(mfcc, order=order, mode="nearest") for order in (1, 2)])
    parts = (
        _statistics(summarised).T.ravel(),
        slopes.std(axis=1),
        np.stack([chroma.mean(axis=0), chroma.std(axis=0)], axis=1).ravel(),
        _rhythm(strength, len(waveform) / SAMPLE_RATE),
    )
    return np.concatenate(parts).astype(np.float32)


def _frame_descriptors(waveform: np.ndarray) -> tuple[np.ndarray, ...]:
    """All descriptors of the STFT of T frames, centred on every 512th sample, with silence beyond the song's ends: mel
    (power) T×96, chroma T×12, contrast T×6; centroid, bandwidth, roll-off, flatness, zero crossings, loudness T×6."""
    import librosa

    num_frames = 1 + len(waveform) // HOP_SAMPLES
    padded = np.pad(waveform, N_FFT // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP_SAMPLES]
    hann = librosa.filters.get_window("hann", N_FFT).astype(np.float32)
    blocks = []
    for first in range(0, num_frames, _BLOCK_FRAMES):
        frames = windows[first : first + _BLOCK_FRAMES]
        spectrum = scipy.fft.rfft(frames * hann, axis=1, overwrite_x=True)
        power = spectrum.real**2 + spectrum.imag**2
        bands = power @ _filters()
        shape = np.column_stack([*_spectral_shape(power), _zero_crossings(frames), _loudness(frames)])
        # relative to the strongest pitch class of each frame, which is 1; all are 0 in silence
        chroma = librosa.util.normalize(bands[:, NUM_MELS:], axis=1)
        blocks.append((bands[:, :NUM_MELS], chroma, _contrast(power), shape))
    return tuple(np.concatenate(parts) for parts in zip(*blocks, strict=True))


@cache
def _frequencies() -> np.ndarray:
    return np.fft.rfftfreq(N_FFT, 1 / SAMPLE_RATE).astype(np.float32)


@cache
def _filters() -> np.ndarray:
    """Mel and chroma filters side by side, F×108: a single matrix product with the power serves both."""
    import librosa

    mel = librosa.filters.mel(sr=SAMPLE_RATE, n_fft=N_FFT, n_mels=NUM_MELS)
    chroma = librosa.filters.chroma(sr=SAMPLE_RATE, n_fft=N_FFT, n_chroma=NUM_CHROMA, tuning=0.0)
    return np.ascontiguousarray(np.vstack([mel, chroma]).T, dtype=np.float32)


def _spectral_shape(power: np.ndarray) -> tuple[np.ndarray, ...]:
    """Centroid, bandwidth, roll-off (Hz) and flatness of each frame; for silence 0, 0, 0 and 1."""
    frequencies = _frequencies()
    magnitude = np.sqrt(power)
    total = magnitude.sum(axis=1)
    share = magnitude / np.maximum(total, _TINY)[:, None]
    centroid = share @ frequencies
    distance = frequencies - centroid[:, None]
    bandwidth = np.sqrt(np.einsum("tf,tf->t", share, np.square(distance, out=distance)))
    below = np.cumsum(share, axis=1, out=share)
    rolloff = frequencies[np.argmax(below >= ROLLOFF * below[:, -1:], axis=1)]
    audible = np.maximum(power, _TINY)
    flatness = np.exp(np.log(audible).mean(axis=1)) / audible.mean(axis=1)
    return centroid, bandwidth, rolloff, flatness


def _contrast(power: np.ndarray) -> np.ndarray:
    """How far the peaks of each band are above its valleys: T×6, in dB of magnitude."""
    columns = []
    for first, last, count in _contrast_bands():
        ordered = np.sort(power[:, first:last], axis=1)
        valley, peak = np.sqrt(ordered[:, :count]).mean(axis=1), np.sqrt(ordered[:, -count:]).mean(axis=1)
        columns.append(10 * np.log10(np.maximum(peak, _TINY) / np.maximum(valley, _TINY)))
    return np.stack(columns, axis=1)


@cache
def _contrast_bands() -> list[tuple[int, int, int]]:
    """First bin, bin after the last, and the number of peaks and of valleys; adjacent bands share a bin."""
    edges = np.searchsorted(_frequencies(), CONTRAST_EDGES)
    return [(a, b, max(1, round(CONTRAST_SHARE * (b - a)))) for a, b in pairwise(edges)]


def _zero_crossings(frames: np.ndarray) -> np.ndarray:
    return np.count_nonzero(np.diff(np.signbit(frames), axis=1), axis=1) / N_FFT


def _loudness(frames: np.ndarray) -> np.ndarray:
    """Root mean square of each frame in dB of full scale."""
    mean_square = np.einsum("tn,tn->t", frames, frames) / N_FFT
    return 10 * np.log10(np.maximum(mean_square, 10 ** (QUIETEST_DB / 10)))


def _onset_strength(log_mel: np.ndarray) -> np.ndarray:
    """The mean increase of the bands from one frame to the next, T."""
    import librosa

    if log_mel.shape[1] < 2:
        return np.zeros(log_mel.shape[1])
    return librosa.onset.onset_strength(S=log_mel, sr=SAMPLE_RATE, hop_length=HOP_SAMPLES, n_fft=N_FFT)


def _statistics(values: np.ndarray) -> np.ndarray:
    """Mean, deviation and percentiles of each row: 5×rows."""
    return np.vstack([values.mean(axis=1), values.std(axis=1), np.percentile(values, PERCENTILES, axis=1)])


def _rhythm(strength: np.ndarray, seconds: float) -> np.ndarray:
    """Tempogram, tempo and onset rate from the onset strength (T)."""
    import librosa

    padded = np.pad(strength, (0, max(0, TEMPOGRAM_FRAMES - len(strength))))
    windows = np.lib.stride_tricks.sliding_window_view(padded, TEMPOGRAM_FRAMES)[::TEMPOGRAM_HOP]
    windows = (windows - windows.mean(axis=1, keepdims=True)) * np.hanning(TEMPOGRAM_FRAMES)
    spectra = np.abs(scipy.fft.rfft(windows, 2 * TEMPOGRAM_FRAMES, axis=1)) ** 2
    correlation = scipy.fft.irfft(spectra, axis=1)[:, :TEMPOGRAM_FRAMES]
    correlation /= np.maximum(correlation[:, :1], _TINY)
    tempogram = correlation.mean(axis=0)
    tempi = 60 * SAMPLE_RATE / HOP_SAMPLES / np.arange(1, TEMPOGRAM_FRAMES)  # for lags from 1 up
    strongest = [tempogram[1:][(tempi >= low) & (tempi < high)].max() for low, high in pairwise(TEMPO_EDGES)]
    tempo = librosa.feature.tempo(sr=SAMPLE_RATE, hop_length=HOP_SAMPLES, tg=np.maximum(tempogram, 0)[:, None])
    onsets = librosa.onset.onset_detect(
        onset_envelope=strength, sr=SAMPLE_RATE, hop_length=HOP_SAMPLES, **_ONSET_FRAMES, delta=0.07
    )
    change = correlation[:, 1:].std(axis=0).mean()
    return np.array([*strongest, max(strongest), change, tempo[0], len(onsets) / seconds])
