"""What a page says of how its numbers were made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from musictag.common.files import write_json
from musictag.report.page.summary import facts, list_studies
from musictag.report.study import read_study
from musictag.report.tables.checklist import checklist
from tests.helpers.studies import write_run


def change(run: Path, **changes: Any) -> None:
    write_json(run / "metrics.json", json.loads((run / "metrics.json").read_text()) | changes)


def test_a_package_has_the_versions_of_the_runs_that_used_it(tmp_path: Path) -> None:
    network = write_run(tmp_path, "waveform_small", "waveform", 0.7, songs=40, tags=4)
    trees = write_run(tmp_path, "gbt", "baseline", 0.7, songs=40, tags=4)
    change(network, versions={"torch": "2.14.1"})
    change(trees, versions={"torch": "2.14.0", "lightgbm": "4.6.0"})
    assert dict(facts(read_study(tmp_path), 100))["Versions"] == "lightgbm 4.6.0; torch 2.14.0, 2.14.1"


def test_a_list_of_studies_counts_the_runs_that_they_share(tmp_path: Path) -> None:
    about = {"songs": 40, "tags": 4}
    own = write_run(tmp_path, "waveform_small", "waveform", 0.7, study="first", **about)
    write_run(tmp_path, "waveform_small", "waveform", 0.8, study="second", settings={"data.train_songs": 250}, **about)
    listed = [{"overrides": [], "run": own.name, "max_epochs": 1, "patches": 1}]
    write_json(tmp_path / "study-second.json", {"jobs": listed})
    write_run(tmp_path, "gbt", "baseline", 0.7, study=None, **about)
    assert list_studies(tmp_path) == [
        "(unnamed: cannot be chosen): 1 finished runs of gbt; varies: seeds",
        "first: 1 finished runs of waveform_small; varies: seeds",
        "second: 2 finished runs of waveform_small; varies: training songs",
    ]


def test_hours_of_the_members_of_an_ensemble_count_once(tmp_path: Path) -> None:
    for seed in (0, 1):
        member = write_run(tmp_path, "waveform_small", "waveform", 0.7, seed=seed, songs=40, tags=4)
        change(member, seconds={"train": 3600.0})
    mean = write_run(tmp_path, "mean", "waveform", 0.7, songs=40, tags=4)
    change(mean, seconds={"train": 7200.0}, ensemble=["one", "two"], validation=None, epochs=None)
    study = read_study(tmp_path)
    assert study.train_hours == 2
    assert dict(facts(study, 100))["Training"] == "2.0 hours in total"
    assert "2.0 hours of training on cpu" in dict(checklist(study, [], [], 100))["compute"]
