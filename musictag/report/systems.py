"""Systems against each other: a paired test, the gain of every tag, and what of it is more than chance.

Legend: S songs, K tags, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from musictag.errors import MusictagError
from musictag.report.content import LOWER_IS_BETTER
from musictag.report.resampling import Draws, interval, over_seeds
from musictag.report.runs import Run, Study


@dataclass(frozen=True)
class Difference:
    """The score of ``system`` minus that of ``other`` under one condition, both means over ``seeds`` seeds.

    ``p``: two-sided, of a difference that is zero; ``p_holm``: the same after Holm's correction for all comparisons of
    this metric that were made. ``paired_seeds``: whether both have the same seeds, which are then drawn together.
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


@dataclass(frozen=True)
class Between:
    """The score of ``system`` minus that of ``other``, for one tag."""

    system: str
    other: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class TagGain:
    """One tag under one metric: what more data gives it, and what one system gives it over another.

    ``scores``: of each system under the study's first and last condition (means over seeds; None where it has no
    runs). ``size_gains``: last minus first with its interval, of each system that has both. ``system_gains``: under the
    last condition. A gain of RMSE is an improvement where it is negative.
    """

    tag: str
    kind: str
    metric: str
    prevalence: float | None
    scores: dict[str, tuple[float | None, float | None]]
    size_gains: dict[str, tuple[float, float, float]]
    system_gains: list[Between]


def paired_test(
    study: Study,
    draws: Draws,
    pairs: Sequence[tuple[str, str]] | None = None,
    metrics: Sequence[str] | None = None,
    confidence: float = 0.95,
) -> list[Difference]:
    """Every pair of systems under every condition that both have, for every metric of the study.

    Paired bootstrap: both are scored on the same draws of the songs. Seeds are drawn with replacement as well: in pairs
    if both systems have them (only those count then), else for each on its own. p counts the resamples on the far side
    of zero, (n + 1) / (R + 1) for either side, and doubles the smaller: it cannot be below 2 / (R + 1), so many
    comparisons need many resamples. One seed each leaves the test to the songs: it is then about these two models,
    not about the two architectures. A baseline without such a setting is compared under every condition.

    Raises MusictagError for a system that the study does not have.
    """
    names = [name for pair in pairs or () for name in pair]
    if unknown := sorted(set(names) - set(study.systems)):
        raise MusictagError(f"there is no system {', '.join(unknown)}; the study has {', '.join(study.systems)}")
    found = []
    for metric in study.metrics if metrics is None else metrics:
        tested = [
            _difference(study, draws, system, other, condition, metric, confidence)
            for system, other in (pairs if pairs is not None else combinations(study.systems, 2))
            for condition in common_conditions(study, system, other)
        ]
        found += [replace(one, p_holm=p) for one, p in zip(tested, holm([one.p for one in tested]), strict=True)]
    return found


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment: rejecting those below 0.05 errs anywhere in at most 5% of all such families."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * float(p_values[place])))
        adjusted[place] = largest
    return adjusted


def tag_gains(
    study: Study, draws: Draws, pairs: Sequence[tuple[str, str]] | None = None, confidence: float = 0.95
) -> list[TagGain]:
    """All tags under all their metrics, in the order of the data set; intervals are over the songs alone.

    ``pairs``: which systems are compared (default: ``leading_pairs``). Conditions are the study's first and last;
    without a second one there are no gains between sizes.
    """
    pairs = leading_pairs(study) if pairs is None else pairs
    first, last = _full_conditions(study)[0], _full_conditions(study)[-1]
    order = study.runs[0].predictions.tags.tolist()
    about = {tag["name"]: tag for tag in study.runs[0].metrics["test"]["tags"]}
    rows = []
    for metric in study.metrics:
        cells = {
            (system, condition): _tag_scores(matching(study, system, condition), draws, metric, order)
            for system in study.systems
            for condition in {first, last}
            if matching(study, system, condition)
        }
        for k, tag in enumerate(map(about.get, order)):
            if tag[metric] is None:
                continue
            at = {key: (once[k], again[:, k]) for key, (once, again) in cells.items()}

            def gain(one: tuple[float, np.ndarray], other: tuple[float, np.ndarray]) -> tuple[float, float, float]:
                value = float(one[0] - other[0])
                return (value, *interval(value, one[1] - other[1], confidence))

            rows.append(
                TagGain(
                    tag=tag["name"],
                    kind=tag["kind"],
                    metric=metric,
                    prevalence=tag["prevalence"],
                    scores={
                        system: tuple(float(at[system, c][0]) if (system, c) in at else None for c in (first, last))
                        for system in study.systems
                    },
                    size_gains={
                        system: gain(at[system, last], at[system, first])
                        for system in study.systems
                        if first != last and (system, first) in at and (system, last) in at
                        and matching(study, system, first) != matching(study, system, last)
                    },
                    system_gains=[
                        Between(one, other, *gain(at[one, last], at[other, last]))
                        for one, other in pairs
                        if (one, last) in at and (other, last) in at
                    ],
                )
            )  # fmt: skip
    return rows


def leading_pairs(study: Study) -> list[tuple[str, str]]:
    """The best system of each family against those of the others; the two best where there is one family.

    Best by the mean of the study's first metric under its last condition.
    """
    if not study.metrics:
        return []
    metric = study.metrics[0]
    sign = -1 if metric in LOWER_IS_BETTER else 1
    last = _full_conditions(study)[-1]

    def merit(system: str) -> float:
        runs = matching(study, system, last)
        return sign * float(np.mean([run.value(metric) for run in runs])) if runs else -np.inf

    ranked = sorted(study.systems, key=lambda system: -merit(system))
    best = {study.family(system): system for system in reversed(ranked)}
    leaders = [system for system in study.systems if best[study.family(system)] == system]
    return list(combinations(leaders if len(leaders) > 1 else ranked[:2], 2)) if len(study.systems) > 1 else []


def matching(study: Study, system: str, condition: tuple[Any, ...]) -> list[Run]:
    """The runs of the system under the condition; a baseline lacks such a setting (None), and then counts anywhere."""
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


def _full_conditions(study: Study) -> list[tuple[Any, ...]]:
    """The conditions that say something of every factor; where there is none, those there are."""
    return [condition for condition in study.conditions if None not in condition] or study.conditions


def _difference(
    study: Study, draws: Draws, system: str, other: str, condition: tuple[Any, ...], metric: str, confidence: float
) -> Difference:
    cells = [{run.seed: run for run in matching(study, name, condition)} for name in (system, other)]
    common = sorted(cells[0].keys() & cells[1].keys())
    rng = np.random.default_rng([draws.seed, 2])
    places = [rng.random((draws.resamples, len(study.seeds))) for _ in cells]
    if common:
        seeds, places = [common, common], [places[0], places[0]]
    else:
        seeds = [sorted(cell) for cell in cells]
    means, again = [], []
    for cell, own_seeds, own_places in zip(cells, seeds, places, strict=True):
        runs = [cell[seed] for seed in own_seeds]
        means.append(float(np.mean([run.value(metric) for run in runs])))
        again.append(over_seeds([draws[run.folder.name][metric] for run in runs], own_places))
    value = means[0] - means[1]
    differences = again[0] - again[1]
    differences = differences[~np.isnan(differences)]
    low, high = interval(value, differences, confidence)
    sides = int(np.count_nonzero(differences <= 0)), int(np.count_nonzero(differences >= 0))
    p = min(1.0, 2 * (min(sides) + 1) / (len(differences) + 1))
    return Difference(
        system, other, condition, metric, value, low, high, p, p, min(map(len, seeds)), bool(common)
    )  # fmt: skip


def _tag_scores(runs: Sequence[Run], draws: Draws, metric: str, tags: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Means over the runs of the score of each of the ``tags``: K, and R×K resampled; NaN where a tag has none."""
    once = []
    for run in runs:
        scores = {tag["name"]: tag[metric] for tag in run.metrics["test"]["tags"]}
        once.append([np.nan if scores[tag] is None else scores[tag] for tag in tags])
    return np.mean(once, axis=0), sum(draws.by_tag[run.folder.name][metric] for run in runs) / len(runs)
