"""What few seeds can tell: against textbook tests where there are such, else by how often it errs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from musictag.report.statistics.inference import (
    Estimate,
    benjamini_hochberg,
    estimate,
    few_seeds,
    holm,
    margins,
    moderated,
    p_values,
)


def same_songs(*seeds: float, resamples: int = 100) -> np.ndarray:
    """Scores of runs that the songs make no difference to: (1 + R)×n."""
    return np.tile(np.array(seeds), (1 + resamples, 1))


def noise(rng: np.random.Generator, seeds: int, studies: int, of_seed: float, of_songs: float) -> np.ndarray:
    """Scores of ``studies`` systems, (1 + R)×n×studies: half of the variance over the songs is common to the seeds."""
    resamples = 60
    scores = of_seed * rng.standard_normal((seeds, studies))
    common, own = np.sqrt(0.5) * of_songs * rng.standard_normal((2, 1 + resamples, 1, studies))
    own = np.sqrt(0.5) * of_songs * rng.standard_normal((1 + resamples, seeds, studies))
    return scores + np.concatenate([(common + own)[:1], (common + own)[:1] + (common + own)[1:]])


def test_without_noise_of_the_songs_it_is_the_paired_t_test() -> None:
    one, other = (0.71, 0.74, 0.70, 0.75), (0.70, 0.71, 0.69, 0.70)
    found = estimate(same_songs(*one), same_songs(*other))
    expected = stats.ttest_rel(one, other)
    assert float(found.value) == pytest.approx(np.mean(one) - np.mean(other))
    assert (float(found.songs), found.freedom) == (0.0, 3)
    assert float(p_values(found)) == pytest.approx(expected.pvalue, rel=1e-6)
    low, high = expected.confidence_interval(0.95)
    assert float(margins(found)) == pytest.approx((high - low) / 2, rel=1e-4)


def test_two_seeds_want_thirteen_standard_errors() -> None:
    found = estimate(same_songs(0.70, 0.72))
    assert float(margins(found)) == pytest.approx(12.706 * 0.01, rel=1e-3)
    assert "very large differences" in few_seeds(2)
    assert "about these trained models" in few_seeds(1)
    assert few_seeds(3) == ""


def test_one_seed_leaves_the_songs() -> None:
    again = np.random.default_rng(0).normal(0.7, 0.02, (2000, 1))
    found = estimate(np.concatenate([[[0.7]], again]))
    assert (found.freedom, float(found.seeds)) == (0, 0.0)
    assert float(margins(found)) == pytest.approx(1.96 * again.std(), rel=1e-3)


def test_a_difference_of_nothing_is_certain_to_be_none() -> None:
    found = estimate(same_songs(0.7, 0.8), same_songs(0.7, 0.8))
    assert (float(p_values(found)), float(margins(found))) == (pytest.approx(1.0), 0.0)


def test_songs_that_all_seeds_share_and_noise_of_single_runs_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    shared, own = rng.normal(0, 0.02, (4000, 1)), rng.normal(0, 0.03, (4000, 4))
    seeds = np.array([[0.6, 0.7, 0.8, 0.7]])
    found = estimate(np.concatenate([seeds, seeds + shared + own]))
    assert float(found.songs) == pytest.approx(0.02**2, rel=0.1)  # 0.03² / 4 is in the seeds' already
    assert float(found.seeds) == pytest.approx(np.var(seeds, ddof=1) / 4)


@pytest.mark.parametrize(
    ("freedom", "least", "most", "most_at_one_percent"),
    [(1, 2.6, 5.6, 1.5), (2, 4.0, 5.4, 1.25), (4, 4.7, 5.4, 1.2), (9, 4.9, 5.45, 1.15)],
)
def test_how_often_it_errs_whatever_part_of_the_noise_the_seeds_make(
    freedom: int, least: float, most: float, most_at_one_percent: float
) -> None:
    """Exactly: the seeds' variance over its distribution, the value over the normal one."""
    part = (np.arange(4000) + 0.5) / 4000
    for seeds in 10.0 ** np.arange(-2, 4.1, 0.25):
        seen = seeds * stats.chi2.ppf(part, freedom) / freedom
        of = Estimate(np.zeros_like(seen), np.ones_like(seen), seen, freedom)
        errs, errs_at_one = (
            100 * np.mean(2 * stats.norm.sf(margins(of, confidence) / np.sqrt(1 + seeds)))
            for confidence in (0.95, 0.99)
        )
        assert least < errs < most, seeds
        assert errs_at_one < most_at_one_percent, seeds


@pytest.mark.parametrize("songs", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("times", [1, 4])
def test_seeds_at_smaller_sizes_help_and_err_on_the_safe_side(times: int, songs: float) -> None:
    """Six sizes with three seeds and two with two, whose variance is ``times`` smaller in the end."""
    rng, tried = np.random.default_rng(0), 4000
    found = []
    for count, deviation in zip([3] * 6 + [2] * 2, np.geomspace(1, times**-0.5, 8), strict=True):
        runs = deviation * rng.standard_normal((tried, count))
        shifted = runs.mean(1) + np.sqrt(songs) * rng.standard_normal(tried)
        found.append(Estimate(shifted, np.full(tried, songs), runs.var(1, ddof=1) / count, count - 1))
    helped = moderated(found)
    for of in helped:
        assert np.mean(p_values(of) < 0.05) < 0.065
    assert [of.freedom for of in helped] == [2, 4, 6, 6, 6, 6, 5, 5]
    np.testing.assert_array_equal(helped[0].seeds, found[0].seeds)
    if not songs:  # two seeds alone want thirteen standard errors
        assert np.median(margins(helped[-1])) < 0.4 * np.median(margins(found[-1])) * times**0.5
    # a single seed has the variance of the others
    last = Estimate(np.zeros(tried), np.full(tried, songs), np.zeros(tried), 0)
    (*_, alone) = moderated([*found, last])
    assert alone.freedom == 4
    pooled = sum(of.freedom * (of.freedom + 1) * of.seeds for of in found) / 14
    np.testing.assert_allclose(alone.seeds, pooled)


@pytest.mark.parametrize("freedom", [1, 2, 9])
def test_p_falls_with_the_value_and_agrees_with_the_interval(freedom: int) -> None:
    values = np.geomspace(0.01, 1000, 300)
    for seeds in (0.0, 0.03, 0.5, 1.0):
        of = Estimate(values, np.full(300, 1 - seeds), np.full(300, seeds), freedom)
        p = p_values(of)
        assert (np.diff(p) <= 1e-12).all()
        at_margin = Estimate(margins(of), of.songs, of.seeds, freedom)
        np.testing.assert_allclose(p_values(at_margin), 0.05, rtol=1e-3)


@pytest.mark.parametrize(("of_seed", "of_songs"), [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
@pytest.mark.parametrize("seeds", [(3, 3), (3, 10), (10, 10)])
def test_p_is_even_where_nothing_differs(seeds: tuple[int, int], of_seed: float, of_songs: float) -> None:
    rng = np.random.default_rng([*seeds, int(of_seed), int(of_songs)])
    p = p_values(estimate(*(noise(rng, own, 2000, of_seed, of_songs) for own in seeds)))
    for level in (0.05, 0.2, 0.5, 0.8):
        assert np.mean(p < level) == pytest.approx(level, abs=0.035), level


def test_pairs_cancel_what_a_seed_has_in_common() -> None:
    one, other = np.array([0.6, 0.7, 0.8]), np.array([0.59, 0.68, 0.79])
    paired = estimate(same_songs(*one), same_songs(*other))
    apart = estimate(same_songs(*one), same_songs(*other[[1, 2, 0]]))
    assert float(p_values(paired)) < 0.06 < float(p_values(apart))


def test_more_seeds_on_one_side_narrow_the_mean_alone() -> None:
    """Scheffé: the variance is that of both means, the degrees of freedom those of the fewer seeds."""
    rng = np.random.default_rng(0)
    found = estimate(noise(rng, 3, 2000, 1.0, 0.0), noise(rng, 12, 2000, 2.0, 0.0))
    assert found.freedom == 2
    assert found.value.var() == pytest.approx(1 / 3 + 4 / 12, rel=0.08)
    assert found.seeds.mean() == pytest.approx(1 / 3 + 4 / 12, rel=0.08)
    other_way = estimate(same_songs(1.0, 2.0), same_songs(1.0, 3.0, 5.0))
    assert float(other_way.value) == -1.5
    assert float(other_way.seeds) == pytest.approx(
        estimate(same_songs(1.0, 3.0, 5.0), same_songs(1.0, 2.0)).seeds
    )  # fmt: skip


def test_unknown_resamples_are_left_out() -> None:
    rng = np.random.default_rng(0)
    scores = noise(rng, 3, 2, 1.0, 1.0)
    scores[5:20, :, 1] = np.nan
    found = estimate(scores)
    assert np.isfinite([found.songs, found.seeds, p_values(found), margins(found)]).all()


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    assert holm([0.01, 0.04], family=10) == pytest.approx([0.1, 0.36])


def test_benjamini_hochberg_is_that_of_scipy() -> None:
    p = np.random.default_rng(0).random(30) ** 2
    np.testing.assert_allclose(benjamini_hochberg(p), stats.false_discovery_control(p))
    p = np.append(p, np.nan)
    np.testing.assert_allclose(benjamini_hochberg(p)[:-1], stats.false_discovery_control(p[:-1]))
    assert np.isnan(benjamini_hochberg(p)[-1])
    # others that were not made count as if they were 1
    whole = stats.false_discovery_control(np.append(p[:-1], np.ones(70)))
    np.testing.assert_allclose(benjamini_hochberg(p, family=100)[:-1], whole[:30])
