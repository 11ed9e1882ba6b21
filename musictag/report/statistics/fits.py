"""Fits of a score to the number of training songs: a straight line over the doublings, or a power law.

Both are fitted to many resamples at once. Legend: R resamples, M sizes, G trial exponents, N sizes of a grid.
"""

from __future__ import annotations

import numpy as np

#: Range of power-law exponents: below it the curve is a straight line over log size, above it a step.
EXPONENTS = (0.01, 5.0)
_TRIALS = 41
_ROUNDS = 5


def fit_trend(sizes: np.ndarray, means: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Least squares of ``means`` (R×M) on log2 of ``sizes`` (M): R × (intercept, slope per doubling).

    ``weights`` (M): the number of runs behind each mean; the line is then that of the runs. The paper draws linear fits
    over the training-set size itself.
    """
    return _weighted_line(np.log2(sizes.astype(np.float64))[None], means, weights)


def fit_power_law(sizes: np.ndarray, means: np.ndarray, weights: np.ndarray, bound: float) -> np.ndarray:
    """Least squares of ``c - a size^-b`` with a >= 0 and c <= ``bound``: R × (asymptote c, factor a, exponent b).

    A score cannot exceed its ``bound``; an error is fitted as its negative, whose bound is 0. For each exponent, the
    best c and a have a closed form, so only the exponent is searched: on a grid that is refined around its best point.
    a = 0 means that no curve that rises with size fits better than a constant.
    """
    scale = float(sizes.min())  # a size^-b = (a scale^-b) (size / scale)^-b, whose values have similar magnitudes
    relative = np.log(sizes / scale)
    low, high = (np.full(len(means), np.log(end)) for end in EXPONENTS)
    for _ in range(_ROUNDS):
        trials = low[:, None] + (high - low)[:, None] * np.linspace(0, 1, _TRIALS)
        decays = np.exp(-np.exp(trials)[..., None] * relative)  # R×G×M
        constants, factors, errors = _decay(decays, means[:, None], weights, bound)
        best = errors.argmin(axis=1)
        rows = np.arange(len(means))
        chosen = trials[rows, best], constants[rows, best], factors[rows, best]
        step = (high - low) / (_TRIALS - 1)
        low, high = np.maximum(low, chosen[0] - step), np.minimum(high, chosen[0] + step)
    exponents = np.exp(chosen[0])
    return np.stack([chosen[1], chosen[2] * scale**exponents, exponents], axis=1)


def trend_at(fitted: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Values of the lines (R×2) at ``sizes`` (N): R×N."""
    return fitted[:, :1] + fitted[:, 1:] * np.log2(sizes)


def power_law_at(fitted: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Values of the power laws (R×3) at ``sizes`` (N): R×N."""
    return fitted[:, :1] - fitted[:, 1:2] * sizes ** -fitted[:, 2:]


def explained(fitted_means: np.ndarray, sizes: np.ndarray, points: np.ndarray, places: np.ndarray) -> float | None:
    """R² over the runs: ``points`` (one per run) belong to the sizes with indices ``places``. None if all are equal."""
    around_mean = ((points - points.mean()) ** 2).sum()
    if len(sizes) < 2 or around_mean <= 1e-24:
        return None
    return float(1 - ((points - fitted_means[places]) ** 2).sum() / around_mean)


def _weighted_line(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Intercept and slope of ``y`` on ``x`` (both ...×M), stacked last."""
    share = weights / weights.sum()
    mean_x, mean_y = (x * share).sum(-1, keepdims=True), (y * share).sum(-1, keepdims=True)
    slope = (share * (x - mean_x) * (y - mean_y)).sum(-1) / (share * (x - mean_x) ** 2).sum(-1)
    return np.stack([mean_y[..., 0] - slope * mean_x[..., 0], slope], axis=-1)


def _decay(
    decays: np.ndarray, means: np.ndarray, weights: np.ndarray, bound: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best c <= bound and a >= 0 of c - a decay, and the squared error: R×G each, for R×G×M decays.

    This is a convex problem in two variables: its solution is the unconstrained one, or lies on an edge.
    """
    free = _weighted_line(decays, np.broadcast_to(means, decays.shape), weights)
    mean = (means * weights).sum(-1) / weights.sum()
    on_bound = (weights * decays * (bound - means)).sum(-1) / (weights * decays**2).sum(-1)
    candidates = [
        (free[..., 0], -free[..., 1]),
        (np.full(free.shape[:-1], bound), np.maximum(on_bound, 0.0)),
        (np.broadcast_to(np.minimum(mean, bound), free.shape[:-1]), np.zeros(free.shape[:-1])),
    ]
    constants, factors = (np.stack(values) for values in zip(*candidates, strict=True))
    errors = (weights * (means - constants[..., None] + factors[..., None] * decays) ** 2).sum(-1)
    errors[0][(free[..., 0] > bound) | (free[..., 1] > 0)] = np.inf
    best = errors.argmin(axis=0)[None]
    return tuple(np.take_along_axis(values, best, axis=0)[0] for values in (constants, factors, errors))
