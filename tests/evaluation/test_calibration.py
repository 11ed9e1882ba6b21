"""Calibration and thresholds of tags, from scores and targets whose truth is known."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from musictag.evaluation.calibration import (
    LOWEST,
    PRECISION,
    calibrate,
    calibration_error,
    calibration_summary,
    check_calibration,
    given,
    probabilities,
)

CLASS = ["classification"]


def songs(number: int, seed: int = 0, bend: float = 3.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True probabilities, scores that are too low (``bend`` above 1), and targets: S×1 each."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 1, (number, 1))
    return truth, (truth**bend).astype(np.float32), (rng.uniform(0, 1, truth.shape) < truth).astype(np.float32)


@pytest.mark.parametrize(("number", "kind"), [(400, "slope"), (5000, "scores")])
def test_probabilities_are_those_of_the_songs_and_not_the_scores(number: int, kind: str) -> None:
    _, scores, targets = songs(number)
    calibration = calibrate(scores, targets, CLASS)
    assert kind in calibration[0]["curve"]
    truth, scores, targets = songs(5000, seed=1)
    found = probabilities(calibration, scores)
    assert np.abs(found - truth).mean() < 0.04 < 0.15 < np.abs(scores - truth).mean()
    assert calibration_error(found[:, 0], targets[:, 0]) < 0.04 < calibration_error(scores[:, 0], targets[:, 0])
    assert (np.diff(found[np.argsort(scores[:, 0]), 0]) >= -1e-6).all()  # the order of the songs stays
    assert 0 < found.min() < found.max() < 1
    summary = calibration_summary(calibration, scores, targets, CLASS)
    assert summary["error_after"] < 0.04 < summary["error_before"]
    assert summary["right"] == pytest.approx(targets[given(calibration, scores)].mean())
    assert (summary["bins"], summary["tags_calibrated"]) == (10, 1)


def test_scores_that_are_probabilities_stay_as_they_are() -> None:
    """Cross-validation prefers no curve to one that follows noise, for about half of the draws."""
    calibrations = [calibrate(*songs(60, seed, bend=1.0)[1:], CLASS)[0] for seed in range(20)]
    assert sum(tag["curve"] is None for tag in calibrations) >= 9


def test_a_tag_that_scores_say_nothing_about_gets_its_prevalence() -> None:
    rng = np.random.default_rng(0)
    targets = (np.arange(200) % 4 == 0).astype(np.float32)[:, None]
    backwards = (0.9 - 0.8 * targets + 0.05 * rng.standard_normal(targets.shape)).clip(0, 1).astype(np.float32)
    (tag,) = calibrate(backwards, targets, CLASS)
    assert tag["curve"]["slope"] == 0
    np.testing.assert_allclose(probabilities([tag], backwards), 0.25, atol=1e-4)
    assert tag["precision_threshold"] is None


def test_counts_leave_out_unknown_songs_and_few_songs_give_no_numbers() -> None:
    targets = np.array([1] * 9 + [0] * 50 + [np.nan] * 5, dtype=np.float32)[:, None]
    scores = np.linspace(1, 0, 64, dtype=np.float32)[:, None]
    (tag,) = calibrate(scores, targets, CLASS)
    assert (tag["known"], tag["positives"], tag["prevalence"]) == (59, 9, pytest.approx(9 / 59, rel=1e-5))
    assert tag["curve"] is tag["f1_threshold"] is tag["precision_threshold"] is None
    (measured,) = calibrate(scores, scores, ["regression"])
    assert measured == dict.fromkeys(measured) | {"known": 64}
    (unknown,) = calibrate(scores, np.full_like(scores, np.nan), CLASS)
    assert (unknown["known"], unknown["prevalence"]) == (0, None)
    np.testing.assert_array_equal(probabilities([tag], scores), scores)
    assert not given([tag], scores).any()


def test_the_f1_threshold_is_the_best_one() -> None:
    _, scores, targets = songs(200)
    (tag,) = calibrate(scores, targets, CLASS)

    def f1(threshold: float) -> float:
        chosen = scores >= threshold
        return 2 * targets[chosen].sum() / (chosen.sum() + targets.sum())

    assert f1(tag["f1_threshold"]) == max(map(f1, scores[:, 0]))


def test_the_precision_threshold_keeps_its_promise_and_needs_eleven_songs() -> None:
    scores = np.linspace(1, 0, 100, dtype=np.float32)[:, None]
    targets = np.zeros_like(scores)
    for right, is_enough in ((10, False), (11, True)):
        targets[:right] = 1
        (tag,) = calibrate(scores, targets, CLASS)
        assert (tag["precision_threshold"] is not None) == is_enough
    assert given([tag], scores).sum() == 11  # with one more song that is wrong, the lower limit is below LOWEST
    targets[:50] = 1
    (tag,) = calibrate(scores, targets, CLASS)
    assert given([tag], scores).sum() == 55  # 50 of 55 are right; of 56 fewer than 90%
    new = [(calibrate(*songs(300, seed)[1:], CLASS), songs(3000, 99)) for seed in range(20)]
    right = [t[given(c, s)].mean() for c, (_, s, t) in new if given(c, s).any()]
    assert len(right) >= 10
    assert np.mean(right) > PRECISION - 0.02
    assert np.mean(np.array(right) >= LOWEST) >= 0.9


def test_the_error_is_the_distance_between_scores_and_shares_in_bins() -> None:
    scores = np.array([0.05, 0.05, 0.95, 0.95, 1.0, 0.5], dtype=np.float32)
    targets = np.array([0, 1, 1, 1, 1, np.nan], dtype=np.float32)
    assert calibration_error(scores, targets) == pytest.approx((2 * 0.45 + abs(2.9 - 3)) / 5)
    assert np.isnan(calibration_error(scores[-1:], targets[-1:]))


GOOD = calibrate(*songs(400)[1:], CLASS)


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: c.append(c[0]),
        lambda c: c[0].pop("known"),
        lambda c: c[0].update(more=1),
        lambda c: c[0].update(known=-1),
        lambda c: c[0].update(known=None),
        lambda c: c[0].update(positives=401),
        lambda c: c[0].update(positives=True),
        lambda c: c[0].update(precision_threshold=float("nan")),
        lambda c: c[0].update(f1_threshold="0.5"),
        lambda c: c[0].update(curve=[1, 2]),
        lambda c: c[0].update(curve={"slope": -1.0, "intercept": 0.0}),
        lambda c: c[0].update(curve={"slope": float("inf"), "intercept": 0.0}),
        lambda c: c[0].update(curve={"scores": [0.1, 0.2], "probabilities": [0.1]}),
        lambda c: c[0].update(curve={"scores": [0.2, 0.1], "probabilities": [0.1, 0.2]}),
        lambda c: c[0].update(curve={"scores": [], "probabilities": []}),
        lambda c: c[0].update(curve={"scores": [0.1], "probabilities": [1.5]}),
    ],
)
def test_damaged_calibrations_are_refused(damage: Any) -> None:
    check_calibration(GOOD, CLASS)
    damaged = copy.deepcopy(GOOD)
    damage(damaged)
    with pytest.raises(ValueError, match="calibration"):
        check_calibration(damaged, CLASS)
