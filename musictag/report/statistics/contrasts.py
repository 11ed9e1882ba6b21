"""How much more one system gains with the number of songs than another, and what a setting changes for one system."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from musictag.report.statistics.inference import Estimate, estimate, holm, margins, p_values
from musictag.report.statistics.paired_tests import cell_estimate
from musictag.report.statistics.resampling import Draws, same_seeds
from musictag.report.statistics.scaling import Scores, is_scaling, scores_by_size
from musictag.report.study import Study
from musictag.report.wording import SIZE, setting


@dataclass(frozen=True)
class Contrast:
    """``of`` minus ``minus``: two systems, or two settings of the ``system``; with an empty ``minus`` only the first.

    ``p``: two-sided, for a true value of zero; ``p_holm``: after Holm's correction for all contrasts of the metric
    (None for a single system, which is no contrast).
    """

    system: str
    of: str
    minus: str
    metric: str
    value: float
    low: float
    high: float
    p: float
    p_holm: float | None
    seeds: int


def slopes(study: Study, draws: Draws, metric: str, confidence: float = 0.95) -> list[Contrast]:
    """The gain per doubling of each system that has a trend line, and the differences of all pairs, by seed where both
    have the same; empty if the study has no curves."""
    if not is_scaling(study):
        return []
    fitted = [fits for fits in scores_by_size(study, draws, metric) if fits.departure is None and fits.can("trend")]
    found = [_contrast("", fits.system, "", metric, estimate(_by_seed(fits)), confidence) for fits in fitted]
    differences = []
    for pair in combinations(fitted, 2):
        *seeds, _ = same_seeds(*(fits.seeds for fits in pair))
        one, other = (fits.of_seeds(own) for fits, own in zip(pair, seeds, strict=True))
        if one.can("trend") and other.can("trend"):
            difference = estimate(_by_seed(one), _by_seed(other))
            differences.append(_contrast("", one.system, other.system, metric, difference, confidence))
    return [*found, *_corrected(differences)]


def setting_changes(study: Study, draws: Draws, metric: str, confidence: float = 0.95) -> list[Contrast]:
    """For each system, every setting minus the study's last one that it has, with as many training songs.

    Empty if nothing varies but the number of songs.
    """
    found = []
    for system in study.systems if not is_scaling(study) else ():
        cells = {condition: runs for condition in study.conditions if (runs := study.cell(system, condition))}
        songs = {
            condition: condition[study.factors.index(SIZE)] if SIZE in study.factors else None for condition in cells
        }
        last = {songs[condition]: condition for condition in cells}
        for condition, runs in cells.items():
            if (reference := last[songs[condition]]) != condition:
                names = (setting(study.factors, one) for one in (condition, reference))
                changed, _ = cell_estimate(runs, cells[reference], draws, metric)
                found.append(_contrast(system, *names, metric, changed, confidence))
    return _corrected(found)


def _by_seed(fits: Scores) -> np.ndarray:
    """The slope of the trend by seed, as measured and in each resample: (1 + R)×n."""
    return np.diff(fits.at("trend", np.array([1.0, 2.0])), axis=2)[..., 0]


def _contrast(system: str, of: str, minus: str, metric: str, found: Estimate, confidence: float) -> Contrast:
    value, margin, p = float(found.value), float(margins(found, confidence)), float(p_values(found))
    return Contrast(system, of, minus, metric, value, value - margin, value + margin, p, None, found.freedom + 1)


def _corrected(found: list[Contrast]) -> list[Contrast]:
    return [replace(one, p_holm=p) for one, p in zip(found, holm([one.p for one in found]), strict=True)]
