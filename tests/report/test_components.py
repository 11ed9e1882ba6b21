"""Variance components of known designs, and how many seeds a difference needs."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from musictag.report.statistics.components import how_many_seeds, split_variance, variance_components
from tests.helpers.curve_studies import TRUTHS, Noise, curve_study, measure

SUBSET, TRAINING = "subset of the training songs", "initialisation and order"


def simulated(design: list[tuple[int, int, int]], subset: float, training: float, count: int) -> np.ndarray:
    """``count`` draws of scores (rows) of runs (cell, subset, training) with these standard deviations."""
    rng = np.random.default_rng(0)
    cells, subsets, trainings = np.array(design).T
    of_subset, of_training = rng.standard_normal((2, count, 10, 10))
    return (
        cells
        + subset * of_subset[:, cells, subsets]
        + training * of_training[:, cells, trainings]
        + 1e-9 * rng.standard_normal((count, len(design)))
    )


@pytest.mark.parametrize(
    "design",
    [
        [(c, s, 3 * s + t) for c, s, t in product(range(3), range(3), range(2))],  # nested
        list(product(range(3), range(3), range(3))),  # crossed
        [(c, s, t) for c in range(4) for s, t in ((0, 0), (1, 0), (2, 0), (0, 1), (0, 2), (1, 3))],  # unbalanced
    ],
    ids=["nested", "crossed", "unbalanced"],
)
def test_the_parts_are_unbiased_in_any_design(design: list[tuple[int, int, int]]) -> None:
    cells, subsets, trainings = zip(*design, strict=True)
    found = [
        split_variance(row, cells, subsets, trainings)[0] for row in simulated(design, 0.03, 0.015, 600)
    ]  # fmt: skip
    assert np.mean([parts[SUBSET] for parts in found]) == pytest.approx(0.03**2, rel=0.12)
    assert np.mean([parts[TRAINING] for parts in found]) == pytest.approx(0.015**2, rel=0.2)


def test_balanced_nested_runs_give_the_analysis_of_variance() -> None:
    values = np.random.default_rng(1).standard_normal((4, 3)) + np.arange(4)[:, None]
    subsets, trainings = np.repeat(np.arange(4), 3), np.arange(12)
    parts, negative = split_variance(values.ravel(), [0] * 12, subsets.tolist(), trainings.tolist())
    within = values.var(axis=1, ddof=1).mean()
    between = values.mean(axis=1).var(ddof=1)
    assert parts == pytest.approx({SUBSET: between - within / 3, TRAINING: within})
    assert negative == []


def test_what_varied_together_stays_together() -> None:
    parts, _ = split_variance(np.array([0.1, 0.3, 0.2, 0.4]), [0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 0, 1])
    assert parts == pytest.approx({f"{SUBSET}, {TRAINING} (varied together)": 0.02})
    alone, _ = split_variance(np.array([0.1, 0.3]), [0, 0], [0, 1], [5, 5])
    assert alone == pytest.approx({SUBSET: 0.02})
    alone, _ = split_variance(np.array([0.1, 0.3]), [0, 0], [5, 5], [0, 1])
    assert alone == pytest.approx({TRAINING: 0.02})


def test_negative_estimates_become_nothing_and_are_named() -> None:
    """Means of the subsets that are more alike than their own runs would have them."""
    values = np.array([0.1, 0.9, 0.2, 0.8])
    parts, negative = split_variance(values, [0] * 4, [0, 0, 1, 1], [0, 1, 2, 3])
    assert negative == [SUBSET]
    assert parts[SUBSET] == 0
    assert parts[TRAINING] == pytest.approx(values.var(ddof=1))


def test_what_is_specific_to_a_run_on_the_songs_is_not_the_part_of_the_songs() -> None:
    study = curve_study(6, (250, 500, 1000, 2000))
    noise = Noise(run=0.01, seed=0.0, songs=0.0, specific=0.01)  # half of it is shared by the runs of a size
    draws = measure(study, TRUTHS["constant"], np.random.default_rng(0), noise)
    (found,) = variance_components(study, draws, "roc_auc")
    assert found.songs == pytest.approx(0.01**2, rel=0.3)


def test_that_many_seeds_do_find_the_difference() -> None:
    seeds = how_many_seeds(0.006**2, 0.0)
    rng = np.random.default_rng(2)

    def power(seeds: int) -> float:
        return np.mean(ttest_1samp(0.005 + 0.006 * rng.standard_normal((20_000, seeds)), 0, axis=1).pvalue < 0.05)

    assert power(seeds) >= 0.79
    assert power(seeds - 1) < 0.8
    assert how_many_seeds(0.006**2, 0.0, difference=0.05) == 3
    assert how_many_seeds(0.006**2, 0.003**2) is None  # the songs alone are too few
    assert how_many_seeds(0.006**2, 0.001**2) > seeds
    assert how_many_seeds(0.0, 0.0) == 2
    assert how_many_seeds(1e-12, (0.005 / 3) ** 2) == 2  # that of the songs is known, however few seeds there are
