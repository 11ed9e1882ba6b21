"""Song-level evaluation: from patches to song scores, from song scores to macro metrics with bootstrap intervals.

The paper averages the predictions for a song's patches and reports ROC-AUC, PR-AUC and RMSE (sections 2 and 4).
Legend: B patches, S songs, K tags, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from musictag.common.errors import MusictagError
from musictag.evaluation.bootstrap import Ranking, centred_interval, song_resamples
from musictag.evaluation.metrics import METRICS
from musictag.evaluation.weighting import ScoredSongs


def roc_auc(scores: np.ndarray, targets: np.ndarray) -> float:
    """Exact area under the ROC curve of one tag; a tie between a positive and a negative song counts one half.

    ``scores`` and ``targets`` are (S); targets are 0, 1 or NaN (unknown, ignored). NaN without songs of both classes.
    """
    return _score_once(scores, targets)[0]


def average_precision(scores: np.ndarray, targets: np.ndarray) -> float:
    """PR-AUC of one tag: the step-wise sum of precision over recall, not interpolated; tied songs enter together.

    ``scores`` and ``targets`` as in ``roc_auc``. NaN without songs of both classes.
    """
    return _score_once(scores, targets)[1]


def _score_once(scores: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    ranking = Ranking(np.asarray(scores), np.asarray(targets))
    area, precision, _ = ranking.score(np.ones((len(scores), 1), dtype=np.int32))
    return float(area[0]), float(precision[0])


def song_metrics(
    scores: np.ndarray,
    targets: np.ndarray,
    names: Sequence[str],
    kinds: Sequence[str],
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """All results of one evaluation, as plain numbers ready for JSON.

    ``scores`` and ``targets`` are S×K; a target is NaN where unknown, 0 or 1 for a ``"classification"`` tag and a
    number in [0, 1] for a ``"regression"`` tag. The result contains

    - each of ``METRICS`` under its key: ``{"value", "low", "high"}``, the metric (usually the mean over the tags that
      can be scored) and its interval from ``resamples`` bootstrap resamples of the songs (all tags together, see
      ``centred_interval``); low and high are None with ``resamples=0``. The whole entry is None if nothing can be
      scored.
    - ``tags_scored``, ``regression_tags_scored``; ``tags_left_out``: names of the classification tags without songs of
      both classes and of the regression tags without any known target. No mean includes them.
    - ``chance_pr_auc``: mean prevalence of the scored tags, the PR-AUC of random scores (their ROC-AUC is 0.5).
    - ``songs``, ``resamples``, ``confidence``, and ``tags``: one entry per tag with ``name, kind, known, positives,
      prevalence, rmse_of_mean`` and each per-tag metric, None where it does not apply. ``rmse_of_mean`` is the error
      of always predicting the mean of these targets.

    A resample's mean skips the tags that happen to lack a class in it. The same inputs and ``seed`` give the same
    output. Raises MusictagError for scores that are not finite and for settings out of range, ValueError for wrong
    shapes, kinds and targets.
    """
    _check(scores, targets, names, kinds, resamples, confidence)
    songs = ScoredSongs(scores, targets, kinds)
    once = {key: metric.values(songs.once()) for key, metric in METRICS.items()}
    of_tags = {key: once[key][0] for key, metric in METRICS.items() if metric.per_tag}
    value_of = {key: float(metric.macro(once[key])[0]) for key, metric in METRICS.items()}
    known = songs.known.sum(axis=0).tolist()
    measured = [k for k in np.flatnonzero(~songs.is_class).tolist() if known[k]]
    tags = []
    for k, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        positives = int((targets[:, k] == 1).sum()) if songs.is_class[k] else None
        own = {key: None if np.isnan(values[k]) else float(values[k]) for key, values in of_tags.items()}
        tags.append(
            {
                "name": name,
                "kind": kind,
                "known": known[k],
                "positives": positives,
                "prevalence": positives / known[k] if positives is not None and known[k] else None,
                **own,
                "rmse_of_mean": float(np.nanstd(targets[:, k].astype(np.float64))) if k in measured else None,
            }
        )
    return {
        **_with_intervals(songs, value_of, resamples, confidence, seed),
        "tags_scored": len(songs.rankings),
        "tags_left_out": [name for k, name in enumerate(names) if k not in songs.rankings and k not in measured],
        "regression_tags_scored": len(measured),
        "chance_pr_auc": float(np.mean([tags[k]["prevalence"] for k in songs.rankings])) if songs.rankings else None,
        "songs": len(scores),
        "resamples": resamples,
        "confidence": confidence,
        "tags": tags,
    }


def paired_changes(
    before: np.ndarray,
    after: np.ndarray,
    targets: np.ndarray,
    kinds: Sequence[str],
    keys: Sequence[str],
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> dict[str, dict[str, float | None]]:
    """How each metric of ``keys`` changes from the scores ``before`` to those ``after`` on the same songs, S×K each:
    ``{"value", "low", "high"}``. Both are scored on the same resamples; the rest as for ``song_metrics``."""
    both = [ScoredSongs(scores, targets, kinds) for scores in (before, after)]
    changes: dict[str, list[np.ndarray]] = {key: [] for key in keys}
    for weights in chain([np.ones((len(targets), 1))], song_resamples(len(targets), resamples, seed)):
        weighted = [songs.under(weights) for songs in both]
        for key, metric in ((key, METRICS[key]) for key in keys):
            old, new = (metric.macro(metric.values(one)) for one in weighted)
            changes[key].append(new - old)
    found = {}
    for key in keys:
        value, *again = np.concatenate(changes[key])
        low, high = centred_interval(value, np.array(again), confidence, (-np.inf, np.inf))
        found[key] = {"value": float(value), "low": low, "high": high}
    return found


def _with_intervals(
    songs: ScoredSongs, value_of: Mapping[str, float], resamples: int, confidence: float, seed: int
) -> dict[str, dict[str, float | None] | None]:
    """Each metric with its interval, None where its value is NaN."""
    metrics = [METRICS[key] for key, value in value_of.items() if not np.isnan(value)]
    blocks = [
        [metric.macro(metric.values(weighted)) for metric in metrics]
        for weighted in map(songs.under, song_resamples(len(songs.scores), resamples, seed))
    ]
    found: dict[str, dict[str, float | None] | None] = dict.fromkeys(value_of)
    for place, metric in enumerate(metrics):
        again = np.concatenate([block[place] for block in blocks]) if blocks else np.empty(0)
        value = value_of[metric.key]
        low, high = centred_interval(value, again, confidence, metric.bounds)
        found[metric.key] = {"value": value, "low": low, "high": high}
    return found


def _check(
    scores: np.ndarray,
    targets: np.ndarray,
    names: Sequence[str],
    kinds: Sequence[str],
    resamples: int,
    confidence: float,
) -> None:
    if scores.ndim != 2 or scores.shape != targets.shape or scores.shape[1] != len(names) or len(names) != len(kinds):
        raise ValueError(
            f"scores {scores.shape} and targets {targets.shape} must be S×K for {len(names)} names, {len(kinds)} kinds"
        )
    if not len(scores):
        raise MusictagError("there are no songs to evaluate: the split is empty")
    if unknown := set(kinds) - {"classification", "regression"}:
        raise ValueError(f"a tag is 'classification' or 'regression', not {', '.join(map(repr, sorted(unknown)))}")
    if resamples < 0 or not 0 < confidence < 1:
        raise MusictagError(f"{resamples=} must not be negative and {confidence=} must lie between 0 and 1")
    broken = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if len(broken):
        raise MusictagError(
            f"{len(broken)} of {len(scores)} songs have NaN or infinite scores (first: row {broken[0]}): "
            "the model has diverged; train it again with a smaller learning rate"
        )
    for k, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        column = targets[:, k]
        if kind == "classification" and not ((column == 0) | (column == 1) | np.isnan(column)).all():
            raise ValueError(f"the targets of the classification tag {name!r} must be 0, 1 or NaN")
