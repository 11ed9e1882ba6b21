from __future__ import annotations

import json
import math

import numpy as np
import pytest
import sklearn.metrics
import torch
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from musictag.common.errors import MusictagError
from musictag.common.files import write_json
from musictag.evaluation.bootstrap import Ranking, song_resamples
from musictag.evaluation.song_metrics import paired_changes, song_metrics


def random_evaluation(songs=200, tags=8, seed=0, prevalence=0.2, unknown=0.0):
    """Scores (S×K, of some use) and targets (S×K) of classification tags."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((songs, tags)) < prevalence).astype(np.float32)
    scores = (1 / (1 + np.exp(-rng.normal(size=(songs, tags)) - targets))).astype(np.float32)
    targets[rng.random((songs, tags)) < unknown] = np.nan
    return scores, targets


def names_of(tags):
    return [f"tag {k}" for k in range(tags)]


def classification(tags):
    return ["classification"] * tags


def roc_auc(scores, targets):
    """Of one tag (S)."""
    return Ranking(scores, targets).score(np.ones((len(scores), 1), np.int32))[0][0]


def average_precision(scores, targets):
    return Ranking(scores, targets).score(np.ones((len(scores), 1), np.int32))[1][0]


def best_f1(y_true, y_score, sample_weight=None):
    """The highest F1 of all thresholds."""
    return max(
        sklearn.metrics.f1_score(y_true, y_score >= threshold, sample_weight=sample_weight)
        for threshold in np.unique(y_score)
    )


# single tags


@pytest.mark.parametrize("decimals", [None, 2, 1, 0])
@pytest.mark.parametrize("unknown", [0.0, 0.4])
@pytest.mark.parametrize("prevalence", [0.05, 0.5, 0.95])
def test_equal_to_scikit_learn_with_ties_and_masks(decimals, unknown, prevalence):
    scores, targets = random_evaluation(songs=150, prevalence=prevalence, unknown=unknown)
    if decimals is not None:
        scores = scores.round(decimals)
    for k in range(scores.shape[1]):
        known = ~np.isnan(targets[:, k])
        expected_area = sklearn.metrics.roc_auc_score(targets[known, k], scores[known, k])
        expected_precision = sklearn.metrics.average_precision_score(targets[known, k], scores[known, k])
        assert roc_auc(scores[:, k], targets[:, k]) == pytest.approx(expected_area, abs=1e-12)
        assert average_precision(scores[:, k], targets[:, k]) == pytest.approx(expected_precision, abs=1e-12)


@pytest.mark.parametrize("decimals", [None, 1])
def test_weighted_songs_equal_to_scikit_learn(decimals):
    scores, targets = random_evaluation(songs=80, tags=4, prevalence=0.3, unknown=0.2)
    if decimals is not None:
        scores = scores.round(decimals)
    weights = np.concatenate(list(song_resamples(80, 8, seed=3)), axis=1)
    assert weights.shape == (80, 8)
    assert (weights.sum(axis=0) == 80).all()
    for k in range(4):
        areas, precisions, f1 = Ranking(scores[:, k], targets[:, k]).score(weights)
        known = ~np.isnan(targets[:, k])
        for r in range(8):
            data = {"y_true": targets[known, k], "y_score": scores[known, k], "sample_weight": weights[known, r]}
            assert areas[r] == pytest.approx(sklearn.metrics.roc_auc_score(**data), abs=1e-12)
            assert precisions[r] == pytest.approx(sklearn.metrics.average_precision_score(**data), abs=1e-12)
            assert f1[r] == pytest.approx(best_f1(**data), abs=1e-12)


def test_torchmetrics_agrees_where_nothing_is_tied():
    scores, targets = random_evaluation(songs=300)
    for k in range(scores.shape[1]):
        assert len(np.unique(scores[:, k])) == 300
        prediction, truth = torch.from_numpy(scores[:, k]), torch.from_numpy(targets[:, k]).int()
        assert roc_auc(scores[:, k], targets[:, k]) == pytest.approx(binary_auroc(prediction, truth).item(), abs=1e-5)
        assert average_precision(scores[:, k], targets[:, k]) == pytest.approx(
            binary_average_precision(prediction, truth).item(), abs=1e-5
        )


def test_single_tags_by_hand():
    scores, targets = np.array([0.9, 0.8, 0.7, 0.1]), np.array([1.0, 0.0, 1.0, 0.0])
    assert roc_auc(scores, targets) == 0.75
    assert average_precision(scores, targets) == pytest.approx((1 + 2 / 3) / 2)
    assert roc_auc(np.full(4, 0.5), targets) == 0.5
    assert average_precision(np.full(4, 0.5), targets) == 0.5
    assert np.isnan(roc_auc(scores, np.ones(4)))
    assert np.isnan(average_precision(scores, np.full(4, np.nan)))


# all tags of all songs


def test_tags_without_both_classes_are_left_out_and_named():
    scores, targets = random_evaluation(tags=5)
    targets[:, 1], targets[:, 2] = 0, 1
    targets[targets[:, 3] == 1, 3] = np.nan
    metrics = song_metrics(scores, targets, names_of(5), classification(5), resamples=20)
    assert metrics["tags_left_out"] == ["tag 1", "tag 2", "tag 3"]
    assert metrics["tags_scored"] == 2
    expected = np.mean([sklearn.metrics.roc_auc_score(targets[:, k], scores[:, k]) for k in (0, 4)])
    assert metrics["roc_auc"]["value"] == pytest.approx(expected, abs=1e-12)
    assert metrics["chance_pr_auc"] == pytest.approx(targets[:, [0, 4]].mean(), abs=1e-7)
    left_out = metrics["tags"][2]
    assert left_out == {
        "name": "tag 2", "kind": "classification", "known": 200, "positives": 200, "prevalence": 1.0,
        "roc_auc": None, "pr_auc": None, "rmse": None, "rmse_of_mean": None, "f1_best": None,
    }  # fmt: skip


def test_chance_is_the_prevalence_among_songs_whose_target_is_known():
    scores, targets = random_evaluation(songs=40, tags=2)
    targets[:30, 0] = np.nan
    targets[30:, 0] = [1, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    metrics = song_metrics(scores, targets, names_of(2), classification(2), resamples=0)
    assert [metrics["tags"][0][key] for key in ("known", "positives", "prevalence")] == [10, 2, 0.2]
    assert metrics["chance_pr_auc"] == pytest.approx((0.2 + targets[:, 1].mean()) / 2)


def test_regression_tags_are_measured_by_their_error():
    scores, targets = random_evaluation(tags=4)
    targets[:, 2] = np.linspace(0, 1, 200)
    targets[::4, 2] = np.nan
    targets[:, 3] = np.nan
    kinds = ["classification", "classification", "regression", "regression"]
    metrics = song_metrics(scores, targets, names_of(4), kinds, resamples=200)
    known = ~np.isnan(targets[:, 2])
    expected = sklearn.metrics.root_mean_squared_error(
        targets[known, 2].astype(np.float64), scores[known, 2].astype(np.float64)
    )
    assert metrics["rmse"]["value"] == pytest.approx(expected, abs=1e-12)
    assert metrics["rmse"]["low"] < expected < metrics["rmse"]["high"]
    assert metrics["regression_tags_scored"] == 1
    assert metrics["tags_scored"] == 2
    assert metrics["tags_left_out"] == ["tag 3"]
    assert metrics["tags"][2]["known"] == 150
    assert metrics["tags"][2]["rmse_of_mean"] == pytest.approx(targets[known, 2].std(), abs=1e-6)
    assert metrics["tags"][2]["prevalence"] is None


def test_nothing_to_score_is_none_and_not_zero():
    scores, targets = random_evaluation(tags=2)
    metrics = song_metrics(scores, np.zeros_like(targets), names_of(2), classification(2))
    assert metrics["roc_auc"] is metrics["pr_auc"] is metrics["rmse"] is metrics["chance_pr_auc"] is None
    assert metrics["tags_scored"] == 0
    assert metrics["tags_left_out"] == names_of(2)


def test_order_of_songs_and_tags_changes_nothing():
    scores, targets = random_evaluation(unknown=0.1)
    scores = scores.round(2)
    songs, tags = np.random.default_rng(1).permutation(200), np.random.default_rng(2).permutation(8)
    straight = song_metrics(scores, targets, names_of(8), classification(8), resamples=0)
    shuffled = song_metrics(
        scores[songs][:, tags], targets[songs][:, tags], [f"tag {k}" for k in tags], classification(8), resamples=0
    )
    assert sorted(shuffled["tags"], key=lambda tag: tag["name"]) == straight["tags"]
    assert shuffled["roc_auc"]["value"] == pytest.approx(straight["roc_auc"]["value"], abs=1e-14)


def test_deterministic_for_a_seed_whatever_the_chunks(monkeypatch):
    scores, targets = random_evaluation(songs=60, prevalence=0.05)
    kinds = ["regression", *classification(7)]
    first = song_metrics(scores, targets, names_of(8), kinds, resamples=50, seed=4)
    monkeypatch.setattr("musictag.evaluation.bootstrap._CHUNK_WEIGHTS", 60 * 7)
    assert song_metrics(scores, targets, names_of(8), kinds, resamples=50, seed=4) == first
    assert song_metrics(scores, targets, names_of(8), kinds, resamples=50, seed=5)["roc_auc"] != first["roc_auc"]


def test_interval_is_that_of_a_bootstrap_done_the_long_way():
    scores, targets = random_evaluation(songs=40, tags=3, prevalence=0.08)
    metrics = song_metrics(scores, targets, names_of(3), classification(3), resamples=300, confidence=0.8, seed=9)
    means = []
    lacking = 0
    for counts in np.concatenate(list(song_resamples(40, 300, seed=9)), axis=1).T:
        drawn = np.repeat(np.arange(40), counts)
        usable = [k for k in range(3) if 0 < targets[drawn, k].sum() < 40]
        lacking += len(usable) < 3
        means.append(np.mean([sklearn.metrics.roc_auc_score(targets[drawn, k], scores[drawn, k]) for k in usable]))
    assert lacking > 0
    shift = metrics["roc_auc"]["value"] - np.mean(means)
    assert metrics["roc_auc"]["low"] == pytest.approx(np.quantile(means, 0.1) + shift, abs=1e-12)
    assert metrics["roc_auc"]["high"] == pytest.approx(np.quantile(means, 0.9) + shift, abs=1e-12)


def test_the_change_of_two_systems_is_that_on_the_same_resamples():
    before, targets = random_evaluation(songs=40, tags=3, prevalence=0.3)
    after = (0.7 * before + 0.3 * random_evaluation(songs=40, tags=3, seed=1)[0]).astype(np.float32)
    asked = {"resamples": 200, "confidence": 0.8, "seed": 9}
    found = paired_changes(before, after, targets, classification(3), ["roc_auc", "d_prime"], **asked)
    old, new = (song_metrics(one, targets, names_of(3), classification(3), **asked) for one in (before, after))
    changes = []
    for counts in np.concatenate(list(song_resamples(40, 200, seed=9)), axis=1).T:
        drawn = np.repeat(np.arange(40), counts)
        areas = [
            np.mean([sklearn.metrics.roc_auc_score(targets[drawn, k], one[drawn, k]) for k in range(3)])
            for one in (before, after)
        ]
        changes.append(areas[1] - areas[0])
    shift = new["roc_auc"]["value"] - old["roc_auc"]["value"] - np.mean(changes)
    assert found["roc_auc"]["value"] == pytest.approx(new["roc_auc"]["value"] - old["roc_auc"]["value"], abs=1e-12)
    assert found["roc_auc"]["low"] == pytest.approx(np.quantile(changes, 0.1) + shift, abs=1e-12)
    assert found["roc_auc"]["high"] == pytest.approx(np.quantile(changes, 0.9) + shift, abs=1e-12)
    same = paired_changes(before, before, targets, classification(3), ["pr_auc"], **asked)
    assert same == {"pr_auc": {"value": 0.0, "low": 0.0, "high": 0.0}}


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    # Two normal distributions one standard deviation apart: the true ROC-AUC is known. That of PR-AUC is the mean over
    # the simulated test sets.
    rng = np.random.default_rng(0)
    trials = []
    for trial in range(200):
        targets = (rng.random((150, 4)) < 0.1).astype(np.float64)
        scores = rng.normal(size=(150, 4)) + targets
        trials.append(song_metrics(scores, targets, names_of(4), classification(4), resamples=200, seed=trial))
    truths = {"roc_auc": 0.5 + 0.5 * math.erf(0.5), "pr_auc": np.mean([trial["pr_auc"]["value"] for trial in trials])}
    for key, truth in truths.items():
        held = np.mean([trial[key]["low"] <= truth <= trial[key]["high"] for trial in trials])
        assert 0.90 <= held <= 0.985
        assert all(trial[key]["low"] < trial[key]["value"] < trial[key]["high"] for trial in trials)


def test_without_resamples_there_is_no_interval():
    scores, targets = random_evaluation()
    metrics = song_metrics(scores, targets, names_of(8), classification(8), resamples=0)
    assert metrics["roc_auc"]["low"] is metrics["pr_auc"]["high"] is None
    assert 0.5 < metrics["roc_auc"]["value"] < 1


def test_result_is_json(tmp_path):
    scores, targets = random_evaluation(tags=4, unknown=0.3)
    targets[:, 1] = 0
    kinds = ["classification", "classification", "classification", "regression"]
    metrics = song_metrics(scores, targets, names_of(4), kinds, resamples=10)
    write_json(tmp_path / "metrics.json", metrics)
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics


def test_what_does_not_fit_is_refused():
    scores, targets = random_evaluation(songs=10, tags=2)
    names, kinds = names_of(2), classification(2)
    with pytest.raises(ValueError, match="3 names"):
        song_metrics(scores, targets, names_of(3), classification(3))
    with pytest.raises(ValueError, match="'ranking'"):
        song_metrics(scores, targets, names, ["classification", "ranking"])
    with pytest.raises(ValueError, match="'tag 1' must be 0, 1 or NaN"):
        song_metrics(scores, np.where([True, False], targets, 0.4), names, kinds)
    with pytest.raises(MusictagError, match="no songs to evaluate"):
        song_metrics(scores[:0], targets[:0], names, kinds)
    with pytest.raises(MusictagError, match="confidence=95"):
        song_metrics(scores, targets, names, kinds, confidence=95)
    scores[7, 1] = np.nan
    with pytest.raises(MusictagError, match=r"1 of 10 songs.*row 7.*diverged"):
        song_metrics(scores, targets, names, kinds)
