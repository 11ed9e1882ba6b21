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


def test_one_seed_is_no_caveat_where_smaller_sizes_say_how_much_seeds_vary(tmp_path: Path) -> None:
    two = {name: THREE[name] for name in ("waveform_small", "spectrogram_small")}
    about = {"systems": two, "songs": 60, "tags": 4, "regression_tags": 0}
    write_study(tmp_path, sizes=(250, 500), seeds=(0, 1, 2), **about)
    write_study(tmp_path, sizes=(1000,), seeds=(0,), **about)
    study = read_study(tmp_path)
    tested = paired_test(study, resampled(study, 100), metrics=["roc_auc"])
    assert [(one.seeds, one.pooled) for one in tested] == [(3, False), (3, False), (1, True)]
    assert not any("One seed" in sentence for sentence in answers(study, [], tested))


def test_conditions_of_a_single_system_are_not_counted(tmp_path: Path) -> None:
    about = {"seeds": (0,), "songs": 60, "tags": 4, "regression_tags": 0}
    apart = {"waveform_small": System("waveform", 0.55, 0.0), "spectrogram_small": System("spectrogram", 0.9, 0.0)}
    write_study(tmp_path, sizes=(250, 500), systems=apart, **about)
    write_study(tmp_path, sizes=(1000,), systems={"waveform_small": apart["waveform_small"]}, **about)
    assert "spectrogram_small under both conditions with several systems." in answers(read_study(tmp_path), [], [])[0]


def test_that_seeds_are_few_is_said_of_those_results_only_that_rest_on_few(tmp_path: Path) -> None:
    for seeds, names in (((0, 1, 2), ("waveform_small", "spectrogram_small")), ((0, 1), ("gbt",))):
        systems = {name: THREE[name] for name in names}
        write_study(tmp_path, sizes=(250,), systems=systems, seeds=seeds, songs=60, tags=4, regression_tags=0)
    study = read_study(tmp_path)
    tested = paired_test(study, resampled(study, 100), metrics=["roc_auc"])
    assert answers(study, [], tested)[-1].endswith("can be told from chance (where this applies).")
    of_two = [one for one in tested if "gbt" in (one.system, one.other)]
    assert answers(study, [], of_two)[-1].endswith("can be told from chance.")
