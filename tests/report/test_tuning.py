"""What a study took over from a tuning study is in its report, and is no factor of it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from musictag.report.build import make_report
from musictag.report.study import read_study
from musictag.report.tables.tuning import tuned_systems, tuning_sheet
from tests.experiment.test_tuning import write_tuning
from tests.helpers.studies import write_run

#: By number of songs: where it was tuned, and the learning rate that was best there.
TAKEN = {250: (250, 0.001), 500: (250, 0.001), 2000: (1000, 0.004)}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    write_tuning(tmp_path)
    for songs, (tuned, rate) in TAKEN.items():
        for seed in (0, 1):
            made = write_run(
                tmp_path / "songbook", "waveform_small", "waveform", 0.6 + songs / 10_000, seed=seed, study="main",
                settings={"data.train_songs": songs, "optimizer.lr": rate}, songs=40, tags=3,
            )  # fmt: skip
            metrics = json.loads((made / "metrics.json").read_text())
            taken = {"songs": tuned, "monitor": "val_pr_auc", "settings": {"optimizer.lr": rate}}
            taken["instead_of"] = {"optimizer.lr": 0.001}
            metrics["config"]["tuning"] = {"study": "tuned", "grid": None, "point": None, "taken": taken}
            metrics["config"]["trainer"]["max_epochs"] = 7
            (made / "metrics.json").write_text(json.dumps(metrics))
    return tmp_path


def test_the_report_says_what_was_chosen_and_how_much_it_matters(runs: Path, tmp_path: Path) -> None:
    study = read_study(runs, "main")
    assert study.factors == ["data.train_songs"]
    make_report(study, tmp_path / "out", songs=2, resamples=100, audio=False)
    with (tmp_path / "out" / "tuning.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["tuned_songs"], row["used_songs"], row["settings"], row["runs"]) for row in rows] == [
        ("250", "250 500", "learning rate 0.001", "4"),
        ("1000", "2000", "learning rate 0.004", "4"),
    ]
    scores = [[float(row[key]) for key in ("best", "default", "median", "worst")] for row in rows]
    assert scores == [pytest.approx([0.33, 0.33, 0.32, 0.31]), pytest.approx([0.445, 0.405, 0.425, 0.405])]
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "What each system was tuned to" in text
    assert "4 runs at each tuned number of songs" in text
    assert "with other settings than it was then trained with: trainer.max" in text


@pytest.mark.parametrize(
    ("rate", "factors"), [(0.004, ["data.train_songs"]), (0.002, ["data.train_songs", "optimizer.lr"])]
)
def test_a_run_that_was_given_what_others_took_over_is_one_of_them(runs: Path, rate: float, factors: list[str]) -> None:
    write_run(
        runs / "songbook", "waveform_small", "waveform", 0.8, seed=2, study="main",
        settings={"data.train_songs": 2000, "optimizer.lr": rate}, songs=40, tags=3,
    )  # fmt: skip
    for path in (runs / "songbook").glob("*/metrics.json"):
        metrics = json.loads(path.read_text())
        if metrics["config"]["trainer"]["max_epochs"] != 7 and metrics["study"] == "main":
            metrics["config"]["trainer"]["max_epochs"] = 7
            path.write_text(json.dumps(metrics))
    assert read_study(runs, "main").factors == factors


def test_a_tuning_study_that_is_gone_is_said_to_be(runs: Path) -> None:
    (runs / "songbook" / "study-tuned.json").unlink()
    rows, notes = tuned_systems(read_study(runs, "main"))
    assert [row.settings for row in rows] == [{"optimizer.lr": 0.001}, {"optimizer.lr": 0.004}]
    assert any("the scores cannot be shown (tuning.study=tuned: there is no such study" in note for note in notes)
    assert tuning_sheet(rows, notes).rows[0][4].text == "–"
