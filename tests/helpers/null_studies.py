"""Error rates of a report's tests and coverage of its intervals, from many simulated studies of noise.

    python -m tests.helpers.null_studies

prints the table of docs/report.md. Two systems have the same true score, or two lines that cross at 1,000 songs. A
measurement is the true score plus a deviation of the seed, one of the songs that all seeds share, and one of the songs
in this run alone. All tests and intervals are those of the report.

Legend: S songs, R resamples.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from unittest.mock import patch

import numpy as np

from musictag.evaluation.bootstrap import song_resamples
from musictag.experiment.results.files import Predictions
from musictag.report.statistics import scaling
from musictag.report.statistics.inference import estimate, p_values
from musictag.report.statistics.paired_tests import TagGain, tag_gains
from musictag.report.statistics.resampling import Draws
from musictag.report.statistics.scaling import crossings
from musictag.report.study import Run, Study

SIZES = (250, 500, 1000, 2000)
SEEDS = (2, 3, 5, 10)
SONGS, RESAMPLES = 200, 200
#: Standard deviations of ROC-AUC: between seeds, and of the difference of two runs due to the songs. Mixed: the medians
#: of the pairs in a study of small networks on songbook (250 to 2,000 songs, two or three seeds).
NOISES = {"seeds": (0.007, 0.0), "songs": (0.0, 0.0043), "both": (0.007, 0.0043)}
LINES = {"one": (0.64, 0.05), "other": (0.70, 0.02)}  # at the smallest size, and per doubling: equal at 1,000
CROSSING = 1000


def empty_study(seeds: int, sizes: Sequence[int] = SIZES, left_out: Collection[tuple[int, int]] = ()) -> Study:
    """Two systems, without scores. ``left_out``: seeds and sizes that neither has."""
    runs = []
    for system, size, seed in product(LINES, sizes, range(seeds)):
        if (seed, size) not in left_out:
            metrics = {
                "config": {"names": {"model": system, "baseline": None}, "baseline": {"trees": 1}, "seed": seed},
                "family": "waveform",
                "locations": [],
                "seed": seed,
                "data": "noise",
                "songs": {"train": size, "test": SONGS},
                "test": {"roc_auc": {"value": 0.0}, "pr_auc": None, "rmse": None},
            }
            runs.append(Run(Path(f"{system}-{size}-{seed}"), metrics))
    return Study("noise", runs)


def drawn(
    rng: np.random.Generator, cells: np.ndarray, noise: str, shared: bool = False, truth: np.ndarray | float = 0.75
) -> np.ndarray:
    """(1 + R)×runs: the scores of runs of a system, at a size, with a seed (``cells``: one row each), as measured and
    in each resample of the songs.

    ``shared``: a seed has one deviation for all sizes, not one per size. Of the variance over the songs, a quarter is
    specific to the system at all sizes, a quarter to the system at each size, and half to the run; the part common to
    all runs cancels in differences.
    """
    system, size, seed = cells
    of_seed, of_songs = NOISES[noise]
    deviations = rng.standard_normal((2, 1 if shared else len(SIZES), seed.max() + 1))
    deviations = np.broadcast_to(deviations, (2, len(SIZES), seed.max() + 1))[system, size, seed]
    songs = 0.5 * (rng.standard_normal((2, len(SIZES), SONGS)) + rng.standard_normal((2, 1, SONGS)))[system, size]
    songs += np.sqrt(0.5) * rng.standard_normal((len(seed), SONGS)) + rng.standard_normal(SONGS)
    songs *= np.sqrt(SONGS / 2) * of_songs
    weights = np.concatenate([np.ones((SONGS, 1)), _weights()], axis=1) / SONGS
    return truth + of_seed * deviations + (songs @ weights).T


@cache
def _weights() -> np.ndarray:
    return np.concatenate(list(song_resamples(SONGS, RESAMPLES, 0)), axis=1)


def false_positives(seeds: int, noise: str, count: int = 4000, other_seeds: int | None = None) -> np.ndarray:
    """The p values of ``count`` comparisons of two systems that do not differ.

    ``other_seeds``: the number of seeds of the second system, all different from the first's; by default both share
    theirs.
    """
    rng = np.random.default_rng([seeds, list(NOISES).index(noise), other_seeds or 0])
    both = np.repeat([0, 1], [seeds, other_seeds or seeds])
    cells = np.stack([both, 0 * both, np.concatenate([np.arange(seeds), np.arange(other_seeds or seeds)])])
    found = []
    for _ in range(count // 100):
        scores = np.stack([drawn(rng, cells, noise) for _ in range(100)], axis=-1)
        found.append(p_values(estimate(scores[:, :seeds], scores[:, seeds:])))
    return np.concatenate(found)


def coverage(
    seeds: int, noise: str, shared: bool, count: int = 1500, left_out: Collection[tuple[int, int]] = ()
) -> float:
    """The share of ``count`` studies in which the interval of the crossing contains the true one.

    Of a hundred studies, two or three have a curve that seems not to be one: they are left out."""
    study = empty_study(seeds, left_out=left_out)
    rng = np.random.default_rng([seeds, list(NOISES).index(noise), shared])
    cells = np.array([(list(LINES).index(r.system), SIZES.index(r.train_songs), r.seed) for r in study.runs]).T
    starts, slopes = np.array(list(LINES.values())).T
    truth = starts[cells[0]] + slopes[cells[0]] * cells[1]
    held = given = 0
    # lines need neither the power law nor a fine grid of sizes
    with patch.object(scaling, "FITS", ("trend",)), patch.object(scaling, "_GRID", 16):
        for _ in range(count):
            draws = Draws(SONGS, RESAMPLES, 0)
            for run, scores in zip(study.runs, drawn(rng, cells, noise, shared, truth).T, strict=True):
                run.metrics["test"]["roc_auc"]["value"] = float(scores[0])
                draws[run.folder.name] = {"roc_auc": scores[1:]}
            for found in crossings(study, draws, "roc_auc"):
                given += 1
                held += any((low or 0.0) <= CROSSING <= (high or np.inf) for low, high in found.undecided)
    return held / given


def null_tags(seeds: int, tags: int, count: int) -> Iterator[list[TagGain]]:
    """The gains of ``count`` studies of two sizes in which no tag gains and no system is better."""
    study = empty_study(seeds, SIZES[:2])
    names = np.array([f"tag {k}" for k in range(tags)])
    kinds, scores = np.array(["classification"] * tags), np.zeros((SONGS, tags), dtype=np.float32)
    for run in study.runs:
        run.predictions = Predictions(np.arange(SONGS), names, kinds, scores, scores)
        run.metrics["validation"] = None
    rng = np.random.default_rng(seeds)
    of_seed, of_songs = NOISES["both"]
    for _ in range(count):
        draws = Draws(SONGS, 100, 0)
        for run in study.runs:
            values = 0.75 + np.hypot(of_seed, of_songs) * rng.standard_normal(tags)
            about = [{"name": name, "kind": "classification", "prevalence": 0.1} for name in names]
            run.metrics["test"]["tags"] = [tag | {"roc_auc": float(v)} for tag, v in zip(about, values, strict=True)]
            again = values + of_songs * rng.standard_normal((100, tags))
            draws.by_tag[run.folder.name] = {"roc_auc": again.astype(np.float32)}
        yield tag_gains(study, draws)


if __name__ == "__main__":
    print("| seeds | noise of | p < 0.05 | p < 0.001 | interval | crossing, seeds shared | not shared |")
    print("|---:|---|---:|---:|---:|---:|---:|")
    for seeds, noise in product(SEEDS, NOISES):
        p = false_positives(seeds, noise)
        errs = np.mean(p < 0.05)
        cells = [f"{errs:.1%}", f"{np.mean(p < 0.001):.2%}", f"{1 - errs:.1%}"]
        cells += [f"{coverage(seeds, noise, shared):.1%}" for shared in (True, False)]
        print(f"| {seeds} | {noise} | {' | '.join(cells)} |", flush=True)
