"""`musictag ensemble`: the mean of finished runs as a run, which reports show; runs without a mean are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import musictag
from musictag import cli
from musictag.common.errors import MusictagError
from musictag.evaluation.song_metrics import song_metrics
from musictag.experiment.results.ensemble import make_ensemble
from musictag.experiment.results.files import read_predictions, write_predictions
from musictag.report.study import read_study
from tests.helpers.experiments import TINY, folders, run
from tests.helpers.studies import SYSTEMS, write_run, write_study


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Two seeds of one system and one of another; what they were trained to does not matter here."""
    written = write_study(tmp_path / "runs", sizes=(500,), seeds=(0, 1), tags=4, songs=60)
    found = [written["waveform_small", 500, 0], written["waveform_small", 500, 1], written["spectrogram_small", 500, 0]]
    for folder in found:
        (folder / "tagger.safetensors").write_bytes(folder.name.encode())
    return found


def test_an_ensemble_is_a_run_of_its_own(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "runs" / "mean"
    assert cli.main(["ensemble", str(runs[0]), str(runs[1]), "--out", str(out)]) == 0
    own, members = read_predictions(out), [read_predictions(folder) for folder in runs[:2]]
    np.testing.assert_allclose(own.scores, (members[0].scores + members[1].scores) / 2, atol=1e-6)
    np.testing.assert_array_equal(own.targets, members[0].targets)
    metrics = json.loads((out / "metrics.json").read_text())
    names, kinds = own.tags.tolist(), own.kinds.tolist()
    expected = song_metrics(own.scores, own.targets, names, kinds, resamples=0)["roc_auc"]["value"]
    assert metrics["test"]["roc_auc"]["value"] == pytest.approx(expected)
    assert metrics["ensemble"] == [folder.name for folder in runs[:2]]
    assert f"mean of 2 waveform_small: ROC-AUC {expected:.3f}" in capsys.readouterr().out
    assert [(out / f"member-{number}.safetensors").read_bytes() for number in (0, 1)] == [
        folder.name.encode() for folder in runs[:2]
    ]
    facts = json.loads((out / "ensemble.json").read_text())["facts"]
    assert facts["training"] == {"data": "songbook", "songs": 500}
    study = read_study(tmp_path / "runs", "sizes")
    assert study.systems == ["mean of 2 waveform_small", "waveform_small", "spectrogram_small"]
    (shown,) = [run for run in study.runs if run.folder == out]
    assert (shown.train_songs, shown.family, shown.parameters) == (500, "waveform", 628_000)
    assert study.problems == []  # an ensemble has no seeds that could be missing
    for folder, songs in ((runs[0], 3), (runs[2], 2)):  # these were chosen by other validation songs
        of_validation = np.full((songs, len(names)), 0.5)
        found = read_predictions(folder)
        write_predictions(
            folder / "predictions.npz", found.song_ids, names, kinds, found.scores, found.targets, (of_validation,) * 2
        )
    assert "calibration" not in make_ensemble([runs[0], runs[2]], out)  # replaces it
    assert read_study(tmp_path / "runs", "sizes").systems[0] == "mean of 2 waveform_small and spectrogram_small"


def test_runs_without_a_mean_are_refused(runs: list[Path], tmp_path: Path) -> None:
    out, where = tmp_path / "out", tmp_path / "runs"
    other = {"settings": {"data.train_songs": 250}, "tags": 4, "songs": 60}
    fewer = write_run(where, "waveform_small", *SYSTEMS["waveform_small"][:2], seed=7, **other)
    tags = write_run(where, "waveform_small", *SYSTEMS["waveform_small"][:2], seed=8, tags=5, songs=60)
    songs = write_run(where, "waveform_small", *SYSTEMS["waveform_small"][:2], seed=9, tags=4, songs=61)
    whole = write_run(where, "waveform_small", *SYSTEMS["waveform_small"][:2], seed=10, tags=4, songs=60,
                      settings={"evaluation.mode": "whole"})  # fmt: skip
    labels = write_run(where, "waveform_small", *SYSTEMS["waveform_small"][:2], seed=11, tags=4, songs=60)
    found = read_predictions(labels)
    write_predictions(
        labels / "predictions.npz", found.song_ids, found.tags, found.kinds, found.scores, 1 - found.targets
    )
    make_ensemble(runs[:2], where / "ensemble")
    for given, words in (
        (runs[:1], "at least two runs"),
        ([runs[0], runs[0]], "given twice"),
        ([runs[0], tmp_path], "is not the folder of a finished run"),
        ([runs[0], where / "ensemble"], "is an ensemble already"),
        ([runs[0], fewer], "differ in their number of training songs: 500 and 250"),
        ([runs[0], whole], "differ in their evaluation.mode: patches and whole"),
        ([runs[0], tags], r"other tags \(6 and 7"),
        ([runs[0], songs], r"other test songs \(60 and 61\)"),
        ([runs[0], labels], "other labels of the test songs"),
    ):
        with pytest.raises(MusictagError, match=words):
            make_ensemble(given, out)
        assert not out.exists()
    with pytest.raises(MusictagError, match="contains a run that is not an ensemble; choose another folder"):
        make_ensemble(runs[:2], runs[2])


@pytest.mark.slow
def test_the_tagger_of_an_ensemble_gives_the_scores_of_its_test(tiny_catalogue: Path, tmp_path: Path) -> None:
    """Of a network and a baseline; one command line after another."""
    words = ["data=catalogue", f"data.path={tiny_catalogue}", *folders(tmp_path), "study=both"]
    network, _ = run(*words, *TINY)
    baseline, _ = run(*words, "baseline=logistic", "data.prepare_workers=1", "evaluation.bootstrap_resamples=20")
    out = network.parent / "both"
    assert cli.main(["ensemble", str(network), str(baseline), "--out", str(out)]) == 0
    tagger, expected = musictag.load(out), read_predictions(out)
    for song, scores in zip(expected.song_ids, expected.scores, strict=True):
        path = next(tiny_catalogue.parent.glob(f"**/{song}.*"), None)
        assert path is not None
        tagged = tagger.tag(path)
        assert [tagged[name] for name in expected.tags] == pytest.approx(scores.tolist(), abs=2e-3)
    report = tmp_path / "report"
    assert cli.main(["report", str(network.parent), "--out", str(report), "--no-audio"]) == 0
    assert "mean of 2 waveform+residual and logistic" in (report / "report.md").read_text()
