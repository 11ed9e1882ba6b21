"""What test scores lose when the songs are changed as they are in the world: coded, noisy, faster, quieter, cut.

Legend: N samples.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.signal
from rich.table import Table

from musictag.common.files import atomic_write
from musictag.common.plotting import STYLE, new_figure, save_figure
from musictag.data.audio.decode import to_float, to_int16
from musictag.data.songbook.rendering.chain import CODECS, coded
from musictag.evaluation.metrics import Metric, headlines

_MP3_32 = CODECS.index(("libmp3lame", "mp3", 32_000))
_NOISE_DB, _SEMITONES, _TEMPO, _GAIN_DB, _BAND_HZ = 20.0, 1.0, 1.1, -20.0, 4000.0


def _noise(song: np.ndarray, rate: int) -> np.ndarray:
    audio = to_float(song)
    noise = np.random.default_rng(len(song)).standard_normal(len(song), dtype=np.float32)
    return to_int16(audio + noise * np.sqrt(np.mean(np.square(audio))) * 10 ** (-_NOISE_DB / 20))


def _pitch(song: np.ndarray, rate: int) -> np.ndarray:
    from librosa.effects import pitch_shift  # here: it takes a second

    return to_int16(pitch_shift(to_float(song), sr=rate, n_steps=_SEMITONES))


def _tempo(song: np.ndarray, rate: int) -> np.ndarray:
    from librosa.effects import time_stretch

    return to_int16(time_stretch(to_float(song), rate=_TEMPO))


def _gain(song: np.ndarray, rate: int) -> np.ndarray:
    return to_int16(to_float(song) * np.float32(10 ** (_GAIN_DB / 20)))


def _band(song: np.ndarray, rate: int) -> np.ndarray:
    filters = scipy.signal.butter(8, _BAND_HZ, fs=rate, output="sos")
    return to_int16(scipy.signal.sosfiltfilt(filters, to_float(song)).astype(np.float32))


def _crop(song: np.ndarray, rate: int) -> np.ndarray:
    return song[len(song) // 4 : len(song) // 4 + max(len(song) // 2, 1)]


#: Mono int16 samples (N) and their rate -> changed samples, by the name of the change.
CONDITIONS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "MP3 at 32 kbit per s": lambda song, rate: coded(song, _MP3_32, rate),
    "white noise at 20 dB": _noise,
    "a semitone higher": _pitch,
    "tempo 10% faster": _tempo,
    "20 dB quieter": _gain,
    "nothing above 4 kHz": _band,
    "the middle half": _crop,
}


#: The headline metrics of one condition: metric, its entry in metrics.json, and its change from the first condition.
_Row = list[tuple[Metric, dict[str, Any], float]]


def _rows(results: Mapping[str, Mapping[str, Any]]) -> dict[str, _Row]:
    clean = next(iter(results.values()))
    shown = [metric for metric in headlines() if clean[metric.key] is not None]
    return {
        condition: [
            (metric, test[metric.key], test[metric.key]["value"] - clean[metric.key]["value"]) for metric in shown
        ]
        for condition, test in results.items()
    }


def write_robustness(results: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Write robustness.csv and robustness.png: the headline metrics by condition, of which the first is no change."""
    import matplotlib

    rows = _rows(results)
    with atomic_write(folder / "robustness.csv", "w") as file:
        table = csv.writer(file)
        table.writerow(["condition", "metric", "value", "low", "high", "change"])
        for condition, cells in rows.items():
            table.writerows([condition, metric.key, *entry.values(), change] for metric, entry, change in cells)
    metrics = [metric for metric, _, _ in next(iter(rows.values()))]
    with matplotlib.rc_context(STYLE):
        figure = new_figure(2 + 2.4 * len(metrics), 0.7 + 0.3 * len(rows))
        axes = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for axis, metric, column in zip(axes, metrics, zip(*rows.values(), strict=True), strict=True):
            for place, (_, entry, _) in enumerate(column):
                if entry["low"] is not None:
                    axis.plot([entry["low"], entry["high"]], [place, place], color="#9bb8d3", linewidth=4)
                axis.plot(entry["value"], place, "o", color="#1f5a94" if place else "#333333", markersize=5)
            axis.axvline(column[0][1]["value"], color="#999999", linewidth=0.8, zorder=0)
            axis.set_title(metric.label + (" (lower is better)" if metric.better == "min" else ""))
            axis.grid(axis="x")
            axis.set_yticks(range(len(rows)), list(rows))
        axes[0].invert_yaxis()
        save_figure(figure, folder / "robustness.png")


def robustness_table(results: Mapping[str, Mapping[str, Any]]) -> Table:
    """For the terminal: each condition with the headline metrics and their changes."""
    rows = _rows(results)
    headings = (metric.label for metric, _, _ in next(iter(rows.values())))
    table = Table("songs", *headings, title="With changed songs (change)", title_justify="left")
    for place, (condition, cells) in enumerate(rows.items()):
        shown = (m.show(entry["value"]) + f" ({change:+.{m.decimals}f})" * bool(place) for m, entry, change in cells)
        table.add_row(condition, *shown)
    return table
