"""Whether audio is of the kind that a tagger has been judged on: its sound compared with that of validation songs.

A network scores anything, silence and speech as well. Here a song is described by five numbers about how its spectrum
moves, whatever its level and its balance of high and low, and is unfamiliar if these are farther from the validation
songs than nearly all of them are (a Mahalanobis distance). No trained part is involved, so that its blind spots do not
matter.

Legend: N samples, S songs, T frames, F bands, D = 5 statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

#: Fewer validation songs cannot tell what is familiar.
MIN_SONGS = 50
#: The share of the validation songs that counts as unfamiliar.
UNFAMILIAR = 0.02
#: Statistics are taken from segments of this length, so that those of a long song compare with those of an excerpt.
SEGMENT_SECONDS = 10.0
_FRAME_SECONDS = 0.064
_BANDS, _LOWEST_HZ = 20, 60.0
#: Nothing is distinguished below this: of a segment relative to full scale, of a band relative to the segment.
_FLOOR = 1e-6
_STATISTICS = 5
_FOLDS = 5
_TOO_LARGE = 1e9


def sound(audio: np.ndarray, sample_rate: float) -> np.ndarray:
    """Mono int16 samples (N) -> statistics of each segment (segments×D).

    How much the level of a band varies, how much of that is change from one frame to the next (noise: most of it), how
    far the strongest bin of a band is above the others (a tone: far), how much the whole level varies, and how much the
    centre of the spectrum moves (speech: both of these a lot).
    """
    size = round(SEGMENT_SECONDS * sample_rate)
    starts = range(0, max(len(audio) - size // 2, 1), size)
    return np.stack([_statistics(audio[first : first + size], sample_rate) for first in starts])


def _statistics(segment: np.ndarray, sample_rate: float) -> np.ndarray:
    size = round(_FRAME_SECONDS * sample_rate)
    samples = np.pad(segment.astype(np.float32) / 32768, (0, max(0, 2 * size - len(segment))))
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[:: size // 2]
    power_TN = np.square(np.abs(np.fft.rfft(frames * np.hanning(size).astype(np.float32))))
    edges = np.geomspace(_LOWEST_HZ, sample_rate / 2, _BANDS + 1) * size / sample_rate
    edges = np.maximum(edges.astype(int), np.arange(1, _BANDS + 2))  # every band has a bin of its own
    sums_TF, peaks_TF = (part.reduceat(power_TN[:, : edges[-1]], edges[:-1], axis=1) for part in (np.add, np.maximum))
    whole_T = sums_TF.sum(axis=1)
    floor = max(float(whole_T.mean()), size**2 * _FLOOR) * _FLOOR
    levels_TF = _decibels(np.maximum(sums_TF, floor))
    spread = levels_TF.std(axis=0)
    change = np.abs(np.diff(levels_TF, axis=0)).mean(axis=0) / (spread + 1)
    peak = _decibels((peaks_TF + floor) * np.diff(edges) / (sums_TF + floor))
    centre_T = (sums_TF + floor / _BANDS) @ np.arange(_BANDS) / (whole_T + floor)
    statistics = (
        np.log(spread.mean() + 1),
        -np.log1p(-min(change.mean(), 0.98)),
        np.log(peak.mean() + 0.1),
        np.log(_decibels(whole_T + floor).std() + 1),
        np.log(centre_T.std() + 0.1),
    )  # logarithms, so that they are about normally distributed over songs
    return np.array(statistics, dtype=np.float64)


def _decibels(power: np.ndarray) -> np.ndarray:
    return 10 * np.log10(power)


def fit_familiarity(sounds: Sequence[np.ndarray]) -> dict[str, Any] | None:
    """What is familiar, as plain numbers for ``strangeness``, from the ``sound`` of S validation songs.

    The limit is a quantile of the distances of songs from others (5-fold cross-validation). None for fewer than
    MIN_SONGS.
    """
    if len(sounds) < MIN_SONGS:
        return None
    fold = np.arange(len(sounds)) % _FOLDS
    distances = np.empty(len(sounds))
    for held_out in range(_FOLDS):
        fitted = _fit([song for song, of in zip(sounds, fold, strict=True) if of != held_out])
        for song in np.flatnonzero(fold == held_out):
            distances[song] = _distance(sounds[song], *fitted)
    mean, spread = _fit(sounds)
    limit = float(np.quantile(distances, 1 - UNFAMILIAR))
    return {"mean": mean.tolist(), "spread": spread.tolist(), "limit": limit}


def _fit(sounds: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D) and a root (D×D) of the inverse covariance; a little is added to this, for songs that are all alike."""
    segments = np.concatenate(sounds)
    covariance = np.cov(segments, rowvar=False) + 1e-4 * np.eye(_STATISTICS)
    return segments.mean(axis=0), np.linalg.cholesky(np.linalg.inv(covariance))


def _distance(song: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> float:
    """The median over the segments: a song is not unfamiliar for its silent end."""
    return float(np.median(np.linalg.norm((song - mean) @ spread, axis=1)))


def strangeness(familiarity: dict[str, Any], audio: np.ndarray, sample_rate: float) -> float:
    """The distance of a song, mono int16 (N), from the validation songs over the limit: above 1 it is unfamiliar."""
    distance = _distance(sound(audio, sample_rate), np.array(familiarity["mean"]), np.array(familiarity["spread"]))
    return distance / familiarity["limit"]


def check_familiarity(content: Any) -> None:
    """Raise ValueError unless ``content``, from an untrusted file, is what ``fit_familiarity`` returns."""
    if content is None:
        return
    if not isinstance(content, dict) or set(content) != {"mean", "spread", "limit"}:
        raise ValueError("what it says of familiar sounds is damaged")
    numbers = [np.array(content[key], dtype=object) for key in ("mean", "spread", "limit")]
    if [values.shape for values in numbers] != [(_STATISTICS,), (_STATISTICS, _STATISTICS), ()]:
        raise ValueError("what it says of familiar sounds has other sizes than those of this version")
    if not all(type(value) in (int, float) and abs(value) < _TOO_LARGE for values in numbers for value in values.flat):
        raise ValueError("what it says of familiar sounds is not made of numbers")
    if not content["limit"] > 0:
        raise ValueError("its limit of familiar sounds is not above 0")
