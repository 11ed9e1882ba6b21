"""Song-level evaluation: from patches to song scores, from song scores to macro metrics with bootstrap intervals.

The paper averages the predictions for a song's patches and reports ROC-AUC, PR-AUC and RMSE (sections 2 and 4).
Legend: B patches, S songs, K tags, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np

from musictag.common.errors import MusictagError
from musictag.evaluation.bootstrap import centred_interval, song_resamples
from musictag.evaluation.metrics import METRICS, Metric
from musictag.evaluation.weighting import ScoredSongs, Weighted


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
    - ``chance_pr_auc``: mean prevalence of the scored tags, the PR-AUC of equal scores for all songs (their ROC-AUC is
      0.5). Random scores exceed it on average, the more so the fewer songs there are.
    - ``songs``, ``resamples``, ``confidence``, and ``tags``: one entry per tag with ``name, kind, known, positives,
      prevalence, rmse_of_mean`` and each per-tag metric, None where it does not apply. ``rmse_of_mean`` is the error
      of always predicting the mean of these targets.

    A resample's mean skips the tags that happen to lack a class in it. The same inputs and ``seed`` give the same
    output. Raises MusictagError for scores that are not finite and for settings out of range, ValueError for wrong
    shapes, kinds and targets.
    """
    _check(scores, targets, names, kinds, resamples, confidence)
    songs = ScoredSongs(scores, targets, kinds)
    once = songs.once()
    of_tags = {key: metric.values(once)[0] for key, metric in METRICS.items() if metric.per_tag}
    drawn = map(songs.under, song_resamples(len(scores), resamples, seed))
    macros = _macros(METRICS.values(), chain([once], drawn))
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
        **{
            metric.key: _entry(values, confidence, metric.bounds)
            for metric, values in zip(METRICS.values(), macros, strict=True)
        },
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
    metrics, found = [METRICS[key] for key in keys], []
    for scores in (before, after):
        songs = ScoredSongs(scores, targets, kinds)
        drawn = map(songs.under, song_resamples(len(targets), resamples, seed))
        found.append(_macros(metrics, chain([songs.once()], drawn)))
    changes = zip(keys, found[1] - found[0], strict=True)
    return {key: _entry(change, confidence, (-np.inf, np.inf)) for key, change in changes}


def _macros(metrics: Iterable[Metric], weightings: Iterable[Weighted]) -> np.ndarray:
    """Each metric under each weighting of the songs: metrics × R."""
    blocks = ([metric.macro(metric.values(weighted)) for metric in metrics] for weighted in weightings)
    return np.concatenate([np.stack(block) for block in blocks], axis=1)


def _entry(values: np.ndarray, confidence: float, bounds: tuple[float, float]) -> dict[str, float | None] | None:
    """A metric with its interval from its value for the songs as they are, and then in each resample; None for NaN."""
    if np.isnan(values[0]):
        return None
    low, high = centred_interval(float(values[0]), values[1:], confidence, bounds)
    return {"value": float(values[0]), "low": low, "high": high}


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
