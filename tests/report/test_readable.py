"""A reader understands the report of any runs: short findings, names instead of lists, figures that fit."""

from __future__ import annotations

import html
import re
from pathlib import Path

import matplotlib.image
import pytest

from musictag.report.build import make_report
from musictag.report.content import Report
from musictag.report.figures import panels
from musictag.report.page.summary import lead
from musictag.report.study import read_study
from tests.helpers.marks import first_fast
from tests.helpers.motley import COLLECTIONS, SONGS
from tests.helpers.studies import write_run

TWO_LINES = 170  # characters at the width of the page
WIDEST, TALLEST = 1450, 3200  # pixels


def report_of(name: str, folder: Path) -> tuple[Report, str]:
    COLLECTIONS[name](folder / "runs")
    report = make_report(read_study(folder / "runs"), folder / "out", songs=2, resamples=100)
    return report, html.unescape((folder / "out" / "report.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "name", first_fast(["six_settings", *(name for name in COLLECTIONS if name != "six_settings")])
)
def test_a_page_can_be_grasped(name: str, tmp_path: Path) -> None:
    report, page = report_of(name, tmp_path)
    assert len(report.answers) <= 8
    assert len(report.answers[0]) <= TWO_LINES
    assert all(len(sentence) <= 3 * TWO_LINES for sentence in report.answers)
    assert len(lead(report.study)) <= TWO_LINES
    text = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
    ids = re.findall(r' id="([^"]*)"', text)
    assert len(ids) == len(set(ids)) > 10
    assert "()" not in text
    assert "()" not in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    for path in report.figures.values():
        height, width, _ = matplotlib.image.imread(path).shape
        assert width <= WIDEST, path.name
        assert height <= TALLEST, path.name
    for name, table in report.tables.items():
        assert len(table.columns) == len(set(table.columns)), name
    if report.study.legend:
        assert "What the settings are" in text
        assert all(line.name in text for line in report.study.legend)


def test_a_figure_says_what_it_leaves_out(tmp_path: Path) -> None:
    best = None
    for place in range(30):
        settings = {"optimizer.lr": 0.001 * (1 + place), "backend.dropout": 0.01 * place}
        run = write_run(tmp_path, "waveform_small", "waveform", 0.6 + 0.01 * place, settings=settings, **SONGS)
        best = run if place == 29 else best
    study = read_study(tmp_path)
    entries = study.conditions
    shown = panels.best_of(study, entries, lambda condition: study.cell("waveform_small", condition), 5)
    assert len(shown) == 5
    assert study.conditions[-1] in shown  # the base
    assert next(run.condition for run in study.runs if run.folder == best) in shown
    assert panels.left_out(study, shown, entries, "rows").startswith("5 of 30 rows, chosen by PR-AUC")
    assert panels.left_out(study, shown, shown, "rows") == ""
