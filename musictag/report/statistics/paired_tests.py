"""Comparisons of systems: a paired test, the gain of every tag, and which of these are more than chance.

Legend: S songs, K tags, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from musictag.common.errors import MusictagError
from musictag.evaluation.metrics import METRICS, monitors
from musictag.report.statistics.inference import (
    Estimate,
    benjamini_hochberg,
    estimate,
    holm,
    margins,
    moderated,
    p_values,
)
from musictag.report.statistics.resampling import Draws, same_seeds, seeds_of, tag_scores
from musictag.report.study import Run, Study
from musictag.report.wording import SIZE


@dataclass(frozen=True)
class Difference:
    """The score of ``system`` minus that of ``other`` under one condition, both means over ``seeds`` seeds.

    ``p``: two-sided, for a true difference of zero; ``p_holm``: the same after Holm's correction for all comparisons of
    this metric that were made, or could have been. ``seeds``: of the system with fewer. ``paired_seeds``: whether both
    have the same seeds; what a seed has in common under both then cancels. ``pooled``: there is one seed, but how much
    seeds vary is known from smaller sizes.
    """

    system: str
    other: str
    condition: tuple[Any, ...]
    metric: str
    value: float
    low: float
    high: float
    p: float
    p_holm: float
    seeds: int
    paired_seeds: bool
    pooled: bool = False


@dataclass(frozen=True)
class Change:
    """The difference between two mean scores over the seeds, for one tag.

    ``p_adjusted``: after Benjamini and Hochberg's correction for all actual or possible changes of this kind and
    metric.
    """

    value: float
    low: float
    high: float
    p: float
    p_adjusted: float = 1.0


@dataclass(frozen=True)
class TagGain:
    """One tag under one metric: its gains from more data, and from one system over another.

    ``scores``: for each system under the study's first and last condition (means over seeds; None if it has no runs).
    ``size_gains``: last minus first, for each system that has both. ``system_gains``: first minus second system of
    each pair, under the last condition. For RMSE, a negative gain is an improvement.
    """

    tag: str
    kind: str
    metric: str
    prevalence: float | None
    scores: dict[str, tuple[float | None, float | None]]
    size_gains: dict[str, Change]
    system_gains: dict[tuple[str, str], Change]


def paired_test(
    study: Study,
    draws: Draws,
    pairs: Sequence[tuple[str, str]] | None = None,
    metrics: Sequence[str] | None = None,
    confidence: float = 0.95,
    picked: bool = False,
) -> list[Difference]:
    """Compare every pair of systems under every condition that both have, for every metric of the study.

    Both are scored on the same songs; the variance has a part due to the songs and one due to the seeds, and p values
    and intervals account for the uncertainty of the latter: see ``musictag.report.statistics.inference``. If only the
    number of songs varies, that of the seeds is ``moderated``. With one seed throughout, the test covers only the
    songs: it is then about these trained models, not about their architectures. A baseline
    without the setting is compared under every condition. ``picked``: the pairs were selected by results; Holm's
    correction then counts all pairs of systems, each of which could have been selected.

    Raises MusictagError for a system that the study does not have.
    """
    names = [name for pair in pairs or () for name in pair]
    if unknown := sorted(set(names) - set(study.systems)):
        raise MusictagError(f"there is no system {', '.join(unknown)}; the study has {', '.join(study.systems)}")
    every = list(combinations(study.systems, 2))
    family = sum(len(common_conditions(study, *pair)) for pair in every) if picked else None
    found = []
    for metric in study.metrics if metrics is None else metrics:
        tested = [
            one
            for pair in (every if pairs is None else pairs)
            for one in _differences(study, draws, *pair, metric, confidence)
        ]
        adjusted = holm([one.p for one in tested], family)
        found += [replace(one, p_holm=p) for one, p in zip(tested, adjusted, strict=True)]
    return found


def tag_gains(
    study: Study, draws: Draws, pairs: Sequence[tuple[str, str]] | None = None, confidence: float = 0.95
) -> list[TagGain]:
    """The gains of all tags under all their metrics, in the order of the data set.

    ``pairs``: which systems are compared; by default ``leading_pairs``, and the correction then counts all pairs, each
    of which could have been selected. Conditions are the study's first and last; with only one there are no size gains.
    """
    family_pairs = len(pairs) if pairs is not None else len(list(combinations(study.systems, 2)))
    pairs = leading_pairs(study) if pairs is None else pairs
    conditions = study.full_conditions[0], study.full_conditions[-1]
    order = study.runs[0].predictions.tags.tolist()
    about = {tag["name"]: tag for tag in study.runs[0].metrics["test"]["tags"]}
    rows = []
    for metric in (key for key in study.metrics if METRICS[key].per_tag):
        tags = [k for k, name in enumerate(order) if about[name][metric] is not None]
        names = [order[k] for k in tags]
        cells = {
            (system, condition): {run.seed: tag_scores(run, draws, metric, names, tags) for run in runs}
            for system in study.systems
            for condition in dict.fromkeys(conditions)
            if (runs := matching(study, system, condition))
        }
        first, last = ({system: cells.get((system, condition)) for system in study.systems} for condition in conditions)
        sizes = {
            system: _changes(last[system], first[system], confidence)
            for system in study.systems
            if first[system] and last[system]
            and matching(study, system, conditions[0]) != matching(study, system, conditions[1])
        }  # fmt: skip
        systems = {
            pair: _changes(last[pair[0]], last[pair[1]], confidence)
            for pair in pairs
            if last[pair[0]] and last[pair[1]]
        }
        sizes, systems = _adjusted(sizes), _adjusted(systems, family_pairs * len(tags))
        for place, k in enumerate(tags):
            means = {
                system: tuple(
                    float(np.mean([of_seed[0, place] for of_seed in cell.values()])) if cell else None
                    for cell in (first[system], last[system])
                )
                for system in study.systems
            }
            rows.append(
                TagGain(
                    tag=order[k],
                    kind=about[order[k]]["kind"],
                    metric=metric,
                    prevalence=about[order[k]]["prevalence"],
                    scores=means,
                    size_gains={system: changes[place] for system, changes in sizes.items()},
                    system_gains={pair: changes[place] for pair, changes in systems.items()},
                )
            )
    return rows


def leading_pairs(study: Study) -> list[tuple[str, str]]:
    """The best system of each family against those of the others; the best two if there is only one family.

    They are ranked on the validation songs under the study's last condition, by the first metric that all have there
    (ROC-AUC in most studies), else by the loss, but not by the test scores, which then test the pairs. Systems without
    validation scores, such as ensembles, come last; between them the order of the systems decides.
    """
    if not study.metrics or len(study.systems) < 2:
        return []
    last = study.full_conditions[-1]
    cells = {system: matching(study, system, last) for system in study.systems}
    seen = {
        system: [run.metrics["validation"] for run in runs if run.metrics["validation"]]
        for system, runs in cells.items()
    }
    keys = [f"val_{metric}" for metric in (*study.metrics, "loss")]
    known = [key for key in keys if all(one.get(key) is not None for of in seen.values() for one in of)]

    def merit(system: str) -> float:
        if not seen[system] or not known:
            return -np.inf
        sign = 1 if monitors()[known[0]] == "max" else -1
        return sign * float(np.mean([one[known[0]] for one in seen[system]]))

    ranked = sorted(study.systems, key=lambda system: (-merit(system), not cells[system]))
    best = {study.family(system): system for system in reversed(ranked)}
    leaders = [system for system in study.systems if best[study.family(system)] == system]
    return list(combinations(leaders if len(leaders) > 1 else ranked[:2], 2))


def matching(study: Study, system: str, condition: tuple[Any, ...]) -> list[Run]:
    """The runs of the system under the condition; a baseline lacks the setting (None) and matches every condition."""
    return study.cell(system, condition) or [
        run
        for run in study.runs
        if run.system == system
        and all(own is None or own == wanted for own, wanted in zip(run.condition, condition, strict=True))
    ]


def common_conditions(study: Study, system: str, other: str) -> list[tuple[Any, ...]]:
    return [
        condition
        for condition in study.conditions
        if matching(study, system, condition) and matching(study, other, condition)
        and condition in {run.condition for run in study.runs if run.system in (system, other)}
    ]  # fmt: skip


def pair_estimate(
    study: Study, draws: Draws, system: str, other: str, condition: tuple[Any, ...], metric: str
) -> tuple[Estimate, bool]:
    """By how much ``system`` exceeds ``other`` under a condition, and whether the same seeds were compared."""
    return cell_estimate(*(matching(study, name, condition) for name in (system, other)), draws, metric)


def cell_estimate(one: Sequence[Run], other: Sequence[Run], draws: Draws, metric: str) -> tuple[Estimate, bool]:
    """By how much the runs of ``one`` exceed those of ``other``, and whether the same seeds were compared."""
    cells = [{run.seed: run for run in runs} for runs in (one, other)]
    *seeds, paired = same_seeds(*cells)
    scores = [
        seeds_of([cell[seed] for seed in own], draws, metric) for cell, own in zip(cells, seeds, strict=True)
    ]  # fmt: skip
    return estimate(*scores), paired


def _differences(
    study: Study, draws: Draws, system: str, other: str, metric: str, confidence: float
) -> Iterator[Difference]:
    """Under each condition that both have."""
    conditions = common_conditions(study, system, other)
    estimates = [pair_estimate(study, draws, system, other, condition, metric) for condition in conditions]
    found = [one for one, _ in estimates]
    for condition, of, (own, paired) in zip(
        conditions, moderated(found) if study.factors == [SIZE] else found, estimates, strict=True
    ):
        value, margin, p = float(of.value), float(margins(of, confidence)), float(p_values(of))
        yield Difference(
            system, other, condition, metric, value, value - margin, value + margin, p, p, own.freedom + 1, paired,
            pooled=not own.freedom and of.freedom > 0,
        )  # fmt: skip


def _changes(one: dict[int, np.ndarray], other: dict[int, np.ndarray], confidence: float) -> list[Change]:
    """Differences between the scores of ``one`` and ``other``, by tag."""
    *seeds, _ = same_seeds(one, other)
    found: Estimate = estimate(
        *(np.stack([cell[seed] for seed in own], axis=1) for cell, own in zip((one, other), seeds, strict=True))
    )
    margin = margins(found, confidence)
    columns = (found.value, found.value - margin, found.value + margin, p_values(found))
    return [Change(*row) for row in np.stack(columns, axis=1).tolist()]


def _adjusted(changes: dict[Any, list[Change]], family: int | None = None) -> dict[Any, list[Change]]:
    """The same changes, with p values corrected together."""
    p = benjamini_hochberg(np.array([[change.p for change in row] for row in changes.values()]), family)
    return {
        key: [replace(change, p_adjusted=float(own)) for change, own in zip(row, of_row, strict=True)]
        for (key, row), of_row in zip(changes.items(), p, strict=True)
    }
