"""Laws of a score over the number of training songs: constant, line over the doublings, power law, broken power law.

All are weighted least squares, fitted to many resamples at once, of scores that are better the larger they are (an
error is fitted as its negative). Legend: R resamples, M sizes, G trial exponents, N sizes of a grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

#: Range of power-law exponents: below it the curve is a straight line over log size, above it a step.
EXPONENTS = (0.01, 5.0)
_TRIALS = 41
_ROUNDS = 5
_BROKEN_ROUNDS = 7
_BROKEN_TRIALS = 7


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
        best, constants, factors = _best_decay(decays, means, weights, bound)
        chosen = trials[np.arange(len(means)), best], constants, factors
        step = (high - low) / (_TRIALS - 1)
        low, high = np.maximum(low, chosen[0] - step), np.minimum(high, chosen[0] + step)
    exponents = np.exp(chosen[0])
    return np.stack([chosen[1], chosen[2] * scale**exponents, exponents], axis=1)


def fit_constant(means: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weighted mean of ``means`` (R×M): R×1."""
    return (means * weights).sum(axis=1, keepdims=True) / weights.sum()


def fit_broken_power_law(sizes: np.ndarray, means: np.ndarray, weights: np.ndarray, bound: float) -> np.ndarray:
    """Least squares of a power law whose exponent changes at a size: R × (c, a, first exponent, second, break).

    A continuous form of the broken power laws of Caballero et al. (2023): c - a size^-b up to the break, and from there
    on a power law with another exponent towards the same c. Breaks are searched strictly between the sizes' ends.
    """
    logs = np.log(sizes.astype(np.float64))
    relative = logs - logs[0]
    ends = np.log(np.array([*[EXPONENTS] * 2, (np.exp(relative[1]), np.exp(relative[-2]))]))
    low, high = (np.repeat(ends[None, :, end], len(means), axis=0) for end in (0, 1))  # R×3
    shares = np.linspace(0, 1, _BROKEN_TRIALS)
    shares = np.stack(np.meshgrid(shares, shares, shares, indexing="ij"), axis=-1).reshape(-1, 3)
    for _ in range(_BROKEN_ROUNDS):
        found = []
        for row in range(len(means)):  # one by one: the trials of all rows together would fill gigabytes
            trials = low[row] + (high[row] - low[row]) * shares
            decays = _broken_decay(np.exp(trials[:, :2]), trials[:, 2:], relative[None])
            best, constant, factor = _best_decay(decays[None], means[row : row + 1], weights, bound)
            found.append([*trials[best[0]], constant[0], factor[0]])
        chosen = np.array(found)
        step = (high - low) / (_BROKEN_TRIALS - 1)
        low, high = np.maximum(low, chosen[:, :3] - 2 * step), np.minimum(high, chosen[:, :3] + 2 * step)
    first, second = np.exp(chosen[:, :2]).T
    return np.stack(
        [chosen[:, 3], chosen[:, 4] * np.exp(first * logs[0]), first, second, np.exp(chosen[:, 2] + logs[0])], axis=1
    )


def trend_at(fitted: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Values of the lines (R×2) at ``sizes`` (N): R×N."""
    return fitted[:, :1] + fitted[:, 1:] * np.log2(sizes)


def power_law_at(fitted: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Values of the power laws (R×3) at ``sizes`` (N): R×N."""
    return fitted[:, :1] - fitted[:, 1:2] * sizes ** -fitted[:, 2:]


def broken_power_law_at(fitted: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Values of the broken power laws (R×5) at ``sizes`` (N): R×N."""
    decays = _broken_decay(fitted[:, 2:4], np.log(fitted[:, 4:]), np.log(sizes)[None])
    return fitted[:, :1] - fitted[:, 1:2] * decays


@dataclass(frozen=True)
class Law:
    """``parameters``: as many sizes must be fitted. ``fit(sizes, means, weights, bound)``, ``at(fitted, sizes)``."""

    name: str
    parameters: int
    fit: Callable[[np.ndarray, np.ndarray, np.ndarray, float], np.ndarray]
    at: Callable[[np.ndarray, np.ndarray], np.ndarray]


#: The simplest first.
LAWS = (
    Law("constant", 1, lambda _, means, weights, bound: fit_constant(means, weights),
        lambda fitted, sizes: np.repeat(fitted, len(sizes), axis=1)),
    Law("log-linear", 2, lambda sizes, means, weights, bound: fit_trend(sizes, means, weights), trend_at),
    Law("power law", 3, fit_power_law, power_law_at),
    Law("broken power law", 5, fit_broken_power_law, broken_power_law_at),
)  # fmt: skip


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


def _broken_decay(exponents: np.ndarray, breaks: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """Decays of G laws with two ``exponents`` each (G×2) and logarithms of ``breaks`` (G×1) at ``logs`` (1×N): G×N."""
    before, after = np.minimum(logs, breaks), np.maximum(logs - breaks, 0.0)
    return np.exp(-exponents[:, :1] * before - exponents[:, 1:] * after)


def _best_decay(
    decays: np.ndarray, means: np.ndarray, weights: np.ndarray, bound: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which of G decays (R×G×M) fits each row of ``means`` (R×M) best, and its c and a: R each."""
    constants, factors, errors = _decay(decays, means[:, None], weights, bound)
    best, rows = errors.argmin(axis=1), np.arange(len(means))
    return best, constants[rows, best], factors[rows, best]


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
