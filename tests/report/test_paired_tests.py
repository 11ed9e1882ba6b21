"""Systems against each other: what is planted is found, and what is not there is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from musictag.common.errors import MusictagError
from musictag.experiment.results.ensemble import make_ensemble
from musictag.report.statistics.inference import benjamini_hochberg, holm, margins, moderated
from musictag.report.statistics.paired_tests import leading_pairs, pair_estimate, paired_test, tag_gains
from musictag.report.statistics.resampling import Draws, resampled
from musictag.report.study import Study, read_study
from tests.helpers.null_studies import null_tags
from tests.helpers.studies import SYSTEMS, WITH_TREES, System, write_study


def drawn(folder: Path, resamples: int = 400, **study: object) -> tuple[Study, Draws]:
    write_study(folder, **study)
    found = read_study(folder)
    return found, resampled(found, resamples)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Draws]:
    """Spectrogram ahead of waveform at 250 songs (0.70, 0.64), behind it at 2,000 (0.76, 0.79)."""
    return drawn(tmp_path_factory.mktemp("study"), sizes=(250, 2000), songs=500, systems=WITH_TREES)


def test_a_planted_difference_is_found_on_both_sides(study: tuple[Study, Draws]) -> None:
    found, draws = study
    small, large = paired_test(found, draws, [("waveform_small", "spectrogram_small")], ["roc_auc"])
    assert (small.condition, large.condition) == ((250,), (2000,))
    for one, sign in ((small, -1), (large, 1)):
        cells = [found.cell(system, one.condition) for system in ("waveform_small", "spectrogram_small")]
        means = [np.mean([run.value("roc_auc") for run in cell]) for cell in cells]
        assert one.value == pytest.approx(means[0] - means[1])
        assert one.low < one.value < one.high
        assert sign * one.low > 0
        assert sign * one.high > 0
        assert one.p_holm < 0.05
        assert (one.seeds, one.paired_seeds) == (3, True)
    assert [one.p_holm for one in (small, large)] == holm([small.p, large.p])


def test_all_pairs_are_tested_and_corrected_together(study: tuple[Study, Draws]) -> None:
    found, draws = study
    tested = paired_test(found, draws, metrics=["pr_auc"])
    assert len(tested) == 3 * 2
    assert [one.p_holm for one in tested] == holm([one.p for one in tested])
    with pytest.raises(MusictagError, match=r"there is no system nobody; the study has waveform_small, spec"):
        paired_test(found, draws, [("nobody", "gbt")])


def test_the_largest_of_many_sizes_has_the_seeds_of_the_smaller_ones(tmp_path: Path) -> None:
    found, draws = drawn(tmp_path, sizes=(250, 500, 1000), seeds=(0, 1), seed_deviation=0.02)
    pair = "waveform_small", "spectrogram_small"
    tested = paired_test(found, draws, [pair], ["roc_auc"])
    alone = [pair_estimate(found, draws, *pair, one.condition, "roc_auc")[0] for one in tested]
    assert [one.high - one.value for one in tested] == pytest.approx([float(margins(of)) for of in moderated(alone)])
    assert tested[-1].high - tested[-1].value != pytest.approx(float(margins(alone[-1])))
    assert [one.seeds for one in tested] == [2, 2, 2]


def test_systems_that_are_alike_do_not_differ(tmp_path: Path) -> None:
    alike = {"waveform_small": System("waveform", 0.75, 0.0), "spectrogram_small": System("spectrogram", 0.75, 0.0)}
    found, draws = drawn(tmp_path, sizes=(250, 500, 1000), songs=500, systems=alike)
    tested = paired_test(found, draws)
    assert min(one.p_holm for one in tested) > 0.05
    assert max(abs(one.value) for one in tested if one.metric == "roc_auc") < 0.03


def test_the_same_model_twice_is_certain_to_be_alike(tmp_path: Path) -> None:
    written = write_study(tmp_path, sizes=(250,), seeds=(0,), songs=100)
    predictions = (written["waveform_small", 250, 0] / "predictions.npz").read_bytes()
    (written["spectrogram_small", 250, 0] / "predictions.npz").write_bytes(predictions)
    metrics = (written["waveform_small", 250, 0] / "metrics.json").read_text()
    own = read_study(tmp_path).cell("spectrogram_small", ())[0].metrics
    other = (written["spectrogram_small", 250, 0] / "metrics.json").read_text()
    assert metrics != other
    found = read_study(tmp_path)
    found.cell("spectrogram_small", ())[0].metrics["test"] = found.cell("waveform_small", ())[0].metrics["test"]
    assert own["test"] != found.cell("spectrogram_small", ())[0].metrics["test"]
    for one in paired_test(found, resampled(found, 100)):
        assert (one.value, one.low, one.high, one.p) == (0, 0, 0, pytest.approx(1))
        assert one.seeds == 1


def test_other_seeds_are_no_pairs(tmp_path: Path) -> None:
    write_study(tmp_path, sizes=(250,), seeds=(0, 1), songs=100, systems={"waveform_small": SYSTEMS["waveform_small"]})
    one = {"spectrogram_small": SYSTEMS["spectrogram_small"]}
    write_study(tmp_path, sizes=(250,), seeds=(2, 3), songs=100, systems=one)
    found = read_study(tmp_path)
    (difference,) = paired_test(found, resampled(found, 100), metrics=["roc_auc"])
    assert (difference.seeds, difference.paired_seeds) == (2, False)


def test_a_baseline_without_the_factor_meets_every_condition(tmp_path: Path) -> None:
    found, draws = drawn(
        tmp_path, sizes=(0.5, 1.0), factor="frontend.filter_multiplier", songs=100, seeds=(0,), systems=WITH_TREES
    )
    tested = paired_test(found, draws, [("waveform_small", "gbt")], ["roc_auc"])
    assert [one.condition for one in tested] == [(0.5,), (1.0,)]


def test_every_tag_has_its_gains(study: tuple[Study, Draws]) -> None:
    found, draws = study
    gains = [gain for gain in tag_gains(found, draws) if gain.metric == "roc_auc"]
    assert [gain.tag for gain in gains] == [f"tag {k:02d}" for k in range(12)]
    first, pair = gains[0], ("waveform_small", "spectrogram_small")
    runs = [found.cell("waveform_small", (size,)) for size in (250, 2000)]
    means = [np.mean([run.metrics["test"]["tags"][0]["roc_auc"] for run in cell]) for cell in runs]
    assert first.scores["waveform_small"] == pytest.approx(means)
    assert first.size_gains["waveform_small"].value == pytest.approx(means[1] - means[0])
    assert first.prevalence == runs[0][0].metrics["test"]["tags"][0]["prevalence"]
    assert list(first.system_gains) == leading_pairs(found)
    one = first.system_gains[pair]
    assert one.low < one.value < one.high
    # corrected over all tags and systems, and over all tags and pairs
    for changes in (
        [list(gain.size_gains.values()) for gain in gains],
        [list(gain.system_gains.values()) for gain in gains],
    ):
        p = np.array([[change.p for change in row] for row in changes])
        adjusted = [[change.p_adjusted for change in row] for row in changes]
        np.testing.assert_allclose(adjusted, benjamini_hochberg(p))
    # 0.15 are planted for the macro score of waveform
    assert np.mean([gain.size_gains["waveform_small"].value for gain in gains]) == pytest.approx(0.15, abs=0.02)
    assert [gain.kind for gain in tag_gains(found, draws) if gain.metric == "rmse"] == ["regression"] * 2


def test_the_best_of_each_family_lead(study: tuple[Study, Draws], tmp_path: Path) -> None:
    assert leading_pairs(study[0]) == [
        ("waveform_small", "spectrogram_small"), ("waveform_small", "gbt"), ("spectrogram_small", "gbt"),
    ]  # fmt: skip
    better = {"waveform9": System("waveform", 0.9, 0.0), "waveform_small": SYSTEMS["waveform_small"]}
    write_study(tmp_path, sizes=(250,), seeds=(0,), songs=60, systems=better)
    assert leading_pairs(read_study(tmp_path)) == [("waveform9", "waveform_small")]
    write_study(tmp_path / "one", sizes=(250,), seeds=(0,), songs=60, systems={"gbt": WITH_TREES["gbt"]})
    assert leading_pairs(read_study(tmp_path / "one")) == []


def test_an_ensemble_without_validation_scores_follows_those_that_have_them(tmp_path: Path) -> None:
    systems = SYSTEMS | {"waveform9": System("waveform", 0.9, 0.0)}
    written = write_study(tmp_path, sizes=(250,), seeds=(0, 1), songs=60, tags=4, systems=systems)
    members = [written["waveform_small", 250, seed] for seed in (0, 1)]
    for folder in members:
        (folder / "tagger.safetensors").write_bytes(b"")
    make_ensemble(members, tmp_path / "mean")
    study = read_study(tmp_path)
    assert study.systems[0] == "mean of 2 waveform_small"
    assert leading_pairs(study) == [("waveform9", "spectrogram_small")]


def test_an_ensemble_is_compared_with_the_mean_of_all_seeds(tmp_path: Path) -> None:
    written = write_study(tmp_path, sizes=(250,), seeds=(0, 1, 2), songs=60, tags=4, regression_tags=0)
    members = [written["waveform_small", 250, seed] for seed in (0, 1, 2)]
    for folder in members:
        (folder / "tagger.safetensors").write_bytes(b"")
    mean = make_ensemble(members, tmp_path / "mean")
    study = read_study(tmp_path)
    pair = ("mean of 3 waveform_small", "spectrogram_small")
    (found,) = paired_test(study, resampled(study, 100), [pair], ["roc_auc"])
    others = [run.value("roc_auc") for run in study.cell("spectrogram_small", ())]
    assert found.value == pytest.approx(mean["test"]["roc_auc"]["value"] - np.mean(others))
    assert (found.seeds, found.paired_seeds) == (1, False)
    assert study.seeds == [0, 1, 2]


def test_where_errors_are_all_there_is_the_smallest_ones_lead(tmp_path: Path) -> None:
    systems = {name: System("waveform", roc_auc, 0.0) for name, roc_auc in (("a", 0.9), ("b", 0.8), ("c", 0.6))}
    written = write_study(tmp_path, sizes=(250,), seeds=(0,), songs=60, tags=0, regression_tags=3, systems=systems)
    for name, error in {"a": 0.3, "b": 0.2, "c": 0.1}.items():
        path = written[name, 250, 0] / "metrics.json"
        metrics = json.loads(path.read_text())
        metrics["validation"] = {"val_rmse": error}
        path.write_text(json.dumps(metrics))
    study = read_study(tmp_path)
    assert study.metrics == ["rmse"]
    assert leading_pairs(study) == [("c", "b")]


def test_validation_scores_choose_whom_the_test_scores_then_test(tmp_path: Path) -> None:
    systems = {f"net{i}": System("waveform", 0.6 + 0.1 * i, 0.0) for i in range(3)}
    written = write_study(tmp_path, sizes=(250,), seeds=(0,), songs=60, tags=4, systems=systems)
    assert leading_pairs(read_study(tmp_path)) == [("net2", "net1")]
    for name, value in {"net0": 0.9, "net1": 0.8, "net2": 0.1}.items():
        path = written[name, 250, 0] / "metrics.json"
        metrics = json.loads(path.read_text())
        metrics["validation"]["val_roc_auc"] = value
        path.write_text(json.dumps(metrics))
    found = read_study(tmp_path)
    assert leading_pairs(found) == [("net0", "net1")]
    # and the choice is counted: three pairs could have been these
    draws = resampled(found, 100)
    alone, among = (
        paired_test(found, draws, leading_pairs(found), ["roc_auc"], picked=picked)[0] for picked in (False, True)
    )
    assert (alone.p_holm, among.p_holm) == (alone.p, pytest.approx(min(1, 3 * alone.p)))
    for pairs, counted in ((None, 3), ([("net0", "net1")], 1)):
        gains = [gain for gain in tag_gains(found, draws, pairs) if gain.metric == "roc_auc"]
        changes = [gain.system_gains["net0", "net1"] for gain in gains]
        p = np.array([change.p for change in changes])
        assert [change.p_adjusted for change in changes] == pytest.approx(benjamini_hochberg(p, counted * len(p)))
        assert min(p) < 0.3  # so that the factor shows


def test_tags_that_do_not_differ_are_bold_in_one_table_of_twenty() -> None:
    """40 tags, two systems, three seeds, no truth: a table in 20 has a bold change of each kind, not every one."""
    bold, uncorrected = {"sizes": 0, "systems": 0}, 0
    for gains in null_tags(seeds=3, tags=40, count=100):
        of_sizes = [one for gain in gains for one in gain.size_gains.values()]
        bold["sizes"] += any(one.p_adjusted < 0.05 for one in of_sizes)
        bold["systems"] += any(one.p_adjusted < 0.05 for gain in gains for one in gain.system_gains.values())
        uncorrected += any(one.p < 0.05 for one in of_sizes)
    assert uncorrected > 90
    assert 1 <= bold["sizes"] <= 11  # 5 are to be expected
    assert 1 <= bold["systems"] <= 11
