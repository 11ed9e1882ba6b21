"""Fits of scores against sizes: known parameters are found again, and bounds are kept."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import least_squares

from musictag.report.statistics.fits import EXPONENTS, explained, fit_power_law, fit_trend, power_law_at, trend_at

SIZES = np.array([250, 500, 1000, 2000, 4000])
ONE_EACH = np.ones(5)


def test_the_trend_finds_a_line_over_the_doublings() -> None:
    exact = 0.3 + 0.04 * np.log2(SIZES)
    rows = np.stack([exact, 2 * exact])
    found = fit_trend(SIZES, rows, ONE_EACH)
    np.testing.assert_allclose(found, [[0.3, 0.04], [0.6, 0.08]], atol=1e-12)
    np.testing.assert_allclose(trend_at(found, SIZES), rows, atol=1e-12)


def test_the_trend_is_the_line_of_the_runs() -> None:
    """Means weighted by how many runs they stand for give the least-squares line over the runs themselves."""
    rng = np.random.default_rng(0)
    counts = np.array([3, 1, 2, 5, 1])
    runs = [0.6 + 0.02 * place + 0.05 * rng.standard_normal(count) for place, count in enumerate(counts)]
    slope, intercept = np.polyfit(np.repeat(np.log2(SIZES), counts), np.concatenate(runs), 1)
    found = fit_trend(SIZES, np.array([[of_size.mean() for of_size in runs]]), counts.astype(float))
    np.testing.assert_allclose(found, [[intercept, slope]], atol=1e-10)


@pytest.mark.parametrize("exponent", [0.1, 0.35, 1.0, 2.5])
@pytest.mark.parametrize("asymptote", [0.75, 0.92])
def test_the_power_law_finds_known_parameters(asymptote: float, exponent: float) -> None:
    factor = 0.2 * 250**exponent  # at the smallest size the score is 0.2 below the asymptote
    exact = asymptote - factor * SIZES**-exponent
    found = fit_power_law(SIZES, exact[None], ONE_EACH, 1.0)
    np.testing.assert_allclose(power_law_at(found, SIZES), exact[None], atol=1e-6)
    np.testing.assert_allclose(found[0], [asymptote, factor, exponent], rtol=2e-3)


def test_many_resamples_are_fitted_as_each_alone() -> None:
    rows = 0.9 - 2.0 * SIZES**-0.4 + 0.01 * np.random.default_rng(1).standard_normal((6, 5))
    weights = np.array([3.0, 3, 1, 3, 2])
    together = fit_power_law(SIZES, rows, weights, 1.0)
    alone = np.concatenate([fit_power_law(SIZES, row[None], weights, 1.0) for row in rows])
    np.testing.assert_allclose(together, alone, rtol=1e-9)


def test_the_power_law_is_the_best_within_its_bounds() -> None:
    """No other curve that is allowed comes nearer: compared with a thorough search by a general method."""
    rows = 0.85 - 1.5 * SIZES**-0.5 + 0.02 * np.random.default_rng(2).standard_normal((4, 5))
    found = fit_power_law(SIZES, rows, ONE_EACH, 1.0)
    errors = ((power_law_at(found, SIZES) - rows) ** 2).sum(axis=1)
    for row, error in zip(rows, errors, strict=True):

        def residuals(p: np.ndarray, row: np.ndarray = row) -> np.ndarray:
            return p[0] - p[1] * (SIZES / 250) ** -p[2] - row

        limits = ([-np.inf, 0, EXPONENTS[0]], [1.0, np.inf, EXPONENTS[1]])
        others = [least_squares(residuals, [0.8, 0.2, start], bounds=limits).cost * 2 for start in (0.05, 0.3, 1, 3)]
        assert error <= min(others) + 1e-7


def test_a_score_never_passes_its_bound() -> None:
    """A straight line up to 0.98 asks for an asymptote above 1 and a convex rise for none at all."""
    rising = np.array([[0.5, 0.62, 0.74, 0.86, 0.98], [0.5, 0.51, 0.54, 0.63, 0.9]])
    found = fit_power_law(SIZES, rising, ONE_EACH, 1.0)
    assert (found[:, 0] <= 1.0).all()
    assert (found[:, 1] >= 0).all()
    assert ((found[:, 2] >= EXPONENTS[0] * 0.999) & (found[:, 2] <= EXPONENTS[1] * 1.001)).all()
    assert (power_law_at(found, np.array([1e9])) <= 1.0).all()
    assert found[0, 0] == pytest.approx(1.0)


def test_a_falling_score_has_no_power_law() -> None:
    found = fit_power_law(SIZES, np.array([[0.8, 0.78, 0.75, 0.7, 0.69]]), ONE_EACH, 1.0)
    assert found[0, 1] == 0
    assert found[0, 0] == pytest.approx(np.mean([0.8, 0.78, 0.75, 0.7, 0.69]))


def test_an_error_is_fitted_as_its_negative() -> None:
    errors = 0.05 + 3.0 * SIZES**-0.6
    ((asymptote, factor, exponent),) = fit_power_law(SIZES, -errors[None], ONE_EACH, 0.0)
    assert (-asymptote, factor, exponent) == pytest.approx((0.05, 3.0, 0.6), rel=5e-3)


def test_explained_variance() -> None:
    sizes, places = np.array([250, 500]), np.array([0, 0, 1, 1])
    points = np.array([0.5, 0.7, 0.8, 1.0])
    # around their mean 0.75: 0.0625 + 0.0025 + 0.0025 + 0.0625 = 0.13; around the fit 4 x 0.01
    assert explained(np.array([0.6, 0.9]), sizes, points, places) == pytest.approx(1 - 0.04 / 0.13)
    assert explained(np.array([0.6, 0.9]), sizes, np.full(4, 0.7), places) is None
    assert explained(np.array([0.6]), sizes[:1], points, np.zeros(4, dtype=int)) is None
