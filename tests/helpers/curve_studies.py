"""Coverage of a report's predictions and false alarms of its tests of shape, from simulated learning curves.

    python -m tests.helpers.curve_studies

prints the table of docs/report.md. A measurement is the true score plus a deviation of the run, which shrinks as songs
grow, a deviation of the seed that all of its sizes share, and one of the test songs, of which half is shared by all
sizes. All predictions are those of the report.

Legend: n seeds, R resamples, M sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

from musictag.report.statistics.forecast import Forecast, Forecasts
from musictag.report.statistics.resampling import Draws
from musictag.report.study import Study
from tests.helpers.null_studies import empty_study

SIZES = (125, 250, 500, 1000, 2000, 4000, 8000, 11500)
RESAMPLES = 200
#: True scores over the number of training songs.
TRUTHS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "constant": lambda n: np.full(len(n), 0.75),
    "log-linear": lambda n: 0.65 + 0.03 * np.log2(n / 125),
    "power law": lambda n: 0.9 - 0.25 * (n / 125) ** -0.4,
    "power law, level": lambda n: 0.85 - 0.15 * (n / 125) ** -1.0,
    "broken power law": lambda n: 0.95 - 0.3 * (n / 125) ** -0.1 * np.maximum(1, n / 1500) ** -0.3,
}


@dataclass(frozen=True)
class Noise:
    """Standard deviations: of a run with 125 songs, of a seed at all sizes, and of the songs, shared and specific."""

    run: float = 0.010
    seed: float = 0.004
    songs: float = 0.006
    specific: float = 0.002


def curve_study(seeds: int, sizes: tuple[int, ...] = SIZES) -> Study:
    """A study of one system without scores."""
    return Study("curves", [run for run in empty_study(seeds, sizes).runs if run.system == "one"])


def measure(study: Study, truth: Callable[[np.ndarray], np.ndarray], rng: np.random.Generator, noise: Noise) -> Draws:
    """Give every run of the ``study`` a score, and return those on resampled songs."""
    draws = Draws(200, RESAMPLES, 0)
    of_seed = noise.seed * rng.standard_normal(100)
    shared = noise.songs * rng.standard_normal(1 + RESAMPLES)
    specific = {size: noise.specific * rng.standard_normal(1 + RESAMPLES) for (size,) in study.conditions or [(0,)]}
    for run in study.runs:
        size = np.array([run.train_songs], dtype=float)
        value = truth(size)[0] + of_seed[run.seed] + noise.run * (size[0] / 125) ** -0.25 * rng.standard_normal()
        # as measured the songs deviate from all songs, as resampled from those measured
        of_songs = shared + specific[run.train_songs]
        of_songs[1:] += of_songs[0]
        of_songs = of_songs + noise.specific * np.append(0.0, rng.standard_normal(RESAMPLES))
        run.metrics["test"]["roc_auc"]["value"] = float(value + of_songs[0])
        draws[run.folder.name] = {"roc_auc": value + of_songs[1:]}
    return draws


USUAL = Noise()


def forecasts(seeds: int, sizes: tuple[int, ...], truth: str, count: int, noise: Noise = USUAL) -> list[Forecast]:
    """What the report says of ``count`` curves with this true law."""
    study = curve_study(seeds, sizes)
    rng = np.random.default_rng([seeds, len(sizes), list(TRUTHS).index(truth)])
    return [Forecasts(study, measure(study, TRUTHS[truth], rng, noise), "roc_auc").found[0] for _ in range(count)]


def coverage(found: list[Forecast]) -> float:
    """The share of hidden scores within their bands."""
    rows = [row.hit for forecast in found for row in forecast.held_out]
    return float(np.mean(rows))


def gain_coverage(found: list[Forecast], truth: str, largest: int) -> float:
    """The share of curves whose interval of what twice the songs would bring contains what they do bring."""
    gain = float(np.diff(TRUTHS[truth](np.array([largest, 2 * largest], dtype=float)))[0])
    known = [forecast.doubling for forecast in found if forecast.doubling is not None]
    return float(np.mean([low <= gain <= high for _, low, high in known]))


def row(length: int, seeds: int) -> str:
    """A row of the table: each cell has the coverage of the hidden scores, and of the gain of the next doubling."""
    sizes = SIZES[:length] if length > 4 else SIZES[1:5]
    cells, widths, wrong = [], [], []
    for truth in TRUTHS:
        slow = length == 8 and truth == "broken power law"
        found = forecasts(seeds, sizes, truth, 40 if slow else 200)
        cells.append(f"{coverage(found):.0%}, {gain_coverage(found, truth, sizes[-1]):.0%}")
        widths.append(np.median([one.high - one.low for forecast in found for one in forecast.held_out]))
        wrong.append(np.mean([forecast.departure is not None for forecast in found]))
    cells += [f"{np.mean(widths[:4]):.3f}", f"{max(wrong):.1%}"]
    return f"| {length} | {seeds} | {' | '.join(cells)} |"


if __name__ == "__main__":
    print(f"| sizes | seeds | {' | '.join(TRUTHS)} | width of the band | said not to be a curve |")
    print("|---:|---:|" + "---:|" * (len(TRUTHS) + 2))
    for length, seeds in product((4, 6, 8), (1, 2, 3, 5)):
        print(row(length, seeds), flush=True)
