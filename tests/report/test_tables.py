"""The tables of a report: the numbers of the runs, the best in bold, and names that are nobody's markup."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest

from musictag.evaluation.metrics import METRICS
from musictag.report.content import Table
from musictag.report.statistics.paired_tests import paired_test, tag_gains
from musictag.report.statistics.popularity import exclusive, popularity
from musictag.report.statistics.resampling import resampled
from musictag.report.study import Study, read_study
from musictag.report.tables import details as tables
from musictag.report.tables.formats import Cell, Sheet, join, number, text, to_latex, to_markdown, write_csv
from musictag.report.tables.published_scores import PUBLISHED, published_beside
from musictag.report.tables.scores import chance, run_rows, score_rows, score_sheet, score_table
from tests.helpers.studies import SYSTEMS, WITH_TREES, write_run, write_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("study")
    write_study(folder, sizes=(250, 1000), systems=WITH_TREES, songs=120, tags=6)
    return read_study(folder, "sizes")


def changed_study(folder: Path, change: Callable[[dict[str, Any]], None], **settings: Any) -> Study:
    """A written study whose metrics.json files ``change`` has gone over."""
    write_study(folder, **({"sizes": (250, 1000), "seeds": (0,), "songs": 60, "tags": 4} | settings))
    for path in folder.glob("*/metrics.json"):
        metrics = json.loads(path.read_text())
        change(metrics)
        path.write_text(json.dumps(metrics))
    return read_study(folder)


def test_scores_are_means_and_deviations_of_the_runs(study):
    sheet = score_sheet(study, [], "")
    assert sheet.headings == [
        "training songs", "system", *(metric.label for metric in METRICS.values()),
        "seeds", "parameters", "training time",
    ]  # fmt: skip
    shown = {(row[0].text, row[1].text): row for row in sheet.rows}
    assert list(shown) == [(size, system) for size in ("250", "1,000") for system in study.systems]
    for (size, system), row in shown.items():
        runs = study.cell(system, (int(size.replace(",", "")),))
        values = [run.value("pr_auc") for run in runs]
        assert row[3].text == f"{fmean(values):.3f} ± {stdev(values):.3f}"
        assert row[3].value == pytest.approx(fmean(values))
        assert row[-3].text == "3"
    assert shown["250", "gbt"][-2].text == "–"
    assert shown["250", "waveform_small"][-1].text == "1.0 min"
    assert "Mean ± standard deviation over the seeds" in sheet.notes[0]
    assert "RMSE: lower is better" in sheet.notes[0]


def test_the_best_of_each_condition_is_bold_and_errors_are_best_when_small(study):
    rows = score_rows(study)
    for condition in study.conditions:
        of = [row for row in rows if row.condition == condition]
        for metric, best in (("roc_auc", max), ("rmse", min)):
            winner = best(row.scores[metric].value for row in of)
            assert {row.system for row in of if row.scores[metric].best} == {
                row.system for row in of if round(row.scores[metric].value, 3) == round(winner, 3)
            }


def test_equal_to_three_decimals_is_equally_bold(tmp_path):
    values = iter((0.70041, 0.70049, 0.6))

    def change(metrics: dict[str, Any]) -> None:
        metrics["test"]["roc_auc"]["value"] = next(values)

    study = changed_study(tmp_path, change, sizes=(250,), systems=WITH_TREES)
    assert sorted(row.scores["roc_auc"].best for row in score_rows(study)) == [False, True, True]
    alone = changed_study(
        tmp_path / "alone", lambda metrics: None, systems={"waveform_small": SYSTEMS["waveform_small"]}
    )
    assert not any(score.best for row in score_rows(alone) for score in row.scores.values())


def test_one_seed_has_the_interval_of_its_run(tmp_path):
    study = changed_study(tmp_path, lambda metrics: None)
    sheet = score_sheet(study, [], "")
    entry = study.runs[0].metrics["test"]["roc_auc"]
    assert sheet.rows[0][2].text == f"{entry['value']:.3f} ({entry['low']:.3f} to {entry['high']:.3f})"
    assert "±" not in to_markdown(sheet)
    assert "One seed; in brackets the 95% interval over songs" in sheet.notes[0]


def test_what_is_missing_is_said(tmp_path):
    folders = write_study(tmp_path, sizes=(250, 500), songs=60, tags=4)
    for path in folders["waveform_small", 500, 2].iterdir():
        path.unlink()
    sheet = score_sheet(read_study(tmp_path), [], "")
    assert any("Incomplete" in note and "2 of 3 seeds" in note for note in sheet.notes)


def test_chance_stands_below(study):
    sheet = score_sheet(study, [], "about")
    (foot,) = sheet.foot
    test = study.runs[0].metrics["test"]
    assert [cell.text for cell in foot[1:5]] == [
        "chance", "0.500", f"{test['chance_pr_auc']:.3f}", f"{chance(study)['rmse']:.3f}"
    ]  # fmt: skip
    errors = [tag["rmse_of_mean"] for tag in test["tags"] if tag["rmse_of_mean"] is not None]
    assert chance(study)["rmse"] == pytest.approx(np.mean(errors))
    assert "about" in sheet.notes


def test_csv_has_every_digit(study, tmp_path):
    write_csv(tables.run_table(study), tmp_path / "runs.csv")
    write_csv(score_table(study), tmp_path / "scores.csv")
    with (tmp_path / "runs.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [float(line["pr_auc"]) for line in lines] == [run.value("pr_auc") for run in study.runs]
    assert {line["parameters"] for line in lines if line["system"] == "gbt"} == {""}
    assert [line["run"] for line in lines] == [run.folder.name for run in study.runs]
    assert [int(line["data.train_songs"]) for line in lines] == [run.train_songs for run in study.runs]
    with (tmp_path / "scores.csv").open(newline="") as file:
        means = list(csv.DictReader(file))
    cell = study.cell("gbt", (1000,))
    (line,) = [line for line in means if line["system"] == "gbt" and line["data.train_songs"] == "1000"]
    assert float(line["roc_auc"]) == fmean(run.value("roc_auc") for run in cell)
    assert float(line["roc_auc_sd"]) == stdev(run.value("roc_auc") for run in cell)
    assert run_rows(study)[0]["system"] == study.runs[0].system


def test_every_file_calls_a_list_the_same(tmp_path):
    for units in ((64, 128), (64, 256)):
        for name, system in SYSTEMS.items():
            settings = {"backend.dense_units": list(units)}
            write_run(tmp_path, name, system.family, 0.7, settings=settings, songs=60, tags=4)
    study = read_study(tmp_path)
    tested = tables.difference_table(study, paired_test(study, resampled(study, 100), metrics=["roc_auc"]))
    for table in (score_table(study), tables.run_table(study), tested):
        place = table.columns.index("backend.dense_units")
        assert {row[place] for row in table.rows} == {"64/128", "64/256"}, table.title
    assert {row[0].text for row in score_sheet(study, [], "").rows} == {"64/128", "64/256"}


def test_tags_without_a_prevalence_have_as_many_cells(study):
    """A metric of all kinds of tags has some of both."""
    gains = tag_gains(study, resampled(study, 100))
    mixed = [replace(gain, metric="roc_auc") for gain in gains if gain.metric in ("rmse", "roc_auc")]
    for ordered in (mixed, mixed[::-1]):
        sheet = tables.gain_sheets(study, ordered)["roc_auc"]
        assert {len(row) for row in sheet.rows} == {len(sheet.headings)}
        assert [row[1].text == "–" for row in sheet.rows] == [gain.kind == "regression" for gain in ordered]


def test_differences_and_gains_say_which_way_and_how_sure(study):
    draws = resampled(study, 200)
    differences = paired_test(study, draws)
    sheet = tables.difference_sheet(study, differences)
    assert "all rows of a metric" in sheet.notes[0]
    assert "from which validation scores selected" in tables.difference_sheet(study, differences, picked=True).notes[0]
    assert len(sheet.notes) == 1  # three seeds
    two = tables.difference_sheet(study, [replace(d, seeds=2) for d in differences])
    assert two.notes[1].startswith("Two seeds say little about the variation between seeds")
    for row, d in zip(sheet.rows, differences, strict=True):
        assert row[4].value == d.value
        assert row[4].bold == (d.p_holm < 0.05)
        assert row[4].text.startswith("+" if d.value >= 0 else "−")
    assert tables.difference_table(study, differences).rows[0][:3] == ["waveform_small", "spectrogram_small", 250]
    gains = tag_gains(study, draws)
    sheets = tables.gain_sheets(study, gains)
    assert [len(sheet.rows) for sheet in sheets.values()] == [6, 6, 2, 6]
    first, sheet = gains[0], sheets["roc_auc"]
    change = first.size_gains["waveform_small"]
    gain = sheet.rows[0][sheet.headings.index("waveform_small: gain")]
    assert gain.value == change.value
    assert gain.bold == (change.p_adjusted < 0.05)
    assert "Benjamini" in sheet.notes[1]
    assert "Scores with 1,000 training songs" in sheet.notes[0]
    assert "250 training songs" in sheet.notes[0]
    assert "songs with it" not in sheets["rmse"].headings
    assert any("negative change is an improvement" in note for note in sheets["rmse"].notes)
    table = tables.gain_table(study, gains)
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_popular_and_exclusive_tags_as_tables(study):
    draws = resampled(study, 100)
    rows = popularity(study, draws)
    table, sheet = tables.popularity_table(study, rows), tables.popularity_sheet(study, rows)
    assert len(table.rows) == len(sheet.rows) == len(study.systems) * len(study.conditions)
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert table.rows[0][table.columns.index("calibration_slope")] == rows[0].calibration_slope[0]
    found = exclusive(study, draws)
    sheets = tables.exclusive_sheets(study, found)
    # the first two tags of these studies never meet
    assert [cell.text for cell in sheets["exclusive_pairs"].rows[0][:2]] == ["tag 00", "tag 01"]
    assert len(sheets["exclusive"].rows) == len(tables.exclusive_table(study, found).rows) == len(found.means)


def test_settings_that_all_runs_share(study):
    shared = {row[0].text: row[1].text for row in tables.settings_sheet(study).rows}
    assert shared["trainer.max_epochs"] == str(study.runs[0].config["trainer"]["max_epochs"])
    assert not {"data.train_songs", "seed"} & set(shared)


HOSTILE = Sheet(
    "50% of <b>a_b</b>",
    ["tag", "s|core"],
    [[Cell("a|b*c*\n`d` [x](y) $e$ & <script>"), Cell("−0.1 ± 0.2", -0.1, bold=True)]],
    frozenset({1}),
    foot=[[Cell("chance"), Cell("")]],
    notes=[r"{\input{x}} #1 ~ ^"],
)


def test_names_are_no_markdown():
    written = to_markdown(HOSTILE)
    assert r"a\|b\*c\* \`d\` \[x\](y) \$e\$ \& \<script\>" in written
    assert "**−0.1 ± 0.2**" in written
    assert "### 50% of \\<b\\>a" in written
    lines = [line for line in written.splitlines() if line.startswith("|")]
    assert [line.replace("\\|", "").count("|") for line in lines] == [3, 3, 3, 3]
    assert lines[1] == "|---|---:|"


def test_names_are_no_latex():
    written = to_latex(HOSTILE, "hostile")
    assert (
        r"a\textbar{}b*c* `d` [x](y) \$e\$ \& \textless{}script\textgreater{} & \textbf{$-$0.1 $\pm$ 0.2} \\" in written
    )
    assert r"\{\textbackslash{}input\{x\}\} \#1 \textasciitilde{} \textasciicircum{}" in written
    assert r"\caption{50\% of \textless{}b\textgreater{}a\_b" in written
    assert r"\begin{tabular}{lr}" in written
    assert written.count(r"\midrule") == 2  # below the headings, above chance
    plain = written.replace(r"\{", "").replace(r"\}", "")
    assert plain.count("{") == plain.count("}")


def test_cells():
    assert text(1234).text == "1,234"
    assert text(None).text == number(None).text == number(float("nan")).text == "–"
    assert text((3, "a")).text == "3, a"
    assert text(True).text == "yes"
    assert number(-0.12345).text == "−0.123"
    assert [join(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]


def test_csv_leaves_unknown_cells_empty(tmp_path):
    write_csv(Table("t", ["a", "b"], [["x,\n", None], [0.1, 2]]), tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["a", "b"], ["x,\n", ""], ["0.1", "2"]]


def test_published_scores_go_with_their_split_only(study, tmp_path):
    assert {row.status for row in PUBLISHED} == {"seen", "counted", "digest"}
    assert all(0.5 < float(row.roc_auc) < 1 and 0 < float(row.pr_auc or 0.1) < 1 and row.source for row in PUBLISHED)
    # what was seen in a digest of the paper only is never said to have been seen in the paper
    assert {row.status for row in PUBLISHED if row.source.startswith("Pons")} == {"digest"}
    beside, words = published_beside(study)
    assert beside == []
    assert "never comparable" in words

    def on(data: str, **settings: Any) -> Study:
        def change(metrics: dict[str, Any]) -> None:
            metrics["data"] = data
            metrics["config"]["data"] |= {"max_seconds": None} | settings

        folder = tmp_path / f"{data}-{len(list(tmp_path.iterdir()))}"
        return changed_study(folder, change, sizes=(250,))

    original = on("magnatagatune", split="original", merge_synonyms=False)
    beside, words = published_beside(original)
    assert {row.split for row in beside} == {"original"}
    assert "split original" in words
    assert "not comparable" in words
    sheet = score_sheet(original, beside, words)
    foot, place = sheet.foot, sheet.headings.index("PR-AUC")
    assert [row[place].text for row in foot][1:] == [row.pr_auc or "–" for row in beside]
    assert "(original; seen, README of CLMR)" in foot[1][0].text
    assert [row.model for row in published_beside(on("magnatagatune", split="clean"))[0]] == ["Short-chunk CNN + Res"]
    assert published_beside(on("magnatagatune", split="original", merge_synonyms=True))[0] == []
    assert published_beside(on("msd", split="standard", max_seconds=10))[0] == []
    standard = on("msd", split="standard")
    beside, words = published_beside(standard)
    assert len(beside) == 10
    foot = {row[place - 2].text: row[place].text for row in score_sheet(standard, beside, words).foot[1:]}
    (papers,) = (name for name in foot if "Pons et al. 2018, spectrogram" in name)
    assert papers.endswith("(standard; digest, Pons et al. 2018)")
    assert {row.model for row in beside if row.pr_auc is None} == {
        "SampleCNN 2017", "CRNN 2017", "Multi-level, multi-scale 2018", "Multi-level, multi-scale on spectrograms 2017",
    }  # fmt: skip
    assert len(published_beside(on("jamendo", subset="top50", split=0))[0]) == 2
    assert published_beside(on("jamendo", subset="genre", split=0))[0] == []
    assert published_beside(on("catalogue"))[1] == "No published scores are known for catalogue."
