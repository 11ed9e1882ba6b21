"""Popularity bias and exclusive tags, against examples counted by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from musictag.common.files import write_json
from musictag.evaluation.song_metrics import song_metrics
from musictag.report.statistics.popularity import exclusive, popularity, rank_correlation
from musictag.report.statistics.resampling import resampled
from musictag.report.study import Study, read_study
from musictag.report.tables.details import popularity_sheet
from tests.helpers.studies import write_run


def give(folder: Path, scores: np.ndarray, targets: np.ndarray) -> Study:
    """A study of one run with these scores and targets (S×K) of classification tags a, b, c, ..."""
    run = write_run(
        folder, "waveform_small", "waveform", 0.7, songs=len(scores), tags=scores.shape[1], regression_tags=0
    )
    names = [chr(ord("a") + k) for k in range(scores.shape[1])]
    kinds = ["classification"] * len(names)
    arrays = dict(np.load(run / "predictions.npz"))
    arrays |= {"scores": scores.astype(np.float32), "targets": targets.astype(np.float32), "tags": np.array(names)}
    np.savez(run / "predictions.npz", **arrays)
    metrics = json.loads((run / "metrics.json").read_text())
    write_json(run / "metrics.json", metrics | {"test": song_metrics(scores, targets, names, kinds, resamples=20)})
    return read_study(folder)


@pytest.fixture
def twenty() -> np.ndarray:
    """Targets of 20 songs: a carried by 10, b by the other 10 (they exclude each other), c by 4, d by 2 with a, b."""
    targets = np.zeros((20, 4))
    targets[:10, 0] = 1
    targets[10:, 1] = 1
    targets[[0, 1, 10, 11], 2] = 1
    targets[[0, 10], 3] = 1
    return targets


def test_spearman_is_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 6, (5, 12)).astype(float), rng.random(12)
    expected = [spearmanr(row, other).statistic for row in one]
    np.testing.assert_allclose(rank_correlation(one, other), expected)
    assert np.isnan(rank_correlation(np.ones(3), np.arange(3.0)))


def test_tags_that_a_resample_lacks_take_no_part_in_its_correlation() -> None:
    at = np.array([0.3, 0.1, 0.2, 0.4])
    found = rank_correlation(np.array([[1, 2, np.nan, 4], [1, np.nan, np.nan, 4]]), at)
    assert found[0] == pytest.approx(spearmanr([1, 2, 4], at[[0, 1, 3]]).statistic)
    assert np.isnan(found[1])  # of two tags


def test_rare_tags_keep_the_interval_unless_hardly_a_resample_has_any(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    targets = np.zeros((100, 12))
    targets[np.arange(8), np.arange(8)] = 1
    targets[:, 8:] = rng.random((100, 4)) < [0.1, 0.2, 0.3, 0.4]
    scores = 1 / (1 + np.exp(rng.normal(0, 1, targets.shape) - targets))
    (row,) = popularity(study := give(tmp_path / "some", scores, targets), resampled(study, 100))
    assert -1 <= row.roc_auc_correlation[1] < row.roc_auc_correlation[0] < row.roc_auc_correlation[2] <= 1
    targets[0, 0], targets[1:3, 0] = 0, 1  # all of them in a quarter of the resamples
    alone = give(tmp_path / "alone", scores[:, :3], targets[:, :3])
    (row,) = popularity(alone, resampled(alone, 100))
    assert np.isnan(row.roc_auc_correlation[1:]).all()
    assert re.fullmatch(r"−?[01]\.\d\d", popularity_sheet(alone, [row]).rows[0][1].text)


def test_shares_end_at_one_and_a_single_tag_has_no_slope(tmp_path: Path) -> None:
    targets = np.repeat(np.eye(2), 10, axis=0)
    scores = np.tile([0.9, 0.1], (20, 1)) + np.linspace(0, 0.01, 20)[:, None]
    scores[19] = [0.1, 0.9]
    (row,) = popularity(study := give(tmp_path / "two", scores, targets), resampled(study, 100))
    assert row.top_share[0] == pytest.approx(0.95)
    assert row.top_share[2] == 1
    one = give(tmp_path / "one", scores[:, :1], targets[:, :1])
    (row,) = popularity(one, resampled(one, 100))
    assert row.calibration_slope is None


def test_tags_that_never_meet_exclude_each_other(twenty: np.ndarray, tmp_path: Path) -> None:
    study = give(tmp_path, twenty * 0.8 + 0.1, twenty)
    found = exclusive(study, resampled(study, 100))
    (pair,) = found.pairs  # c and d could meet by chance in 0.4 songs only
    assert (pair.tag, pair.other, pair.expected) == ("a", "b", pytest.approx(5))
    assert pair.ratios == {"waveform_small": 0.0}  # a perfect answer never gives both
    (mean,) = found.means
    assert (mean.ratio, mean.low, mean.high) == (0, 0, 0)


def test_giving_both_is_counted(twenty: np.ndarray, tmp_path: Path) -> None:
    scores = twenty * 0.8 + 0.1
    scores[:, 0] = scores[:, 1] = (
        np.arange(20)[::-1] / 20
    )  # both to the first ten songs: 10 times where 5 are by chance
    study = give(tmp_path, scores, twenty)
    (pair,) = exclusive(study, resampled(study, 100)).pairs
    assert pair.ratios["waveform_small"] == pytest.approx(2)
    scores[[0, 19], 1] = scores[[19, 0], 1]  # one of them to another song
    (pair,) = exclusive(give(tmp_path / "other", scores, twenty), resampled(study, 100)).pairs
    assert pair.ratios["waveform_small"] == pytest.approx(9 / 5)


def test_unknown_tags_do_not_meet(twenty: np.ndarray, tmp_path: Path) -> None:
    twenty[5:, 0] = np.nan  # only five songs are known to be a, and of none is b known not to ...
    study = give(tmp_path, np.full((20, 4), 0.5), twenty)
    assert exclusive(study, resampled(study, 100)).pairs == []


def test_songs_of_which_one_tag_is_unknown_are_expected_to_have_none(twenty: np.ndarray, tmp_path: Path) -> None:
    unheard = np.concatenate([np.full((20, 2), np.nan), np.zeros((20, 2))], axis=1)
    targets = np.concatenate([twenty, unheard])
    study = give(tmp_path, np.nan_to_num(targets) * 0.8 + 0.1, targets)
    (pair,) = exclusive(study, resampled(study, 100)).pairs
    assert (pair.tag, pair.other, pair.expected) == ("a", "b", pytest.approx(10 * 10 / 20))


def test_slots_and_slopes_by_hand(twenty: np.ndarray, tmp_path: Path) -> None:
    """Every song has as many slots as tags: 20 songs with one, four with a second, two with a third: 26 in all."""
    (row,) = popularity(study := give(tmp_path, twenty * 0.8 + 0.1, twenty), resampled(study, 100))
    # the most popular fifth of four tags is one, a: ten slots
    assert row.true_share == pytest.approx(10 / 26)
    assert row.top_share[0] == pytest.approx(10 / 26)
    assert row.calibration_slope[0] == pytest.approx(0.8)
    assert row.roc_auc_correlation is None  # all tags are predicted perfectly
    always_a = np.tile([0.9, 0.3, 0.2, 0.1], (20, 1)) + np.linspace(0, 0.01, 20)[:, None]
    (row,) = popularity(study := give(tmp_path / "other", always_a, twenty), resampled(study, 100))
    assert row.top_share[0] == pytest.approx(20 / 26)


def test_popular_tags_that_fare_better_are_seen(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    prevalence = np.array([0.5, 0.4, 0.3, 0.2, 0.1])
    targets = (rng.random((400, 5)) < prevalence).astype(float)
    scores = 1 / (1 + np.exp(-(targets * np.array([4, 3, 2, 1, 0]) + rng.normal(0, 1, (400, 5)))))
    (row,) = popularity(study := give(tmp_path, scores, targets), resampled(study, 100))
    value, low, high = row.roc_auc_correlation
    assert value == pytest.approx(1)
    assert 0.5 < low <= high <= 1
    assert row.pr_auc_correlation[0] > 0.8


def test_pr_auc_is_compared_with_prevalence_as_far_as_it_is_more_than_chance(tmp_path: Path) -> None:
    """Tags that are heard equally well: PR-AUC itself is larger for the popular ones."""
    rng = np.random.default_rng(2)
    targets = (rng.random((600, 8)) < np.linspace(0.05, 0.5, 8)).astype(float)
    scores = 1 / (1 + np.exp(-(1.2 * targets + rng.normal(0, 1, targets.shape))))
    study = give(tmp_path, scores, targets)
    (row,) = popularity(study, resampled(study, 100))
    tags = study.runs[0].metrics["test"]["tags"]
    prevalence, areas = (np.array([tag[key] for tag in tags]) for key in ("prevalence", "pr_auc"))
    beyond_chance = spearmanr((areas - prevalence) / (1 - prevalence), prevalence).statistic
    assert row.pr_auc_correlation[0] == pytest.approx(beyond_chance)
    assert beyond_chance < spearmanr(areas, prevalence).statistic - 0.05


def test_tags_that_nobody_knows_take_no_slots(twenty: np.ndarray, tmp_path: Path) -> None:
    """Of ten songs it is unknown whether they are a, which has the highest score in all: b gets their slots."""
    targets = twenty.copy()
    targets[10:, 0] = np.nan
    targets[0, 0] = 0  # so that a has songs without it
    always_a = np.tile([0.9, 0.8, 0.2, 0.1], (20, 1)) + np.linspace(0, 0.01, 20)[:, None]
    (row,) = popularity(study := give(tmp_path, always_a, targets), resampled(study, 100))
    # the most popular fifth is a, carried by nine of ten; its slots are one in each of the songs where it is known
    slots = np.nansum(targets > 0, axis=1)
    assert row.top_share[0] == pytest.approx(10 / slots.sum())
