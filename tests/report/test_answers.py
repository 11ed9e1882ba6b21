"""The sentences at the top of a report."""

from __future__ import annotations

from pathlib import Path

from musictag.report.page.answers import answers
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
