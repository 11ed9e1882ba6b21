"""What a doubling of the songs brings, and what a setting changes: known truths are found, seed by seed."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from musictag.report.build import make_report
from musictag.report.statistics.contrasts import setting_changes, slopes
from musictag.report.statistics.inference import holm
from musictag.report.statistics.resampling import resampled
from musictag.report.study import read_study
from musictag.report.tables.contrasts import contrast_sheet
from tests.helpers.studies import SYSTEMS, WITH_TREES, write_run, write_study


def test_slopes_are_those_of_the_systems_and_their_difference_is_paired(tmp_path: Path) -> None:
    write_study(tmp_path, songs=300, tags=10, seeds=(0, 1, 2))
    study = read_study(tmp_path)
    waveform, spectrogram, difference = slopes(study, resampled(study, 200), "roc_auc")
    assert [(one.of, one.minus) for one in (waveform, spectrogram, difference)] == [
        ("waveform_small", ""), ("spectrogram_small", ""), ("waveform_small", "spectrogram_small")
    ]  # fmt: skip
    for one, gain in ((waveform, SYSTEMS["waveform_small"].gain), (spectrogram, SYSTEMS["spectrogram_small"].gain)):
        runs = [run for run in study.runs if run.system == one.of]
        own = np.polyfit(np.log2([run.train_songs for run in runs]), [run.value("roc_auc") for run in runs], 1)[0]
        assert one.value == pytest.approx(own)
        assert one.low < gain < one.high
        assert one.seeds == 3
    assert difference.value == pytest.approx(waveform.value - spectrogram.value)
    assert 0 < difference.low < 0.03 < difference.high
    assert difference.p == difference.p_holm < 0.05
    assert waveform.p_holm is spectrogram.p_holm is None
    assert contrast_sheet("Gains", [waveform]).rows[0][6].text == "–"


def test_slopes_know_how_much_seeds_vary(tmp_path: Path) -> None:
    widths = []
    for place, deviation in enumerate((0.0, 0.03)):
        folder = tmp_path / str(place)
        write_study(folder, songs=150, tags=6, seeds=(0, 1, 2), seed_deviation=deviation)
        study = read_study(folder)
        difference = slopes(study, resampled(study, 100), "roc_auc")[-1]
        widths.append(difference.high - difference.low)
    assert widths[1] > 1.5 * widths[0]


def test_what_a_seed_does_to_both_slopes_cancels(tmp_path: Path) -> None:
    for seed, deviation in enumerate((-0.06, 0.0, 0.06)):
        for name, family in (("waveform_small", "waveform"), ("spectrogram_small", "spectrogram")):
            for songs, roc_auc in ((250, 0.65), (500, 0.75 + deviation)):
                settings = {"data.train_songs": songs}
                write_run(tmp_path, name, family, roc_auc, settings=settings, seed=seed, songs=300, tags=10)
    study = read_study(tmp_path)
    one, other, difference = slopes(study, resampled(study, 100), "roc_auc")
    assert difference.high - difference.low < 0.6 * min(one.high - one.low, other.high - other.low)


def test_a_setting_is_compared_with_the_last_one_of_the_same_system(tmp_path: Path) -> None:
    write_study(
        tmp_path, sizes=(0.5, 1.0, 2.0), factor="frontend.filter_multiplier", systems=WITH_TREES, songs=200, tags=10,
        seeds=(0, 1, 2),
    )  # fmt: skip
    study = read_study(tmp_path)
    assert slopes(study, resampled(study, 100), "roc_auc") == []
    found = setting_changes(study, resampled(study, 100), "roc_auc")
    assert [(one.system, one.of, one.minus) for one in found] == [
        (system, f"front-end filters (times) {of}", "front-end filters (times) 2")
        for system in ("waveform_small", "spectrogram_small") for of in ("0.5", "1")
    ]  # fmt: skip
    for one, expected in zip(found, (-0.10, -0.05, -0.04, -0.02), strict=True):
        runs = [run for run in study.runs if run.system == one.system]
        mean = {
            value: np.mean([run.value("roc_auc") for run in runs if run.condition == (value,)])
            for value in (0.5, 1.0, 2.0)
        }
        assert one.value == pytest.approx(mean[float(one.of.split()[-1])] - mean[2.0])
        assert one.low < expected < one.high
    assert [one.p_holm for one in found] == pytest.approx(holm([one.p for one in found]))


def test_settings_are_compared_at_one_number_of_songs(tmp_path: Path) -> None:
    for songs in (250, 500):
        for mode in ("patches", "whole"):
            settings = {"evaluation.mode": mode, "data.train_songs": songs}
            write_run(tmp_path, "waveform_small", "waveform", 0.7, settings=settings, songs=100, tags=6)
    study = read_study(tmp_path)
    found = setting_changes(study, resampled(study, 100), "roc_auc")
    assert len(found) == 2
    for one in found:
        assert one.of.replace("patches", "whole") == one.minus
        assert one.seeds == 1


def test_both_are_in_the_report(tmp_path: Path) -> None:
    write_study(tmp_path / "sizes", sizes=(250, 500), songs=80, tags=6, seeds=(0, 1))
    write_study(
        tmp_path / "filters", sizes=(0.5, 1.0), factor="frontend.filter_multiplier", songs=80, tags=6, seeds=(0, 1)
    )
    for name, file, heading in (
        ("sizes", "slopes", "Gains per doubling"),
        ("filters", "changes", "What settings change"),
    ):
        make_report(read_study(tmp_path / name), tmp_path / "out" / name, songs=2, audio=False, resamples=100)
        rows = list(csv.DictReader((tmp_path / "out" / name / f"{file}.csv").read_text().splitlines()))
        assert {row["metric"] for row in rows} == {"roc_auc", "pr_auc", "rmse"}
        text = (tmp_path / "out" / name / "report.md").read_text()
        assert f"\n## {heading}\n" in text
        assert "Two seeds say little" in text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
        other = {"slopes": "changes", "changes": "slopes"}[file]
        assert not (tmp_path / "out" / name / f"{other}.csv").exists()
