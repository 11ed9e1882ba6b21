"""What a page says of how its numbers were made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from musictag.common.files import write_json
from musictag.report.page.summary import facts
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
