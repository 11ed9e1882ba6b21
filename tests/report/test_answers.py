"""The sentences at the top of a report."""

from __future__ import annotations

from pathlib import Path

from musictag.report.page.answers import answers
from musictag.report.statistics.paired_tests import paired_test
from musictag.report.statistics.resampling import resampled
from musictag.report.study import read_study
from tests.helpers.studies import System, write_study

#: Trees lead at the two smallest sizes, then the spectrogram model.
THREE = {
    "waveform_small": System("waveform", 0.60, 0.02),
    "spectrogram_small": System("spectrogram", 0.62, 0.06),
    "gbt": System("baseline", 0.71, 0.0),
}


def test_of_three_systems_the_best_at_each_size_come_first(tmp_path: Path) -> None:
    sizes = (250, 500, 1000, 2000, 4000, 8000)
    write_study(tmp_path, sizes=sizes, systems=THREE, seeds=(0,), songs=400, regression_tags=0, seed_deviation=0)
    first = answers(read_study(tmp_path), [], [])[0]
    assert first.startswith("Best by ROC-AUC")
    assert "gbt (250 and 500 training songs); spectrogram_small (1,000 to 8,000 training songs)" in first


def test_that_seeds_are_few_is_said_of_those_results_only_that_rest_on_few(tmp_path: Path) -> None:
    for seeds, names in (((0, 1, 2), ("waveform_small", "spectrogram_small")), ((0, 1), ("gbt",))):
        systems = {name: THREE[name] for name in names}
        write_study(tmp_path, sizes=(250,), systems=systems, seeds=seeds, songs=60, tags=4, regression_tags=0)
    study = read_study(tmp_path)
    tested = paired_test(study, resampled(study, 100), metrics=["roc_auc"])
    assert answers(study, [], tested)[-1].endswith("can be told from chance (where this applies).")
    of_two = [one for one in tested if "gbt" in (one.system, one.other)]
    assert answers(study, [], of_two)[-1].endswith("can be told from chance.")
