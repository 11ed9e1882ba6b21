"""The paper's figure, drawn again from its table 1, with what three sizes say about the lines and where they cross.

`python -m musictag.report.paper FOLDER` writes ``scaling.png``, ``scaling.svg``, ``scores.csv``, ``fits.csv`` and
``crossings.csv`` there. Legend: M sizes, N sizes of a grid.
"""

from __future__ import annotations

import sys
from itertools import combinations, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D

from musictag.common.plotting import BLUE, FAINT, GREEN, ORANGE, new_figure
from musictag.report.content import Table
from musictag.report.figures.figures import draw_curve, mark_crossings, size_axis
from musictag.report.figures.panels import WIDTH, Look, metric_title, save, style
from musictag.report.statistics.crossing import Crossing, find_crossing
from musictag.report.statistics.fits import fit_trend, trend_at
from musictag.report.statistics.inference import Estimate, margins
from musictag.report.statistics.scaling import Curve
from musictag.report.tables.formats import write_csv


class Row(NamedTuple):
    system: str
    songs: int
    roc_auc: float
    pr_auc: float
    rmse: float


#: Taken from a public digest of the paper, whose author says that he checked the paper; not from the paper itself.
STATUS = "digest"
#: Table 1 of Pons et al. 2018: 1.2 million songs, 139 tags, means of three runs. The trees have one row.
TABLE_1 = (
    Row("waveform", 100_000, 0.9027, 0.5276, 0.1554),
    Row("waveform", 500_000, 0.9116, 0.5642, 0.1504),
    Row("waveform", 1_000_000, 0.9250, 0.6120, 0.1465),
    Row("spectrogram", 100_000, 0.9014, 0.5267, 0.1542),
    Row("spectrogram", 500_000, 0.9161, 0.5818, 0.1493),
    Row("spectrogram", 1_000_000, 0.9217, 0.5992, 0.1473),
    Row("trees", 1_200_000, 0.9161, 0.5427, 0.1569),
)
SIZES = np.array([100_000, 500_000, 1_000_000])
#: Not RMSE: with 100,000 songs it is below the trees', which contradicts the paper's text. Nothing rests on it.
METRICS = ("roc_auc", "pr_auc")
#: What becomes of numbers of songs so that the fit is a line over their binary logarithm, and the unit of its slope.
FITS = {
    "log-linear": (lambda songs: songs.astype(np.float64), "doubling"),
    "linear": (lambda songs: np.exp2(songs / 100_000), "100,000 songs"),
}
_LOOKS = {
    "waveform": Look(to_rgb(ORANGE), "o"),
    "spectrogram": Look(to_rgb(BLUE), "s"),
    "trees": Look(to_rgb(GREEN), "^"),
}
_GRID = np.geomspace(SIZES[0], SIZES[-1], 161)


def scores_of(system: str, metric: str) -> np.ndarray:
    """The scores at the three sizes (M); of the trees three times their only one."""
    found = [getattr(row, metric) for row in TABLE_1 if row.system == system]
    return np.array(found * (len(SIZES) // len(found)))


def fit_line(scores: np.ndarray, fit: str) -> tuple[tuple[float, float], Estimate, Estimate]:
    """The least-squares line through scores (M): intercept and slope; the slope, and the values on a grid (N), with the
    variances that follow from the scatter around the line, which has one degree of freedom (Student's t)."""
    at_sizes, at_grid = (FITS[fit][0](songs) for songs in (SIZES, _GRID))
    line = fit_trend(at_sizes, scores[None], np.ones(len(SIZES)))
    freedom = len(SIZES) - 2
    variance = ((scores - trend_at(line, at_sizes)[0]) ** 2).sum() / freedom
    off, away = (np.log2(at) - np.log2(at_sizes).mean() for at in (at_sizes, at_grid))
    spread = (off**2).sum()
    slope = Estimate(line[0, 1], np.zeros(()), variance / spread, freedom)
    values = Estimate(
        trend_at(line, at_grid)[0], np.zeros(len(_GRID)), variance * (1 / len(SIZES) + away**2 / spread), freedom
    )
    return tuple(line[0].tolist()), slope, values


def crossings(metric: str, fit: str) -> list[Crossing]:
    """Where the lines of two systems cross within the sizes. The intervals are Fieller's."""
    scores = {system: scores_of(system, metric) for system in _LOOKS}
    return [
        find_crossing(one, other, metric, fit, _GRID, fit_line(scores[one] - scores[other], fit)[2], 0.95)
        for one, other in combinations(scores, 2)
    ]


def tables() -> dict[str, Table]:
    """By name of the CSV file; every row has the status of the numbers that it rests on."""
    fits, crossed = [], []
    for metric, fit in product(METRICS, FITS):
        waveform, spectrogram = scores_of("waveform", metric), scores_of("spectrogram", metric)
        lines = {"waveform": waveform, "spectrogram": spectrogram, "waveform minus spectrogram": waveform - spectrogram}
        for name, scores in lines.items():
            (intercept, value), slope, _ = fit_line(scores, fit)
            ends = [value - float(margins(slope)), value + float(margins(slope))]
            fits.append([name, metric, fit, intercept, value, *ends, FITS[fit][1], STATUS])
        for found in crossings(metric, fit):
            ends = [found.size, found.low, found.high]
            crossed.append([found.system, found.other, metric, fit, *ends, found.text, STATUS])
    columns = ["metric", "fit"], ["low", "high"]
    return {
        "scores": Table("Table 1", [*Row._fields, "status"], [[*row, STATUS] for row in TABLE_1]),
        "fits": Table("Lines", ["of", *columns[0], "intercept", "slope", *columns[1], "per", "status"], fits),
        "crossings": Table(
            "Crossings", ["system", "other", *columns[0], "size", *columns[1], "text", "status"], crossed
        ),
    }


def draw(path: Path) -> None:
    """A panel per metric in the style of a report's scaling figure, as PNG and SVG."""
    with style():
        figure = new_figure(WIDTH, 8.4)
        panels = figure.subplots(len(METRICS), 1, sharex=True)
        for axes, metric in zip(panels, METRICS, strict=True):
            axes.set_title(metric_title(metric))
            axes.grid(True, axis="y")
            for system, look in _LOOKS.items():
                sizes, means = zip(
                    *((row.songs, getattr(row, metric)) for row in TABLE_1 if row.system == system), strict=True
                )
                trend = band = None
                if len(sizes) > 1:
                    trend, _, at = fit_line(np.array(means), "log-linear")
                    band = (_GRID.tolist(), (at.value - margins(at)).tolist(), (at.value + margins(at)).tolist())
                    axes.plot(
                        _GRID, fit_line(np.array(means), "linear")[2].value, "--", color=look.colour, linewidth=1.3
                    )
                else:
                    axes.axhline(means[0], color=look.colour, linewidth=1.2, linestyle=":")
                draw_curve(axes, Curve(system, metric, [], [*sizes], [*means], trend, band, *[None] * 4, []), look)
            values = [getattr(row, metric) for row in TABLE_1]
            room = (max(values) - min(values)) / 2
            axes.set_ylim(min(values) - room, max(values) + room)
            mark_crossings(axes, crossings(metric, "log-linear"), _LOOKS, (SIZES[0], SIZES[-1]))
        size_axis(panels[-1], SIZES.tolist())
        panels[-1].set_xlim(right=1.3 * SIZES[-1])
        panels[-1].set_xlabel(
            "training songs (trees: 1.2 million, the only size that they have)\n"
            f"Pons et al. 2018, table 1; status of all numbers: {STATUS}\n"
            "intervals from three sizes each: one degree of freedom"
        )
        entries = [Line2D([], [], color=look.colour, marker=look.marker, label=name) for name, look in _LOOKS.items()]
        entries.append(Line2D([], [], color=FAINT, label="line over doublings, 95% band"))
        entries.append(Line2D([], [], color=FAINT, linestyle="--", label="line over songs"))
        figure.legend(handles=entries, loc="outside upper left", ncols=2, frameon=False)
        save(figure, path)


def write(folder: Path) -> None:
    """All files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables().items():
        write_csv(table, folder / f"{name}.csv")
    draw(folder / "scaling.png")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
