"""The report of a study in Weights & Biases, recorded for real, offline; and its dashboards, described as code."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

from musictag.common.errors import MusictagError
from musictag.report.content import Report, Table
from musictag.report.statistics.crossing import Crossing
from musictag.report.study import read_study
from musictag.report.wandb.log import factor_values, line_charts, log_report, means_of
from musictag.report.wandb.workspace import build_report, build_workspace, save_workspace
from tests.helpers.studies import SYSTEMS, WITH_TREES, write_run, write_study
from tests.helpers.wandb_files import recorded
from tests.helpers.wandb_server import wandb_server

# of the package
pytestmark = [
    pytest.mark.filterwarnings("ignore:Pydantic V1 style:DeprecationWarning"),
    pytest.mark.usefixtures("nobody_is_logged_in"),
]
NAME = """it's "a=b" <study>"""


def small_report(folder: Path, **study: Any) -> Report:
    """Two sizes, one seed, with a figure and a page on disk."""
    settings = {"sizes": (100, 400), "seeds": (0,), "songs": 40, "tags": 4, "study": NAME} | study
    write_study(folder / "runs", **settings)
    out = folder / "report"
    out.mkdir()
    figure = plt.figure(figsize=(1, 1))
    figure.savefig(out / "scaling.png")
    plt.close(figure)
    (out / "report.html").write_text("<!doctype html><title>A page</title>")
    text = "waveform_small overtakes spectrogram_small at 200 songs"
    return Report(
        study=read_study(folder / "runs", NAME),
        out=out,
        tables={"scores": Table("Scores", ["system", "PR-AUC"], [["a", 0.5], ["published", "0.38"], ["b", None]])},
        figures={"scaling": out / "scaling.png"},
        curves={},
        crossings=[Crossing("waveform_small", "spectrogram_small", "pr_auc", "trend", 200.0, [(150.0, None)], 3, text)],
        differences=[],
        gains=[],
        popularity=[],
        exclusive=None,
        answers=["Waveform wins.", "Not everywhere."],
    )


def test_a_report_is_a_run_of_the_group(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = small_report(tmp_path)
    log_report(report, "a-project", None)
    assert f"recording offline in {report.out / 'wandb'}" in capsys.readouterr().out
    folder, record = recorded(report.out)
    assert (record.run.run_group, record.run.job_type, record.run.project) == (NAME, "report", "a-project")
    assert record.run.run_id == "report-songbook-it-s-a-b-study"
    assert record.run.notes == "Waveform wins.\n\nNot everywhere."
    assert record.config["systems"] == ["waveform_small", "spectrogram_small"]
    assert record.summary["crossings"] == [report.crossings[0].text]
    assert record.table(folder, "tables/scores")["data"] == [["a", 0.5], ["published", "0.38"], ["b", None]]
    (logged,) = record.history
    assert (folder / "files" / logged["figures/scaling.path"]).read_bytes() == (report.out / "scaling.png").read_bytes()
    assert "A page" in (folder / "files" / logged["page.path"]).read_text()
    assert record.exit_code == 0


def test_its_artifact_holds_the_files_without_those_of_wandb(tmp_path: Path) -> None:
    from musictag.report.wandb.log import _artifact

    report = small_report(tmp_path)
    (report.out / "wandb").mkdir()
    (report.out / "wandb" / "debug.log").write_text("x")
    (report.out / "tables").mkdir()
    (report.out / "tables" / "scores.csv").write_text("a,b\n")
    assert set(_artifact(report.out, "report").manifest.entries) == {"report.html", "scaling.png", "tables/scores.csv"}


def test_line_charts_show_the_mean_of_the_seeds_against_the_number_that_varies(tmp_path: Path) -> None:
    write_study(tmp_path, sizes=(100, 400), seeds=(0, 1), systems=WITH_TREES, songs=40, tags=4)
    study = read_study(tmp_path)
    charts = line_charts(study)
    assert set(charts) == {f"{name}{end}" for name in study.headlines for end in ("", "_by_doublings")}
    rows = {(key, x): y for x, key, y in charts["pr_auc"].table.data}
    assert {x for _, x in rows} == {100, 400}
    assert {key for key, _ in rows} == set(WITH_TREES)
    seeds = [run.value("pr_auc") for run in study.cell("gbt", (400,))]
    assert rows["gbt", 400] == pytest.approx(sum(seeds) / 2)
    assert {x for x, _, _ in charts["pr_auc_by_doublings"].table.data} == {0, 2}


def test_what_has_no_such_setting_is_a_level_line(tmp_path: Path) -> None:
    write_study(
        tmp_path, sizes=(0.5, 1.0, 2.0), seeds=(0,), systems=WITH_TREES, factor="frontend.filter_multiplier",
        songs=40, tags=4,
    )  # fmt: skip
    study = read_study(tmp_path)
    assert factor_values(study) == [0.5, 1.0, 2.0]
    trees = means_of(study, "gbt", "roc_auc")
    assert list(trees) == [0.5, 1.0, 2.0]
    assert len(set(trees.values())) == 1
    assert set(line_charts(study)) == set(study.headlines)


def test_a_run_on_all_songs_stands_at_their_number(tmp_path: Path) -> None:
    write_study(tmp_path, sizes=(100,), seeds=(0,), systems={"waveform_small": SYSTEMS["waveform_small"]}, songs=40)
    whole = write_run(tmp_path, "waveform_small", "waveform", 0.8, settings={"data.train_songs": 900}, songs=40)
    metrics = json.loads((whole / "metrics.json").read_text())
    metrics["config"]["data"]["train_songs"] = None
    (whole / "metrics.json").write_text(json.dumps(metrics))
    assert factor_values(read_study(tmp_path)) == [100, 900]


def test_without_a_number_that_varies_there_are_bars_instead_of_lines(tmp_path: Path) -> None:
    report = small_report(tmp_path, sizes=(100,), seeds=(0, 1))
    assert line_charts(report.study) == {}
    sections = {section.name: section.panels for section in build_workspace(report, "p", "e").sections}
    assert [type(panel).__name__ for panel in sections["Scores"]] == ["BarPlot"] * 3


def test_the_workspace_shows_the_study_by_system_and_size(tmp_path: Path) -> None:
    report = small_report(tmp_path, systems=WITH_TREES)
    workspace = build_workspace(report, "a-project", "a-team")
    spec = json.loads(workspace._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))["section"]
    sections = {section["name"]: section["panels"] for section in spec["panelBankConfig"]["sections"]}
    assert list(sections) == ["Scores against training songs", "Curves", "Tags", "Songs", "Machine", "Report"]

    scores = [panel["config"] for panel in sections["Scores against training songs"]]
    assert [panel.get("xAxis") for panel in scores[:3]] == ["summary:train_songs"] * 3
    assert [panel["yAxis"] for panel in scores[:3]] == [
        f"summary:test_{name}" for name in ("roc_auc", "pr_auc", "rmse")
    ]
    assert all(panel["xAxisLogScale"] for panel in scores[:3])
    assert sections["Report"][0]["config"]["mediaKeys"] == ["figures/scaling"]
    charts = line_charts(report.study)
    tables = [panel["userQuery"]["queryFields"][0]["fields"][0]["args"][0]["value"] for panel in scores[3:6]]
    assert tables == [f"charts/{key}_table" for key in charts if key.endswith("_by_doublings")]
    assert [panel["config"]["metrics"] for panel in sections["Curves"]][:3] == [
        ["train_loss"],
        ["val_loss"],
        ["val_roc_auc"],
    ]
    assert {panel["config"]["xAxis"] for panel in sections["Curves"]} == {"epoch"}

    (runset,) = spec["runSets"]
    assert [key["name"] for key in runset["grouping"]] == ["system.value", "data.value.train_songs"]
    (group,) = runset["filters"]["filters"]
    assert (group["key"]["name"], group["value"]) == ("group", NAME)
    assert len([key for key in spec["customRunColors"] if key != "ref"]) == 3


def test_the_report_has_a_set_of_runs_for_each_system(tmp_path: Path) -> None:
    report = small_report(tmp_path, systems=WITH_TREES)
    draft = build_report(report, "a-project", "a-team")
    grids = [block for block in draft.blocks if hasattr(block, "runsets")]
    assert [runset.name for runset in grids[0].runsets] == report.study.systems
    assert [runset.name for runset in grids[-1].runsets] == ["report"]
    assert "Waveform wins." in [block.text for block in draft.blocks if type(block).__name__ == "P"]
    places = [(panel.layout.x, panel.layout.y) for panel in grids[0].panels]
    assert len(set(places)) == len(places) == 3


def test_both_are_saved_in_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = small_report(tmp_path)
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setenv("WANDB_BASE_URL", server.address)
        view, draft = save_workspace(report, "a-project", None)
    assert view.startswith(f"{server.address}/somebody/a-project?nw=")
    assert draft.startswith(f"{server.address}/somebody/a-project/reports/")
    saved = [asked for name, asked in server.asked if name.lower().startswith("upsertview")]
    assert [asked["projectName"] for asked in saved] == ["a-project"] * 2
    blocks = json.loads(saved[1]["spec"])["blocks"]
    (grid, *_) = (block["metadata"] for block in blocks if block["type"] == "panel-grid")
    filters = [runset["filters"]["filters"] for runset in grid["runSets"]]
    values = [[leaf["value"] for leaf in leaves] for leaves in filters]
    assert values == [[NAME, system] for system in report.study.systems]


def test_saving_needs_a_key(tmp_path: Path) -> None:
    with pytest.raises(MusictagError, match="wandb login"):
        save_workspace(small_report(tmp_path), "p", None)


def test_saving_needs_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    with pytest.raises(MusictagError, match="pip install wandb-workspaces"):
        save_workspace(small_report(tmp_path), "p", None)


@pytest.mark.slow
def test_where_nothing_answers_saving_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    with pytest.raises(MusictagError, match="rejected the workspace"):
        save_workspace(small_report(tmp_path), "p", "a-team")
