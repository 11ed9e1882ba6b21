"""What a report says of how its runs were made: recorded where it was, open where it was not."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from musictag.report import outlook
from musictag.report.build import make_report
from musictag.report.figures.forecasts import compute_figure
from musictag.report.statistics.resampling import resampled
from musictag.report.study import Study, read_study
from musictag.report.tables import protocol
from musictag.report.tables.checklist import checklist, checklist_sheet, open_fields
from musictag.report.tables.details import run_sheet
from musictag.report.tables.formats import Sheet
from musictag.report.tables.scores import score_sheet
from tests.helpers.studies import WITH_TREES, System, write_study

ONE = {"waveform_small": System("waveform", 0.7, 0.03)}


def written(folder: Path, facts: Any = None, **settings: Any) -> Study:
    """A study whose runs also have the ``facts`` (of a run's metrics) in their metrics."""
    settings = {"systems": ONE, "sizes": (250, 500, 1000), "seeds": (0, 1), "songs": 60, "tags": 4} | settings
    for path in write_study(folder, **settings).values():
        metrics = json.loads((path / "metrics.json").read_text())
        (path / "metrics.json").write_text(json.dumps(metrics | (facts(metrics) if facts else {})))
    return read_study(folder)


def recorded(metrics: dict[str, Any]) -> dict[str, Any]:
    """As a network's run records them: at 250 songs it has not converged, and the loss would have chosen worse."""
    done, size = metrics["songs"]["train"] > 250, metrics["songs"]["train"]
    score = metrics["test"]["pr_auc"]["value"]
    return {
        "convergence": {
            "best_epoch": 8,
            "epochs": 10,
            "at_end": not done,
            "still_falling": not done,
            "converged": done,
        },
        "choices": {
            "val_pr_auc": {"epoch": 8, "validation": {"val_pr_auc": 0.5}, "test": {"pr_auc": score}},
            "val_loss": {"epoch": 3, "validation": {"val_pr_auc": 0.4}, "test": {"pr_auc": score - 0.05}},
            "last": {"epoch": 9, "validation": {}, "test": None},
        },
        "compute": {"train_flop": 1e12, "train_seconds": 50.0 + metrics["seed"], "steps": 1000, "patches": 16000},
        "seeds": {"subset": metrics["seed"], "initialisation": 7, "order": 7},
        "overlap": {"copies": size // 250 - 1 + metrics["seed"], "artists": None},
    }


def words(sheet: Sheet) -> list[list[str]]:
    return [[cell.text for cell in row] for row in sheet.rows]


def items(study: Study) -> dict[str, str]:
    return dict(checklist(study, [], [], 100))


def test_runs_that_had_not_converged_are_marked_and_counted(tmp_path: Path) -> None:
    study = written(tmp_path, recorded)
    assert protocol.convergence_words(study) == "2 of 6 trained networks had not converged (marked †)."
    scores = score_sheet(study, [], "")
    assert [row[1].text for row in scores.rows] == ["waveform_small †", "waveform_small", "waveform_small"]
    assert any(note.startswith("2 of 6 trained networks had not converged") for note in scores.notes)
    runs = run_sheet(study)
    assert [cell.text for row in runs.rows for cell in row if "†" in cell.text] == ["10 †", "10 †"]
    assert words(protocol.convergence_sheet(study))[0][2:6] == ["2", "0 of 2", "2 of 2", "2 of 2"]
    assert words(protocol.convergence_sheet(study))[1][3] == "2 of 2"
    assert items(study)["convergence"] == "2 of 6 trained networks had not converged"


def test_older_runs_leave_open_what_they_did_not_record(tmp_path: Path) -> None:
    study = written(tmp_path, systems=WITH_TREES)
    assert "was not recorded" in protocol.convergence_words(study)
    assert protocol.convergence_sheet(study) is None
    assert protocol.choice_rows(study) == []
    assert not protocol.has_compute(study)
    assert words(protocol.overlap_sheet(study)) == [[size, "open", "open"] for size in ("250", "500", "1,000")]
    assert "†" not in "".join(cell.text for row in score_sheet(study, [], "").rows for cell in row)
    assert set(open_fields(checklist(study, [], [], 100))) == {
        "overlap of the splits", "what differs between them", "tuning", "choice of the epoch", "convergence",
        "laws and how they were chosen", "error at sizes that were not fitted", "compute",
    }  # fmt: skip


def test_what_the_choice_of_the_epoch_costs(tmp_path: Path) -> None:
    study = written(tmp_path, recorded)
    rows = {row["rule"]: row for row in protocol.choice_rows(study)}
    assert set(rows) == {"val_pr_auc", "val_loss"}  # the last epoch was not tested
    assert rows["val_pr_auc"]["used"]
    assert not rows["val_loss"]["used"]
    assert rows["val_loss"]["difference"] == pytest.approx(-0.05)
    assert (rows["val_loss"]["epoch"], rows["val_loss"]["runs"]) == (4, 6)
    assert words(protocol.choice_sheet(study))[1][3] == "−0.050 (−0.050 to −0.050)"
    assert items(study)["choice of the epoch"].endswith("the best of the other choices: PR-AUC −0.050 with val_loss")


def test_a_rule_is_not_judged_by_the_runs_alone_in_which_it_agreed(tmp_path: Path) -> None:
    """Without compare_choices, only the epoch that was used is tested."""

    def choices(metrics: dict[str, Any], of_loss: int) -> dict[str, Any]:
        score = {"pr_auc": metrics["test"]["pr_auc"]["value"]}
        epochs = {"val_pr_auc": 8, "val_loss": of_loss}
        return {
            "choices": {rule: {"epoch": at, "test": score if at == 8 else None} for rule, at in epochs.items()}
        }  # fmt: skip

    sometimes = written(tmp_path / "some", lambda metrics: choices(metrics, 8 if metrics["seed"] else 3))
    assert [row["rule"] for row in protocol.choice_rows(sometimes)] == ["val_pr_auc"]
    assert items(sometimes)["choice of the epoch"].endswith("; what other choices give was not recorded")
    always = written(tmp_path / "always", lambda metrics: choices(metrics, 8))
    assert [row["rule"] for row in protocol.choice_rows(always)] == ["val_pr_auc", "val_loss"]
    assert items(always)["choice of the epoch"].endswith("; all other choices give the same epochs")


def test_compute_is_an_axis(tmp_path: Path) -> None:
    study = written(tmp_path / "runs", recorded)
    rows = protocol.compute_rows(study)
    assert [(row["songs"], row["steps"], row["flop"], row["seconds"], row["runs"]) for row in rows] == [
        (size, 1000, 1e12, 50.5, 2) for size in (250, 500, 1000)
    ]
    assert protocol.steps_words(study) == "All networks took 1,000 steps, whatever the number of songs."
    compute_figure(study, rows, "pr_auc", tmp_path / "compute.png")
    drawn = (tmp_path / "compute.svg").read_text()
    assert all(word in drawn for word in ("equal steps", "FLOP of training", "seconds of training", "1e12", "1,000"))
    assert "mathdefault" not in drawn


def test_unequal_steps_are_said(tmp_path: Path) -> None:
    study = written(tmp_path, lambda metrics: {"compute": {"steps": metrics["songs"]["train"] * 2}})
    assert protocol.steps_words(study).startswith("Steps differ, 500 to 2,000: ")
    assert [row["seconds"] for row in protocol.compute_rows(study)] == [60.0] * 3  # of the whole training


def test_equal_steps_are_said_of_those_that_recorded_them(tmp_path: Path) -> None:
    study = written(tmp_path, lambda metrics: {"compute": {"steps": 100} if metrics["seed"] else None})
    words = "All networks that recorded it took 100 steps, whatever the number of songs."
    assert protocol.steps_words(study) == words


def test_a_name_that_begins_with_open_leaves_nothing_open(tmp_path: Path) -> None:
    study = written(tmp_path, lambda metrics: {"data": "openmic"})
    stated = checklist(study, [], [], 100)
    assert dict(stated)["data"].startswith("openmic, ")
    assert "data" not in open_fields(stated)
    assert not checklist_sheet(stated).rows[0][1].bold


def test_curves_that_fall_are_why_nothing_is_held_out(tmp_path: Path) -> None:
    falling = {"waveform_small": System("waveform", 0.95, -0.15)}
    study = written(tmp_path, systems=falling, seeds=(0, 1, 2), songs=200)
    found = outlook.look_ahead(study, resampled(study, 300), {})
    assert [row for forecast in found.forecasts for row in forecast.held_out] == []
    (words,) = outlook.sections(study, found)[0].words
    assert words.endswith("that takes three sizes, and smaller ones with the shape of a learning curve.")
    assert dict(found.items)["error at sizes that were not fitted"].endswith(" and the shape of a learning curve")


def test_overlap_is_counted_per_size(tmp_path: Path) -> None:
    study = written(tmp_path, recorded)
    assert words(protocol.overlap_sheet(study)) == [["250", "1", "open"], ["500", "2", "open"], ["1,000", "4", "open"]]
    assert items(study)["overlap of the splits"] == (
        "open: artists or works not counted; identical recordings in several splits: up to 4"
    )


def test_a_report_of_runs_that_recorded_everything(tmp_path: Path) -> None:
    study = written(tmp_path / "runs", recorded)
    report = make_report(study, tmp_path / "out", songs=2, resamples=100, audio=False, targets={"pr_auc": 0.6})
    names = ("laws", "held_out", "songs_needed", "tag_outlook", "variance", "convergence", "choices", "compute",
             "overlap", "checklist")  # fmt: skip
    assert all((tmp_path / "out" / f"{name}.csv").is_file() for name in names)
    assert {"laws", "compute"} <= set(report.figures)
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "Of 3 scores at the largest sizes of 3 curves, hidden from the fits, " in text
    assert "| waveform\\_small | subset of the training songs | 0." in text
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert all(
        title in page for title in ("Predictions put to the test", "How it was trained", "What scores vary with")
    )
    with (tmp_path / "out" / "held_out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["size"] for row in rows] == ["1000"] * 3
    assert {row["hit"] for row in rows} <= {"True", "False"}
