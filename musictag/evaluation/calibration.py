"""From scores to probabilities, and to tags that are given with confidence: learnt from validation songs alone.

A calibration is a list with one plain dictionary per tag, ready for JSON; numbers are None where songs were too few:

    known, positives, prevalence    validation songs with a known target, those with the tag, and their share
    curve                  {"slope", "intercept"} of a logistic curve over the log-odds of the score (Platt 1999), or
                           {"scores", "probabilities"}, points of an isotonic curve; None: the score as it is
    f1_threshold           the score from which F1 is best
    precision_threshold    the score from which PRECISION of the songs have the tag

Legend: S songs, K tags.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

#: Fewer songs with a tag, or without it, give no curve and no threshold by F1.
MIN_SONGS = 10
#: An isotonic curve needs this many songs, and ten times MIN_SONGS with and without the tag, or it follows noise.
ISOTONIC_SONGS = 1000
FOLDS = 5
#: Bins of equal width of the expected calibration error.
BINS = 10
#: What a threshold by precision promises of the validation songs above it: this share is right, and the lower limit of
#: the share of all such songs, with CONFIDENCE at this one threshold, is at least LOWEST. So they are eleven or more.
#: As many thresholds are tried, one passes more often by luck: in up to 18% of tags whose share is just below LOWEST.
PRECISION, LOWEST, CONFIDENCE = 0.9, 0.8, 0.9
_FACTS = ("known", "positives", "prevalence", "curve", "f1_threshold", "precision_threshold")
_MAX_POINTS = 32  # of an isotonic curve


def calibrate(scores: np.ndarray, targets: np.ndarray, kinds: Sequence[str]) -> list[dict[str, Any]]:
    """The calibration of tags of these ``kinds`` from scores and targets (NaN: unknown) of validation songs, S×K.

    The curve is the one, of those that the number of songs allows, with the best log-likelihood on songs that it was
    not fitted to (5-fold cross-validation). Regression tags get counts only.
    """
    return [_of_tag(scores[:, k], targets[:, k], kind) for k, kind in enumerate(kinds)]


def _of_tag(scores: np.ndarray, targets: np.ndarray, kind: str) -> dict[str, Any]:
    known = ~np.isnan(targets)
    found: dict[str, Any] = dict.fromkeys(_FACTS) | {"known": int(known.sum())}
    if kind != "classification":
        return found
    scores, positive = scores[known].astype(np.float64), targets[known] == 1
    positives = int(positive.sum())
    found |= {"positives": positives, "prevalence": _short(positives / len(scores)) if len(scores) else None}
    found["precision_threshold"] = _by_precision(scores, positive)
    if min(positives, len(scores) - positives) >= MIN_SONGS:
        found |= {"curve": _curve(scores, positive), "f1_threshold": _by_f1(scores, positive)}
    return found


def _curve(scores: np.ndarray, positive: np.ndarray) -> dict[str, Any] | None:
    from sklearn.model_selection import StratifiedKFold  # here: it takes a second

    fits = [lambda scores, positive: None, _logistic]
    if len(scores) >= ISOTONIC_SONGS and min(positive.sum(), (~positive).sum()) >= 10 * MIN_SONGS:
        fits.append(_isotonic)
    losses = []
    folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(scores, positive))
    for fit in fits:
        held_out = np.empty(len(scores))
        for train, test in folds:
            held_out[test] = _applied(fit(scores[train], positive[train]), scores[test])
        right = np.where(positive, held_out, 1 - held_out).clip(0.5 / len(scores), 1)
        losses.append(-np.log(right).mean())
    return fits[int(np.argmin(losses))](scores, positive)


def _logistic(scores: np.ndarray, positive: np.ndarray) -> dict[str, float]:
    from sklearn.linear_model import LogisticRegression

    odds = _log_odds(scores)
    # Platt's targets, which keep the curve from certainty where the classes are separable
    high, low = (positive.sum() + 1) / (positive.sum() + 2), 1 / ((~positive).sum() + 2)
    weights, classes = np.where(positive, high, low), np.repeat([1, 0], len(odds))
    twice = np.concatenate([odds, odds])[:, None]
    fitted = LogisticRegression(C=1e6).fit(twice, classes, np.concatenate([weights, 1 - weights]))
    # a curve that falls would turn the order of the songs around: such a tag has only its prevalence
    slope = max(float(fitted.coef_[0, 0]), 0.0)
    intercept = float(fitted.intercept_[0]) if slope else float(_log_odds(positive.mean()))
    return {"slope": _short(slope), "intercept": _short(intercept)}


def _isotonic(scores: np.ndarray, positive: np.ndarray) -> dict[str, list[float]]:
    from sklearn.isotonic import IsotonicRegression

    least = 1 / (len(scores) + 2)  # never certain
    fitted = IsotonicRegression(y_min=least, y_max=1 - least).fit(scores, positive)
    # a few points are as good as hundreds, and keep the file small
    kept = np.unique(np.linspace(0, len(fitted.X_thresholds_) - 1, _MAX_POINTS).astype(int))
    return {
        "scores": [_short(value) for value in fitted.X_thresholds_[kept]],
        "probabilities": [_short(value) for value in fitted.y_thresholds_[kept]],
    }


def _by_f1(scores: np.ndarray, positive: np.ndarray) -> float:
    """The score from which giving the tag has the best F1."""
    ranked, right, given = _ranked(scores, positive)
    return float(ranked[np.argmax(2 * right / (given + positive.sum()))])


def _by_precision(scores: np.ndarray, positive: np.ndarray) -> float | None:
    """The lowest score from which the promise of PRECISION, LOWEST and CONFIDENCE holds, or None.

    Of the first stretch of scores, from the highest on, where it holds: among many thresholds, one would pass by luck.
    """
    from scipy.stats import beta

    ranked, right, given = _ranked(scores, positive)
    # Clopper and Pearson's lower limit
    surely = np.where(right > 0, beta.ppf(1 - CONFIDENCE, np.maximum(right, 1), given - right + 1), 0.0)
    holds = (right / np.maximum(given, 1) >= PRECISION) & (surely >= LOWEST)
    if not holds.any():
        return None
    first = int(np.argmax(holds))
    broken = np.flatnonzero(~holds[first:])
    return float(ranked[first + (broken[0] if len(broken) else len(holds) - first) - 1])


def _ranked(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct scores, highest first; how many songs at or above each have the tag, and how many there are."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.append(ranked[1:] != ranked[:-1], True)[: len(ranked)]
    return ranked[last], np.cumsum(positive[order])[last], np.flatnonzero(last) + 1


def probabilities(calibration: Sequence[Mapping[str, Any]], scores: np.ndarray) -> np.ndarray:
    """Scores (S×K, or K) -> probabilities of the same shape and float32: the curve of each tag, where it has one."""
    found = np.array(scores, dtype=np.float64)
    for k, tag in enumerate(calibration):
        found[..., k] = _applied(tag["curve"], found[..., k])
    return found.astype(np.float32)


def _applied(curve: Mapping[str, Any] | None, scores: np.ndarray) -> np.ndarray:
    if curve is None:
        return scores
    if "slope" in curve:
        return 1 / (1 + np.exp(-(curve["slope"] * _log_odds(scores) + curve["intercept"]).clip(-30, 30)))
    return np.interp(scores, curve["scores"], curve["probabilities"])


def _log_odds(scores: np.ndarray) -> np.ndarray:
    scores = np.clip(scores, 1e-6, 1 - 1e-6)
    return np.log(scores / (1 - scores))


def calibration_error(scores: np.ndarray, targets: np.ndarray) -> float:
    """Expected calibration error of one tag: how far the mean score of the songs in a bin is from their share with the
    tag, on average over the songs. ``scores`` and ``targets`` (NaN: unknown, ignored) are S; NaN without known songs.

    A few songs show an error of some hundredths even where there is none.
    """
    known = ~np.isnan(targets)
    scores, targets = scores[known].astype(np.float64), targets[known]
    if not len(scores):
        return math.nan
    bins = np.minimum((scores * BINS).astype(int), BINS - 1)
    return float(np.abs(np.bincount(bins, scores - targets, BINS)).sum() / len(scores))


def calibration_summary(
    calibration: Sequence[Mapping[str, Any]], scores: np.ndarray, targets: np.ndarray, kinds: Sequence[str]
) -> dict[str, Any]:
    """What a calibration does for songs that it was not fitted to, S×K, as plain numbers.

    The mean over the classification tags of their calibration error before and after; how many tags have a curve and a
    threshold by precision; how many tags these give to songs, and the share of them that is right (None: not known).
    """
    after = probabilities(calibration, scores)
    classes = [k for k, kind in enumerate(kinds) if kind == "classification" and not np.isnan(targets[:, k]).all()]
    errors = [[calibration_error(values[:, k], targets[:, k]) for k in classes] for values in (scores, after)]
    confident = given(calibration, scores) & ~np.isnan(targets)
    return {
        "bins": BINS,
        "error_before": float(np.mean(errors[0])) if classes else None,
        "error_after": float(np.mean(errors[1])) if classes else None,
        "tags_calibrated": sum(tag["curve"] is not None for tag in calibration),
        "tags_confident": sum(tag["precision_threshold"] is not None for tag in calibration),
        "given": int(confident.sum()),
        "right": float(targets[confident].mean()) if confident.any() else None,
    }


def given(calibration: Sequence[Mapping[str, Any]], scores: np.ndarray) -> np.ndarray:
    """Which tags of which songs reach their threshold by precision: bool of the shape of ``scores``, S×K or K."""
    limits = [np.inf if tag["precision_threshold"] is None else tag["precision_threshold"] for tag in calibration]
    return scores >= np.array(limits, dtype=np.float32)


def check_calibration(content: Any, kinds: Sequence[str]) -> None:
    """Raise ValueError unless ``content``, from an untrusted file, is a calibration for tags of these kinds."""
    if not isinstance(content, list) or len(content) != len(kinds):
        raise ValueError(f"its calibration is not a list of {len(kinds)} tags")
    for tag in content:
        if not isinstance(tag, dict) or set(tag) != set(_FACTS):
            raise ValueError(f"a tag of its calibration does not have exactly {', '.join(_FACTS)}")
        counts = [tag[key] for key in ("known", "positives") if tag[key] is not None]
        if tag["known"] is None or not all(type(count) is int and 0 <= count <= tag["known"] for count in counts):
            raise ValueError("its calibration counts songs by something else than whole numbers")
        shares = [tag[key] for key in ("prevalence", "f1_threshold", "precision_threshold")]
        if not all(share is None or _is_number(share, 0, 1) for share in shares):
            raise ValueError("a threshold or prevalence of its calibration is not a number from 0 to 1")
        if tag["curve"] is not None and not _is_curve(tag["curve"]):
            raise ValueError("a curve of its calibration is damaged")


def _is_curve(curve: Any) -> bool:
    if not isinstance(curve, dict):
        return False
    if set(curve) == {"slope", "intercept"}:
        return _is_number(curve["slope"], 0, 1e6) and _is_number(curve["intercept"], -1e6, 1e6)
    points = [curve.get(key) for key in ("scores", "probabilities")]
    return (
        len(curve) == 2
        and all(isinstance(values, list) and 0 < len(values) <= _MAX_POINTS for values in points)
        and len(points[0]) == len(points[1])
        and all(_is_number(value, 0, 1) for values in points for value in values)
        and all(values == sorted(values) for values in points)
    )


def _is_number(value: Any, low: float, high: float) -> bool:
    return type(value) in (int, float) and low <= value <= high  # NaN fails both


def _short(value: float) -> float:
    """Six digits are plenty, and keep the file small."""
    return float(f"{value:.6g}")
