"""The registry of metrics: what its entries compute, and that one more of them arrives everywhere."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
from rich.console import Console
from scipy.stats import norm

from musictag.cli.status import show
from musictag.common.errors import MusictagError
from musictag.evaluation.metrics import METRICS, Metric, monitors
from musictag.evaluation.song_metrics import song_metrics
from musictag.evaluation.tables import result_table, tag_table
from musictag.evaluation.weighting import ScoredSongs, Weighted, label_ranking_precision
from musictag.experiment import run as experiment
from musictag.experiment.results.files import results_as_asked
from musictag.experiment.sweeps.status import Job
from musictag.experiment.tracking import tracker as tracking
from musictag.report import comparison
from musictag.report.build import make_report
from musictag.report.study import read_study
from tests.helpers.experiments import TINY, compose_config, folders
from tests.helpers.studies import write_study


def draw(songs: int = 120, tags: int = 9, decimals: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Scores of some use and targets, S×K; some songs have no tag."""
    rng = np.random.default_rng(5)
    targets = (rng.random((songs, tags)) < 0.15).astype(np.float32)
    scores = (1 / (1 + np.exp(-rng.normal(size=(songs, tags)) - targets))).astype(np.float32)
    return scores if decimals is None else scores.round(decimals), targets


def metrics_of(scores: np.ndarray, targets: np.ndarray, kinds: list[str] | None = None, **more) -> dict:
    names = [f"tag {k}" for k in range(scores.shape[1])]
    return song_metrics(scores, targets, names, kinds or ["classification"] * len(names), **{"resamples": 50} | more)


# the three beyond the paper's


@pytest.mark.parametrize("decimals", [None, 1])
def test_best_f1_is_that_of_the_best_threshold_of_each_tag(decimals: int | None) -> None:
    scores, targets = draw(decimals=decimals)
    targets[::5, 2] = np.nan
    metrics = metrics_of(scores, targets)
    expected = []
    for k in range(scores.shape[1]):
        known = ~np.isnan(targets[:, k])
        true, score = targets[known, k], scores[known, k]
        expected.append(max(sklearn.metrics.f1_score(true, score >= threshold) for threshold in score))
    assert [tag["f1_best"] for tag in metrics["tags"]] == pytest.approx(expected, abs=1e-12)
    assert metrics["f1_best"]["value"] == pytest.approx(np.mean(expected), abs=1e-12)
    assert metrics["f1_best"]["low"] < metrics["f1_best"]["value"] < metrics["f1_best"]["high"]
    everything = [sklearn.metrics.f1_score(targets[:, k] == 1, np.ones(120)) for k in (0, 1)]
    first = metrics_of(scores[:, :2], targets[:, :2])
    assert METRICS["f1_best"].chance(first) == pytest.approx(np.mean(everything))


@pytest.mark.parametrize("decimals", [None, 1])
def test_lrap_is_that_of_scikit_learn(decimals: int | None) -> None:
    scores, targets = draw(decimals=decimals)
    targets[0] = 1
    tagged = targets.sum(axis=1) > 0
    assert not tagged.all()
    expected = sklearn.metrics.label_ranking_average_precision_score(targets[tagged], scores[tagged])
    metrics = metrics_of(scores, targets, resamples=200)
    assert metrics["lrap"]["value"] == pytest.approx(expected, abs=1e-12)
    assert "lrap" not in metrics["tags"][0]
    weights = np.random.default_rng(0).integers(0, 3, size=(120, 1))
    drawn = METRICS["lrap"].values(ScoredSongs(scores, targets, ["classification"] * 9).under(weights))
    weighted = sklearn.metrics.label_ranking_average_precision_score(
        targets[tagged], scores[tagged], sample_weight=weights[tagged, 0]
    )
    assert drawn == pytest.approx([weighted], abs=1e-12)
    assert 0.01 < metrics["lrap"]["high"] - metrics["lrap"]["low"] < 0.2


def test_unknown_tags_of_a_song_take_no_part_in_lrap() -> None:
    scores = np.array([[0.9, 0.8, 0.7, 0.1]] * 2 + [[0.5, 0.4, 0.3, 0.2]] * 3)
    nan = np.nan
    targets = np.array([[1, 0, 1, 0], [nan, 0, 1, 1], [0, 0, nan, 0], [1, nan, 1, 1], [nan] * 4], dtype=np.float32)
    found = label_ranking_precision(scores, targets)
    assert found[:2] == pytest.approx([(1 + 2 / 3) / 2, (1 / 2 + 2 / 3) / 2])
    assert np.isnan(found[[2, 4]]).all()
    assert found[3] == 1
    kinds = ["classification"] * 3 + ["regression"]
    alone = label_ranking_precision(scores[:, :3], targets[:, :3])
    assert metrics_of(scores, targets, kinds)["lrap"]["value"] == pytest.approx(np.nanmean(alone))


def test_songs_are_ranked_alike_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, targets = draw(decimals=1)
    whole = label_ranking_precision(scores, targets)
    monkeypatch.setattr("musictag.evaluation.weighting._ROWS", 7)
    np.testing.assert_array_equal(label_ranking_precision(scores, targets), whole)


def test_d_prime_is_that_of_the_mean_area() -> None:
    scores, targets = draw()
    metrics = metrics_of(scores, targets, resamples=100)
    area = metrics["roc_auc"]["value"]
    assert metrics["d_prime"]["value"] == pytest.approx(np.sqrt(2) * norm.ppf(area), abs=1e-12)
    assert metrics["d_prime"]["low"] < metrics["d_prime"]["value"] < metrics["d_prime"]["high"]
    assert metrics_of(1 - scores, targets)["d_prime"]["low"] < -0.5  # its bounds are not 0 and 1
    assert "d_prime" not in metrics["tags"][0]
    # perfect scores are finite: a monitor and JSON cannot do with infinity
    assert 8 < metrics_of(targets, targets)["d_prime"]["value"] <= METRICS["d_prime"].perfect < 9


def test_there_is_none_where_nothing_can_be_ranked() -> None:
    scores, targets = draw(songs=30, tags=2)
    metrics = metrics_of(scores, np.linspace(0, 1, 60, dtype=np.float32).reshape(30, 2), ["regression"] * 2)
    assert [key for key in METRICS if metrics[key] is not None] == ["rmse"]
    assert metrics_of(scores, np.zeros_like(targets))["lrap"] is None
    json.dumps(metrics, allow_nan=False)


# one more


def accuracy(weighted: Weighted) -> np.ndarray:
    """How many songs are on the right side of one half, whatever the kind of the tag: R×K."""
    songs = weighted.songs
    right = (songs.scores >= 0.5) == (songs.targets >= 0.5)
    return weighted.mean((right & songs.known).astype(np.float64), songs.known.astype(np.float64))


TOY = Metric("toy", "Toy", accuracy, chance=lambda test: 0.25, decimals=2, headline=True)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Metric:
    monkeypatch.setitem(METRICS, "toy", TOY)
    return TOY


def shown(table: object) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_one_more_entry_arrives_everywhere(
    tiny_catalogue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["data=catalogue", f"data.path={tiny_catalogue}", *TINY, *folders(tmp_path), "study=toys"]
    before = experiment.run(compose_config(*words))
    with pytest.raises(MusictagError, match="val_toy does not exist"):
        experiment.run(compose_config(*words, "monitor=val_toy"))
    monkeypatch.setitem(METRICS, "toy", TOY)

    # a run that was finished before gets it from its predictions, and keeps all else
    config = compose_config(*words)
    old = results_as_asked(experiment.results_folder(config), config)
    assert {key: value for key, value in old["test"].items() if key not in ("toy", "tags")} == {
        key: value for key, value in before["test"].items() if key != "tags"
    }
    assert 0 <= old["test"]["toy"]["low"] <= old["test"]["toy"]["value"] <= old["test"]["toy"]["high"] <= 1

    config = compose_config(*words, "seed=1", "monitor=val_toy")
    metrics = experiment.run(config)
    run_dir = experiment.results_folder(config)
    with open(run_dir / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[2 : 3 + len(METRICS)] == list(monitors())
    assert metrics["best_epoch"] == int(np.argmax([float(row["val_toy"]) for row in rows]))  # it is the monitor
    with np.load(run_dir / "predictions.npz") as found:
        classes = found["kinds"] == "classification"
        right = (found["scores"] >= 0.5) == (found["targets"] >= 0.5)
        expected = right[:, classes].mean(axis=0)
    assert metrics["test"]["toy"]["value"] == pytest.approx(expected.mean())
    assert [tag["toy"] for tag in metrics["test"]["tags"] if tag["toy"] is not None] == pytest.approx(expected)
    assert metrics["test"]["toy"]["high"] is not None

    value, low, high = (f"{metrics['test']['toy'][part]:.2f}" for part in ("value", "low", "high"))
    (line,) = (line for line in shown(result_table(metrics["test"], "run")).splitlines() if "Toy" in line)
    assert [cell.strip() for cell in line.strip("│").split("│")] == ["Toy", value, f"{low} to {high}", "0.25"]
    assert "Toy" in shown(tag_table(metrics["test"]))
    found = tracking.summary(metrics)
    assert (found["test_toy"], found["test_toy_low"]) == (
        metrics["test"]["toy"]["value"],
        metrics["test"]["toy"]["low"],
    )
    assert found["best_val_toy"] == metrics["validation"]["val_toy"]
    assert "val_toy" in tracking.curve_names()
    rows = comparison.read_rows(run_dir.parent, "toys")
    assert [row["toy"] for row in rows][1] == metrics["test"]["toy"]["value"]
    assert "Toy" in shown(comparison.table(rows))


def test_one_more_entry_arrives_in_a_report(tmp_path: Path, toy: Metric) -> None:
    write_study(tmp_path / "runs", sizes=(250, 500, 1000), seeds=(0, 1), songs=60, tags=4)
    report = make_report(read_study(tmp_path / "runs", "sizes"), tmp_path / "out", songs=2, audio=False, resamples=100)
    runs = report.tables["runs"]
    assert {row[runs.columns.index("toy")] for row in runs.rows} == {run.value("toy") for run in report.study.runs}
    assert "toy_sd" in report.tables["scores"].columns
    for name in ("differences", "tag_gains", "crossings", "fits"):
        table = report.tables[name]
        assert "toy" in [row[table.columns.index("metric")] for row in table.rows], name
    gains = [gain for gain in report.gains if gain.metric == "toy"]
    assert [gain.tag for gain in gains] == [tag["name"] for tag in report.study.runs[0].metrics["test"]["tags"]][:4]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Toy of every tag" in page
    assert "ROC-AUC, PR-AUC, RMSE and Toy of" in page  # what stands for the figure where it cannot be seen
    assert any("Toy" in sentence for sentence in report.answers)
    assert not any("LRAP" in sentence for sentence in report.answers)  # no headline: in the tables alone
    assert "LRAP" in page
    assert "| LRAP |" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


def test_results_without_a_metric_are_still_reported(tmp_path: Path, toy: Metric) -> None:
    written = write_study(tmp_path / "runs", sizes=(250, 500), seeds=(0,), songs=60, tags=4)
    for (system, _, _), folder in written.items():
        content = json.loads((folder / "metrics.json").read_text())
        del content["test"]["f1_best"]  # nobody has it
        for tag in content["test"]["tags"]:
            del tag["f1_best"]
        if system == "waveform_small":  # one of the systems has it
            del content["test"]["toy"]
        (folder / "metrics.json").write_text(json.dumps(content))
    study = read_study(tmp_path / "runs", "sizes")
    assert "toy" not in study.metrics
    report = make_report(study, tmp_path / "out", songs=2, audio=False, resamples=100)
    lines = (tmp_path / "out" / "report.md").read_text(encoding="utf-8").splitlines()
    headings = next(line for line in lines if line.startswith("| training songs | system |")).strip("| ").split(" | ")
    assert "F1 (best)" not in headings
    cells = {
        row["system"]: row["Toy"]
        for line in lines
        if (row := dict(zip(headings, line.strip("| ").split(" | "), strict=False))).get("training songs") == "250"
        and "Toy" in row
    }
    assert cells["waveform\\_small"] == "–"
    assert cells["spectrogram\\_small"] not in ("–", "")
    runs = [dict(zip(report.tables["runs"].columns, row, strict=True)) for row in report.tables["runs"].rows]
    assert {run["toy"] for run in runs if run["system"] == "waveform_small"} == {None}


def test_status_shows_the_headlines(toy: Metric) -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    scores = {"roc_auc": 0.75, "toy": 0.5}
    show("toys", [Job("a job", Path("nowhere"), "done", 2, 2, None, 3.0, scores=scores)], console)
    text = console.export_text()
    assert "Toy" in text
    assert "0.750" in text
    assert " 0.50 " in text
    assert "LRAP" not in text


def test_a_metric_is_of_the_tags_of_its_kind(toy: Metric) -> None:
    scores, targets = draw(tags=3)
    metrics = metrics_of(scores, targets, ["classification", "regression", "classification"])
    assert [tag["toy"] is None for tag in metrics["tags"]] == [False, True, False]
    METRICS["toy"] = Metric("toy", "Toy", accuracy, kind="all")
    metrics = metrics_of(scores, targets, ["classification", "regression", "classification"])
    assert None not in [tag["toy"] for tag in metrics["tags"]]


def test_what_no_metric_can_be() -> None:
    for key in ("songs", "tags", "loss", "known", "a b"):
        with pytest.raises(ValueError, match="cannot be called"):
            Metric(key, "Name", accuracy)
    with pytest.raises(ValueError, match="better='high'"):
        Metric("toy", "Toy", accuracy, better="high")
    with pytest.raises(ValueError, match="kind='genre'"):
        Metric("toy", "Toy", accuracy, kind="genre")


def test_which_way_is_better() -> None:
    lower = [name for name, better in monitors().items() if better == "min"]
    assert lower == ["val_loss", "val_rmse"]
    assert (METRICS["rmse"].sign, METRICS["rmse"].perfect) == (-1, 0.0)
    assert (METRICS["roc_auc"].sign, METRICS["roc_auc"].perfect) == (1, 1.0)
