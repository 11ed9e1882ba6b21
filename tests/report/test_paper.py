"""The paper's figure is drawn from the numbers of its table 1, and says how little three sizes allow."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import linregress, t

from musictag.report import paper
from musictag.report.statistics.inference import margins
from tests.helpers.experiments import ROOT
from tests.report.test_figures import check

#: Its table 1 in the README: model, songs, and the scores in the paper's units.
README_ROWS = re.findall(
    r"^\| ([\w +]+) \| ([\d.]+[kM]) \| ([\d.]+) \| ([\d.]+) \| (0\.\d+) \|",
    (ROOT / "README.md").read_text().split("**1.2 million songs**")[1].split("**MagnaTagATune**")[0],
    re.M,
)


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("paper") / "new"
    paper.write(path)
    return path


def test_the_numbers_are_those_of_the_table_with_their_status(folder: Path) -> None:
    rows = read(folder / "scores.csv")
    units = {"k": 1e3, "M": 1e6}
    assert len(README_ROWS) == len(rows) == 7
    assert {(row["system"], int(row["songs"]), *(float(row[metric]) for metric in ("roc_auc", "pr_auc", "rmse")))
            for row in rows} == {
        ("trees" if "trees" in model else model, round(float(songs[:-1]) * units[songs[-1]]),
         round(float(roc_auc) / 100, 4), round(float(pr_auc) / 100, 4), float(rmse))
        for model, songs, roc_auc, pr_auc, rmse in README_ROWS
    }  # fmt: skip
    for name in ("scores", "fits", "crossings"):
        assert {row["status"] for row in read(folder / f"{name}.csv")} == {"digest"}


@pytest.mark.parametrize("fit", ["log-linear", "linear"])
@pytest.mark.parametrize("metric", ["roc_auc", "pr_auc"])
def test_slopes_and_bands_are_those_of_a_regression_with_one_degree_of_freedom(metric: str, fit: str) -> None:
    x = np.log2([1e5, 5e5, 1e6]) if fit == "log-linear" else np.array([1.0, 5.0, 10.0])
    for system in ("waveform", "spectrogram"):
        scores = paper.scores_of(system, metric)
        expected = linregress(x, scores)
        (intercept, slope), of_slope, values = paper.fit_line(scores, fit)
        assert (intercept, slope) == pytest.approx((expected.intercept, expected.slope))
        assert float(margins(of_slope)) == pytest.approx(t.ppf(0.975, 1) * expected.stderr, rel=0.01)
        # the prediction's error at the mean of the sizes is that of a mean
        errors = np.sqrt(values.seeds)
        scatter = np.sqrt(((scores - intercept - slope * x) ** 2).sum())
        assert errors.min() == pytest.approx(scatter / np.sqrt(3), rel=1e-3)
        end = np.sqrt(scatter**2 / 3 + (x[-1] - x.mean()) ** 2 * expected.stderr**2)
        assert errors[-1] == pytest.approx(end)
        assert values.value[[0, -1]] == pytest.approx(intercept + slope * x[[0, -1]])


def test_the_three_sizes_do_not_say_which_network_is_ahead(folder: Path) -> None:
    networks = [
        row for row in read(folder / "crossings.csv") if {row["system"], row["other"]} == {"waveform", "spectrogram"}
    ]
    assert len(networks) == 4
    for row in networks:
        assert row["system"] == "waveform"
        assert row["low"] == row["high"] == ""
        assert row["text"].endswith("songs, but neither is significantly ahead at any size")
    slopes = [row for row in read(folder / "fits.csv") if row["of"] == "waveform minus spectrogram"]
    assert len(slopes) == 4
    assert all(float(row["low"]) < 0 < float(row["slope"]) < float(row["high"]) for row in slopes)


def test_a_crossing_is_found_with_fiellers_interval() -> None:
    """One line so close to its points that it can be told where it meets the level of the trees."""
    found = {c.system: c for c in paper.crossings("roc_auc", "log-linear") if c.other == "trees"}
    x, scores = np.log2(paper.SIZES), paper.scores_of("spectrogram", "roc_auc") - 0.9161
    line = linregress(x, scores)
    assert found["spectrogram"].size == pytest.approx(2 ** (-line.intercept / line.slope), rel=1e-3)
    squared = t.ppf(0.975, 1) ** 2 * ((scores - line.intercept - line.slope * x) ** 2).sum()
    spread = ((x - x.mean()) ** 2).sum()
    # all places at which the line does not differ from 0: (mean + slope off)² = t² s² (1/3 + off² / spread)
    ends = np.roots([
        line.slope**2 - squared / spread, 2 * line.slope * scores.mean(), scores.mean() ** 2 - squared / 3
    ])  # fmt: skip
    low, high = np.exp2(np.sort(ends) + x.mean())
    assert (found["spectrogram"].low, found["spectrogram"].high) == pytest.approx((low, high), rel=0.01)
    assert found["waveform"].low is None
    assert found["waveform"].high is None


def test_nothing_rests_on_the_errors(folder: Path) -> None:
    """With 100,000 songs they contradict the paper's text."""
    assert {row["metric"] for name in ("fits", "crossings") for row in read(folder / f"{name}.csv")} == {
        "roc_auc", "pr_auc"
    }  # fmt: skip
    assert "RMSE" not in (folder / "scaling.svg").read_text()


def test_the_figure_says_where_its_numbers_are_from(folder: Path) -> None:
    words = ("ROC-AUC", "PR-AUC", "waveform", "spectrogram", "trees", "500,000", "status of all numbers: digest")
    check(folder / "scaling.png", *words, "waveform overtakes spectrogram: 660,000", "one degree of freedom")


def test_the_files_in_the_repository_are_these(folder: Path) -> None:
    kept = ROOT / "sweep/results/paper"
    for name in ("scores", "fits", "crossings"):
        for row, again in zip(read(kept / f"{name}.csv"), read(folder / f"{name}.csv"), strict=True):
            assert row.keys() == again.keys()
            for key, value in row.items():
                try:
                    assert float(value) == pytest.approx(float(again[key]), rel=1e-6)
                except ValueError:
                    assert value == again[key]
