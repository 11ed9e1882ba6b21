"""The same draws of songs for every run of a study."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from musictag.common.errors import MusictagError
from musictag.evaluation.bootstrap import song_resamples
from musictag.evaluation.metrics import METRICS
from musictag.evaluation.song_metrics import song_metrics
from musictag.report.statistics.resampling import interval, resampled, same_seeds, seeds_of, weighted_sums
from musictag.report.study import Run, Study, read_study
from tests.helpers.studies import System, write_run, write_study

RESAMPLES = 120


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("study")
    write_study(folder, sizes=(250, 500), seeds=(0, 1), songs=80, tags=6)
    return read_study(folder)


def rewrite(run: Run, **changes: np.ndarray) -> None:
    path = run.folder / "predictions.npz"
    np.savez(path, **(dict(np.load(path)) | changes))


def test_the_draws_are_centred_on_the_scores_of_the_runs(study: Study) -> None:
    draws = resampled(study, RESAMPLES, seed=3)
    assert (draws.resamples, draws.seed, draws.songs) == (RESAMPLES, 3, 80)
    assert list(draws) == [run.folder.name for run in study.runs]
    for run in study.runs:
        assert list(draws[run.folder.name]) == list(METRICS)
        assert list(draws.by_tag[run.folder.name]) == ["roc_auc", "pr_auc", "rmse", "f1_best"]
        for metric, again in draws[run.folder.name].items():
            assert again.shape == (RESAMPLES,)
            assert again.mean() == pytest.approx(run.value(metric), abs=1e-12)
            by_tag = draws.by_tag[run.folder.name].get(metric)
            if by_tag is None:
                continue
            for k, tag in enumerate(run.metrics["test"]["tags"]):
                if tag[metric] is None:
                    assert np.isnan(by_tag[:, k]).all()
                else:
                    assert by_tag[:, k].mean() == pytest.approx(tag[metric], abs=1e-6)


def test_a_draw_is_the_score_of_the_songs_it_draws(study: Study) -> None:
    """Up to the shift, a resample's score is that of a test set in which each song stands as often as it is drawn."""
    run = study.runs[0]
    found = run.predictions
    weights = next(song_resamples(80, RESAMPLES, 0))
    expected = {metric: [] for metric in METRICS}
    for column in range(3):
        songs = np.repeat(np.arange(80), weights[:, column])
        scored = song_metrics(
            found.scores[songs], found.targets[songs], found.tags.tolist(), found.kinds.tolist(), resamples=0
        )
        for metric in expected:
            expected[metric].append(scored[metric]["value"])
    draws = resampled(study, RESAMPLES)[run.folder.name]
    for metric, values in expected.items():
        assert np.diff(draws[metric][:3]) == pytest.approx(np.diff(values), abs=1e-9)


def test_draws_are_shared_and_repeatable(tmp_path: Path) -> None:
    """Two runs with the same scores have the same draws to the last bit: their difference is exactly zero."""
    write_study(tmp_path, sizes=(250,), seeds=(0, 1), songs=60, tags=5)
    study = read_study(tmp_path)
    for run in study.runs:
        rewrite(run, scores=study.runs[0].predictions.scores)
    study = read_study(tmp_path)
    draws, again, other = (resampled(study, RESAMPLES, seed=seed) for seed in (0, 0, 1))
    first, *rest = (draws[run.folder.name] for run in study.runs)
    for metric in study.metrics:
        for values in rest:
            assert np.array_equal(values[metric], first[metric])
        assert np.array_equal(again[study.runs[0].folder.name][metric], first[metric])
        assert not np.array_equal(other[study.runs[0].folder.name][metric], first[metric])
        assert first[metric].std() > 0


def test_other_orders_of_songs_and_tags_are_aligned(tmp_path: Path) -> None:
    write_study(tmp_path, sizes=(250,), seeds=(0,), songs=60, tags=5)
    before = resampled(read_study(tmp_path), RESAMPLES)
    run = read_study(tmp_path).runs[1]
    found, rng = run.predictions, np.random.default_rng(0)
    songs, tags = rng.permutation(60), rng.permutation(7)
    rewrite(
        run, song_ids=found.song_ids[songs], tags=found.tags[tags], kinds=found.kinds[tags],
        scores=found.scores[np.ix_(songs, tags)], targets=found.targets[np.ix_(songs, tags)],
    )  # fmt: skip
    after = resampled(read_study(tmp_path), RESAMPLES)
    for name in before:
        for metric in before[name]:
            np.testing.assert_array_equal(after[name][metric], before[name][metric])
        for metric in before.by_tag[name]:
            np.testing.assert_array_equal(after.by_tag[name][metric], before.by_tag[name][metric])


@pytest.mark.parametrize("other", ["songs", "tags", "targets", "kinds"])
def test_other_songs_tags_and_truths_are_refused(tmp_path: Path, other: str) -> None:
    write_study(tmp_path, sizes=(250,), seeds=(0,), songs=60, tags=5)
    run = read_study(tmp_path).runs[1]
    found = run.predictions
    if other == "songs":
        rewrite(run, song_ids=np.array([f"other-{row}" for row in range(60)]))
    elif other == "tags":
        rewrite(run, tags=np.array([f"other {k}" for k in range(7)]))
    elif other == "kinds":
        rewrite(run, kinds=found.kinds[::-1])
    else:
        targets = found.targets.copy()
        targets[0, 0] = 1 - targets[0, 0]
        rewrite(run, targets=targets)
    expected = {"songs": "different test songs", "tags": "different test tags"}
    words = expected.get(other, "different targets for the same songs")
    with pytest.raises(MusictagError, match=words):
        resampled(read_study(tmp_path), RESAMPLES)


def test_too_few_resamples_are_refused(study: Study) -> None:
    with pytest.raises(MusictagError, match="99 resamples are too few"):
        resampled(study, 99)


def test_regression_alone(tmp_path: Path) -> None:
    write_study(tmp_path, sizes=(250,), seeds=(0,), songs=40, tags=0, regression_tags=3)
    study = read_study(tmp_path)
    assert study.metrics == ["rmse"]
    draws = resampled(study, RESAMPLES)
    assert {tuple(of_run) for of_run in draws.values()} == {("rmse",)}
    assert all(np.isfinite(of_run["rmse"]).all() for of_run in draws.values())


def test_a_tag_that_a_resample_leaves_out(tmp_path: Path) -> None:
    """A tag of a single song is absent from about a third of the draws; the others are then the mean."""
    path = write_run(tmp_path, "waveform_small", "waveform", 0.75, songs=50, tags=4, regression_tags=0)
    arrays = dict(np.load(path / "predictions.npz"))
    arrays["targets"][:, 3] = 0
    arrays["targets"][7, 3] = 1
    np.savez(path / "predictions.npz", **arrays)
    study = read_study(tmp_path)
    (run,) = study.runs
    draws = resampled(study, 300)
    missing = np.isnan(draws.by_tag[run.folder.name]["roc_auc"])
    assert not missing[:, :3].any()
    assert 0.25 < missing[:, 3].mean() < 0.5  # (1 - 1/50)^50 = 0.364
    assert np.isfinite(draws[run.folder.name]["roc_auc"]).all()
    drawn = np.concatenate(list(song_resamples(50, 300, 0)), axis=1)
    assert np.array_equal(missing[:, 3], drawn[7] == 0)


def test_a_resample_without_any_score_counts_as_the_mean(tmp_path: Path) -> None:
    path = write_run(tmp_path, "waveform_small", "waveform", 0.75, songs=50, tags=1, regression_tags=0)
    arrays = dict(np.load(path / "predictions.npz"))
    arrays["targets"][:] = 0
    arrays["targets"][7] = 1
    np.savez(path / "predictions.npz", **arrays)
    study = read_study(tmp_path)
    (run,) = study.runs
    draws = resampled(study, 300)
    missing = np.isnan(draws.by_tag[run.folder.name]["roc_auc"][:, 0])
    assert 0.25 < missing.mean() < 0.5
    once = song_metrics(arrays["scores"], arrays["targets"], ["tag 00"], ["classification"], resamples=0)["roc_auc"]
    assert draws[run.folder.name]["roc_auc"][missing] == pytest.approx(once["value"])


def test_weighted_sums_use_the_same_draws() -> None:
    values = np.random.default_rng(1).random((30, 2))
    weights = np.concatenate(list(song_resamples(30, RESAMPLES, 5)), axis=1)
    np.testing.assert_allclose(weighted_sums(values, RESAMPLES, 5), weights.T @ values)


def test_intervals_are_centred_on_the_value() -> None:
    drawn = np.append(np.linspace(0, 1, 101), np.nan)
    assert interval(3.0, drawn, 0.9) == pytest.approx((2.55, 3.45))
    assert interval(3.0, np.array([np.nan]), 0.9) == (3.0, 3.0)


def test_seeds_that_both_have_are_compared() -> None:
    assert same_seeds([2, 0, 1], [1, 2, 5]) == ([1, 2], [1, 2], True)
    assert same_seeds([0], [0, 1, 2]) == ([0], [0], True)
    assert same_seeds([0, 1, 2], [0, 7]) == ([0, 1, 2], [0, 7], False)
    assert same_seeds([1, 2], [3, 2]) == ([2, 1], [2, 3], False)
    assert same_seeds([0, 1], [2]) == ([0, 1], [2], False)


def test_the_scores_of_seeds_begin_with_the_measured_ones(study: Study) -> None:
    draws, cell = resampled(study, RESAMPLES), study.cell("waveform_small", (250,))
    scores = seeds_of(cell, draws, "pr_auc")
    assert scores[0].tolist() == [run.value("pr_auc") for run in cell]
    assert np.array_equal(scores[1:, 1], draws[cell[1].folder.name]["pr_auc"])


def test_values_are_those_of_the_runs_own_files(tmp_path: Path) -> None:
    """Also for a system that stands at chance and one that is nearly perfect."""
    systems = {"waveform_small": System("waveform", 0.5, 0.0), "spectrogram_small": System("spectrogram", 0.97, 0.0)}
    write_study(tmp_path, sizes=(250,), systems=systems, seeds=(0,), songs=60, tags=5)
    study = read_study(tmp_path)
    draws = resampled(study, RESAMPLES)
    for run in study.runs:
        for metric in study.metrics:
            assert draws[run.folder.name][metric].mean() == pytest.approx(run.value(metric), abs=1e-12)
