"""Linear models of tags for any number of songs: logistic and ridge regression without copies of all features.

The features of a million songs are a gigabyte in float32. They are standardised once, kept in float32 for all tags and
penalties, and converted to float64 a block at a time, so that sums are float64. Legend: S songs, D features.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.linalg import solve
from scipy.optimize import minimize
from scipy.special import expit

#: Songs per block, which fits in the processor's cache.
_BLOCK_SONGS = 1024


def mean_and_scale(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations (D, D; float64) of features S×D; the latter are 1 for constant features."""
    mean = features.mean(axis=0, dtype=np.float64)
    squares = np.zeros_like(mean)
    for first in range(0, len(features), _BLOCK_SONGS):
        squares += np.square(features[first : first + _BLOCK_SONGS] - mean).sum(axis=0)
    scale = np.sqrt(squares / len(features))
    scale[scale < 1e-9 * np.maximum(np.abs(mean), 1)] = 1.0
    return mean, scale


def standardised(features: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """(features - mean) / scale, float32 S×D."""
    result = np.empty(features.shape, dtype=np.float32)
    for first in range(0, len(features), _BLOCK_SONGS):
        block = slice(first, first + _BLOCK_SONGS)
        result[block] = (features[block] - mean) / scale
    return result


def logistic_losses(line: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """-log of the probability of the true value, without overflow: log-odds S and targets S (0 or 1) -> S."""
    return np.logaddexp(0, np.where(targets == 1, -line, line))


def logistic(features: np.ndarray, targets: np.ndarray, penalty: float) -> tuple[np.ndarray, float]:
    """Weights (D) and offset that minimise the logistic losses plus ``penalty`` / 2 times the weights' squares.

    ``features``: S×D; ``targets``: S, 0 or 1, NaN if unknown: such songs are left out.
    """
    songs = np.count_nonzero(~np.isnan(targets))

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        weights, offset = line[:-1], line[-1]
        total, slope = penalty / 2 * weights @ weights, np.append(penalty * weights, 0.0)
        for block, known in _known_songs(features, targets):
            scores = block @ weights + offset
            errors = expit(scores) - known
            total += logistic_losses(scores, known).sum()
            slope += np.append(errors @ block, errors.sum())
        return total / songs, slope / songs

    # as in scikit-learn, whose implementation requires all features in float64
    options = {"maxiter": 2000, "maxls": 50, "gtol": 1e-4, "ftol": 64 * np.finfo(float).eps}
    line = minimize(loss, np.zeros(features.shape[1] + 1), jac=True, method="L-BFGS-B", options=options).x
    return line[:-1], float(line[-1])


class Ridge:
    """Ridge regression of one target, with sums computed once for any number of penalties.

    ``features``: S×D; ``targets``: S, NaN if unknown: such songs are left out.
    """

    def __init__(self, features: np.ndarray, targets: np.ndarray) -> None:
        count, width = 0, features.shape[1]
        total, products = np.zeros(width + 1), np.zeros((width, width + 1))
        for block, known in _known_songs(features, targets):
            both = np.column_stack([block, known])
            count += len(known)
            total += both.sum(axis=0)
            products += block.T @ both
        self._mean = total / count
        self._products = products - count * np.outer(self._mean[:-1], self._mean)

    def line(self, penalty: float) -> tuple[np.ndarray, float]:
        """Weights (D) and offset that minimise the squared errors plus ``penalty`` times the weights' squares."""
        squares, moments = self._products[:, :-1], self._products[:, -1]
        weights = solve(squares + penalty * np.eye(len(squares)), moments, assume_a="pos")
        return weights, float(self._mean[-1] - weights @ self._mean[:-1])


def line_scores(features: np.ndarray, weights: np.ndarray, offset: float) -> np.ndarray:
    """Features S×D times weights (D) plus offset, float64 S."""
    rows = range(0, len(features), _BLOCK_SONGS)
    blocks = [features[first : first + _BLOCK_SONGS].astype(np.float64) @ weights + offset for first in rows]
    return np.concatenate(blocks) if blocks else np.empty(0)


def _known_songs(features: np.ndarray, targets: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of features and targets, float64, of the songs whose target is known."""
    for first in range(0, len(features), _BLOCK_SONGS):
        block = slice(first, first + _BLOCK_SONGS)
        known = ~np.isnan(targets[block])
        yield features[block][known].astype(np.float64), targets[block][known].astype(np.float64)
