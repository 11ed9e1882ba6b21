"""The advice follows from the runs: which system, what more songs bring, which tags."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from musictag.common.errors import MusictagError
from musictag.evaluation.metrics import METRICS
from musictag.report.advice import advise, page
from musictag.report.study import read_study
from tests.helpers.studies import System, write_run, write_study

#: One system is far better, and gains 0.06 in ROC-AUC per doubling; the other stays.
SYSTEMS = {"waveform_small": System("waveform", 0.62, 0.0), "spectrogram_small": System("spectrogram", 0.68, 0.06)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    write_study(folder, sizes=(100, 200, 400), systems=SYSTEMS, songs=400, tags=6, regression_tags=0, study="advise")
    return folder


def test_the_answers_are_those_of_the_simulated_truth(runs: Path) -> None:
    advice = advise(read_study(runs, "advise"), {"tag 00": 77}, resamples=200)
    which, twice, tags = (answer for _, answer in advice.answers)
    assert advice.best == "spectrogram_small"
    assert which.startswith("spectrogram_small: PR-AUC")
    assert "better than waveform_small, beyond chance" in which
    assert "(400 to 800 songs; 95% interval +" in twice
    assert "It may be nothing" not in twice
    assert tags.startswith("Those that still gain with more songs: ")
    assert "tag 00 (77 songs, ROC-AUC 0." in tags
    assert [row[0].text for row in advice.sheet.rows] == ["spectrogram_small", "waveform_small"]
    html = page("Advice for <b>", advice, ["musictag tag song.mp3"])
    assert "Advice for &lt;b&gt;" in html
    assert all(question in html for question, _ in advice.answers)


def test_what_does_not_gain_is_not_said_to(runs: Path, tmp_path: Path) -> None:
    write_study(
        tmp_path, sizes=(100, 200), systems={"waveform_small": System("waveform", 0.62, 0.0)}, seeds=(0,), songs=100,
        tags=3, regression_tags=0, study="advise",
    )  # fmt: skip
    advice = advise(read_study(tmp_path, "advise"), {}, resamples=200)
    (_, which), (_, twice), (_, tags) = advice.answers
    assert "nothing to compare it with" in which
    assert "It may be nothing" in twice
    assert "Hardly learnt so far" in tags


def test_tags_that_are_numbers_have_a_gain_and_no_examples(tmp_path: Path) -> None:
    write_study(tmp_path, sizes=(100, 200), systems=SYSTEMS, songs=60, tags=0, regression_tags=3, study="advise")
    (_, which), (_, twice), (_, tags) = advise(read_study(tmp_path, "advise"), {}, resamples=100).answers
    assert which.startswith("spectrogram_small: RMSE 0.")
    assert twice.startswith("About −0.")
    assert tags == "Not known: there is no learning curve of tags that songs have or have not."


def test_without_a_score_there_is_no_advice(tmp_path: Path) -> None:
    path = write_run(tmp_path, "waveform_small", "waveform", 0.7, songs=40, tags=3, regression_tags=0, study="advise")
    metrics = json.loads((path / "metrics.json").read_text())
    metrics["test"] |= dict.fromkeys(METRICS)
    (path / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(MusictagError, match="no tag could be scored in all runs"):
        advise(read_study(tmp_path, "advise"), {}, resamples=100)


def test_with_a_single_number_of_songs_systems_are_still_compared(tmp_path: Path) -> None:
    write_study(tmp_path, sizes=(200,), systems=SYSTEMS, songs=100, tags=3, regression_tags=0, study="advise")
    advice = advise(read_study(tmp_path, "advise"), {}, resamples=200)
    (_, which), (_, twice), (_, tags) = advice.answers
    assert advice.best == "spectrogram_small"
    assert "How sure: PR-AUC +0." in which
    assert "against waveform_small (95% interval" in which
    assert twice == "Not known: there was no time for a second number of songs."
    assert tags.startswith("Not known: ")


def test_a_system_without_all_sizes_is_compared_where_it_has_runs(tmp_path: Path) -> None:
    whole = {"spectrogram_small": System("spectrogram", 0.60, 0.02)}
    about = {"seeds": (0,), "songs": 100, "tags": 3, "regression_tags": 0, "study": "advise"}
    write_study(tmp_path, sizes=(100, 200), systems=whole, **about)
    one = {"waveform_small": System("waveform", 0.95, 0.0)}
    write_study(tmp_path, sizes=(200,), systems=one, **about)
    advice = advise(read_study(tmp_path, "advise"), {}, resamples=200)
    (_, which), (_, twice), (_, tags) = advice.answers
    assert advice.best == "waveform_small"
    assert "better than spectrogram_small, beyond chance" in which
    assert twice.startswith("Known of spectrogram_small. About ")
    assert tags.startswith("Known of spectrogram_small. ")
    assert [row[0].text for row in advice.sheet.rows] == ["waveform_small", "spectrogram_small"]
    assert advice.sheet.rows[0][1].text == "–"
