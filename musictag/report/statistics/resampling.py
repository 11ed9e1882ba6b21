"""Bootstrap resamples of a study's test songs: the same for every run, so that runs can be compared in pairs.

Legend: S songs, K tags, R resamples, D columns.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import chain

import numpy as np

from musictag.common.errors import MusictagError
from musictag.evaluation.bootstrap import centred_interval, mean_of_known, song_resamples
from musictag.evaluation.metrics import METRICS, Metric
from musictag.evaluation.weighting import ScoredSongs
from musictag.experiment.results.files import Predictions
from musictag.report.study import Run, Study


class Draws(dict[str, dict[str, np.ndarray]]):
    """Resampled macro scores by name of the run folder and by metric: R float64 each.

    ``resamples`` and ``seed`` define the draws, ``songs`` is the number of songs. ``by_tag[run][metric]`` are the
    scores per tag, for per-tag metrics: R×K float32, NaN where a tag has no score (in that resample).
    """

    def __init__(self, songs: int, resamples: int, seed: int) -> None:
        super().__init__()
        self.songs = songs
        self.resamples = resamples
        self.seed = seed
        self.by_tag: dict[str, dict[str, np.ndarray]] = {}


def resampled(study: Study, resamples: int = 1000, seed: int = 0) -> Draws:
    """Draw the test songs with replacement and score every run on every draw.

    A resample's macro score is the mean over the tags that can be scored in it; without any it is taken to be the mean
    of the others. All scores are shifted so that their mean is the score of the original songs, like the intervals of a
    single run and for the same reason (see ``musictag.evaluation.bootstrap.centred_interval``). One block of draws is
    in memory at a time, whatever the number of songs; a run with 1,000 songs and 50 tags takes a quarter of a second.

    Raises MusictagError for fewer than 100 resamples, and if the runs do not have the same songs, tags and targets.
    """
    if resamples < 100:
        raise MusictagError(f"{resamples} resamples are too few for an interval; use at least 100, such as 1000")
    reference = study.runs[0].predictions
    draws = Draws(len(reference.song_ids), resamples, seed)
    for run in study.runs:
        metrics = [METRICS[key] for key in study.metrics]
        draws.by_tag[run.folder.name] = {}
        draws[run.folder.name] = {}
        for metric, (once, again) in _scored(aligned(run, study.runs[0]), metrics, resamples, seed).items():
            value = metric.macro(once)[0]
            draws[run.folder.name][metric.key] = np.nan_to_num(_centred(metric.macro(again), value), nan=value)
            if metric.per_tag:
                draws.by_tag[run.folder.name][metric.key] = _centred(again, once).astype(np.float32)
    return draws


def aligned(run: Run, reference: Run) -> Predictions:
    """The predictions of ``run``, with songs and tags in the order of ``reference``.

    Raises MusictagError if songs, tags or targets differ.
    """
    own, other = run.predictions, reference.predictions
    for meaning, mine, theirs in (("songs", own.song_ids, other.song_ids), ("tags", own.tags, other.tags)):
        if sorted(mine.tolist()) != sorted(theirs.tolist()):
            raise MusictagError(
                f"{run.folder} and {reference.folder} have different test {meaning} and cannot be compared"
            )
    songs, tags = _places(own.song_ids, other.song_ids), _places(own.tags, other.tags)
    scores, targets = own.scores[np.ix_(songs, tags)], own.targets[np.ix_(songs, tags)]
    if not np.array_equal(targets, other.targets, equal_nan=True) or not np.array_equal(own.kinds[tags], other.kinds):
        raise MusictagError(
            f"{run.folder} and {reference.folder} have different targets for the same songs and cannot be compared"
        )
    return Predictions(other.song_ids, other.tags, other.kinds, scores, targets)


def weighted_sums(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Sums of ``values`` (S×D) over the songs under the draws of ``resampled`` with this seed: R×D float64."""
    values = np.ascontiguousarray(values, dtype=np.float64)
    blocks = song_resamples(len(values), resamples, seed)
    return np.concatenate([weights.T.astype(np.float64) @ values for weights in blocks])


def interval(value: float, resampled_values: np.ndarray, confidence: float) -> tuple[float, float]:
    """Central ``confidence`` interval of the known resampled values (R), shifted so that their mean is ``value``.

    (value, value) if none is known. Unlike scores, differences are not clipped.
    """
    low, high = centred_interval(value, resampled_values, confidence, (-np.inf, np.inf))
    return (value, value) if low is None else (low, high)


def seeds_of(runs: Sequence[Run], draws: Draws, metric: str) -> np.ndarray:
    """The scores of n runs, as measured and in each resample: (1 + R)×n, as ``inference.estimate`` expects."""
    return np.stack([np.append(run.value(metric), draws[run.folder.name][metric]) for run in runs], axis=1)


def tag_scores(run: Run, draws: Draws, metric: str, names: Sequence[str], columns: Sequence[int]) -> np.ndarray:
    """The scores of the tags ``names`` (K), which have these ``columns``, as measured and in each resample: (1 + R)×K,
    NaN where undefined."""
    measured = {tag["name"]: tag[metric] for tag in run.metrics["test"]["tags"]}
    once = np.array([[measured[name] for name in names]], dtype=np.float64)
    return np.concatenate([once, draws.by_tag[run.folder.name][metric][:, columns]])


def same_seeds(one: Collection[int], other: Collection[int]) -> tuple[list[int], list[int], bool]:
    """The seeds of two systems to compare, and whether they are paired.

    They are paired if the systems share two seeds, or one if either has no more; then only shared seeds are compared.
    Ensembles share none with single runs, and are compared with the mean of all.
    Otherwise all seeds are, shared ones first.
    """
    common = set(one) & set(other)
    paired = len(common) >= min(2, len(one), len(other))
    kept = [sorted(common) + ([] if paired else sorted(set(seeds) - common)) for seeds in (one, other)]
    return kept[0], kept[1], paired


def _scored(
    predictions: Predictions, metrics: Sequence[Metric], resamples: int, seed: int
) -> dict[Metric, tuple[np.ndarray, np.ndarray]]:
    """``Metric.values`` of each metric: for the original songs, and in each resample."""
    songs = ScoredSongs(predictions.scores, predictions.targets, predictions.kinds)
    drawn = song_resamples(len(predictions.scores), resamples, seed)
    weighted = chain([songs.once()], map(songs.under, drawn))
    once, *blocks = ([metric.values(block) for metric in metrics] for block in weighted)
    return {metric: (once[i], np.concatenate([block[i] for block in blocks])) for i, metric in enumerate(metrics)}


def _centred(again: np.ndarray, once: np.ndarray) -> np.ndarray:
    """``again`` (R, or R×K) shifted so that the mean of the known resamples is ``once``."""
    return again - mean_of_known(again, axis=0) + once


def _places(own: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    order = np.argsort(own)
    return order[np.searchsorted(own, wanted, sorter=order)]
