"""Which runs make a study, what varies in it, and what cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from musictag.common.errors import MusictagError
from musictag.common.files import write_json
from musictag.experiment.identity import system_label
from musictag.report.study import find_runs, read_study
from musictag.report.wording import factor_label, setting, short
from tests.helpers.studies import WITH_TREES, write_run, write_study


def change(folder: Path, **changes: object) -> None:
    content = json.loads((folder / "metrics.json").read_text())
    for path, value in changes.items():
        *groups, last = path.split("__")
        place = content
        for group in groups:
            place = place[group]
        place[last] = value
    write_json(folder / "metrics.json", content)


def test_systems_conditions_and_seeds_are_told_apart(tmp_path: Path) -> None:
    written = write_study(tmp_path, sizes=(1000, 250), systems=WITH_TREES, seeds=(1, 0))
    study = read_study(tmp_path, "sizes")
    assert study.factors == ["data.train_songs"]
    assert study.systems == ["waveform_small", "spectrogram_small", "gbt"]
    assert [study.family(system) for system in study.systems] == ["waveform", "spectrogram", "baseline"]
    assert study.conditions == [(250,), (1000,)]
    assert (study.seeds, study.test_songs, study.problems) == ([0, 1], 200, [])
    cell = study.cell("gbt", (1000,))
    assert [run.folder for run in cell] == [written["gbt", 1000, 0], written["gbt", 1000, 1]]
    assert study.cell("gbt", (7,)) == []
    run = cell[0]
    assert run.value("roc_auc") == json.loads((run.folder / "metrics.json").read_text())["test"]["roc_auc"]["value"]
    assert run.predictions.scores.shape == run.predictions.targets.shape == (200, 14)


def test_runs_of_seeds_that_vary_apart_are_paired_with_those_of_baselines(tmp_path: Path) -> None:
    written = write_study(tmp_path, sizes=(250,), systems=WITH_TREES, seeds=(0, 1, 2))
    for (system, _, subset), folder in written.items():
        initialisation = None if system == "gbt" else 0
        change(folder, seeds={"subset": subset, "initialisation": initialisation, "order": 0})
    study = read_study(tmp_path)
    assert study.seeds == [0, 1_000_000, 2_000_000]
    for system in study.systems:
        assert [run.seed for run in study.cell(system, study.conditions[0])] == study.seeds


def test_a_baseline_has_no_filters(tmp_path: Path) -> None:
    write_study(tmp_path, sizes=(0.5, 1.0), systems=WITH_TREES, seeds=(0,), factor="frontend.filter_multiplier")
    study = read_study(tmp_path)
    assert study.factors == ["frontend.filter_multiplier"]
    assert study.conditions == [(None,), (0.5,), (1.0,)]
    assert len(study.cell("gbt", (None,))) == 1


def test_a_setting_of_training_is_a_factor_too(tmp_path: Path) -> None:
    write_study(tmp_path, sizes=(0.001, 0.01), seeds=(0,), factor="optimizer.lr")
    study = read_study(tmp_path)
    assert study.factors == ["optimizer.lr"]
    assert study.conditions == [(0.001,), (0.01,)]


def test_missing_seeds_are_named(tmp_path: Path) -> None:
    written = write_study(tmp_path, sizes=(250, 500), seeds=(0, 1))
    (written["waveform_small", 500, 1] / "metrics.json").unlink()
    assert read_study(tmp_path).problems == ["waveform_small, 500 training songs: 1 of 2 seeds"]


def test_all_songs_are_as_many_as_there_are(tmp_path: Path) -> None:
    small = write_run(tmp_path, "waveform_small", "waveform", 0.7, settings={"data.train_songs": 250})
    whole = write_run(tmp_path, "waveform_small", "waveform", 0.8, settings={"data.train_songs": 900})
    change(whole, config__data__train_songs=None)
    study = read_study(tmp_path)
    assert [run.folder for run in study.runs] == [small, whole]
    assert study.conditions == [(250,), (900,)]


def test_a_run_that_two_studies_share_is_in_both(tmp_path: Path) -> None:
    own = write_run(tmp_path, "waveform_small", "waveform", 0.7, study="first")
    other = write_run(tmp_path, "waveform_small", "waveform", 0.8, study="second", settings={"data.train_songs": 250})
    listed = [{"overrides": [], "run": path.name, "max_epochs": 1, "patches": 1} for path in (own, other)]
    write_json(tmp_path / "study-second.json", {"jobs": listed})
    assert [run.folder for run in read_study(tmp_path, "second").runs] == [other, own]
    assert [run.folder for run in read_study(tmp_path, "first").runs] == [own]


def test_a_tagger_of_unknown_training_has_no_place_on_a_curve(tmp_path: Path) -> None:
    write_study(tmp_path, sizes=(250, 500), seeds=(0,), songs=40, tags=4)
    change(write_run(tmp_path, "musicnn", "waveform", 0.7, songs=40, tags=4), songs__train=0)
    with pytest.raises(MusictagError, match="on how many songs musicnn was trained is not known"):
        read_study(tmp_path)


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    one = write_run(tmp_path, "waveform_small", "waveform", 0.7)
    other = write_run(tmp_path, "spectrogram_small", "spectrogram", 0.7)
    read_study(tmp_path)
    for changes, words in (
        ({"data": "msd"}, r"more than one data set \(msd, songbook\)"),
        ({"songs__test": 7}, r"more than one test set \(200 songs, 7 songs\)"),
        ({"test__tags": []}, r"more than one set of tags \(0 tags, 14 tags\)"),
    ):
        before = (other / "metrics.json").read_text()
        change(other, **changes)
        with pytest.raises(MusictagError, match=words):
            read_study(tmp_path)
        (other / "metrics.json").write_text(before)
    twin = tmp_path / "twin"
    twin.mkdir()
    (twin / "metrics.json").write_text((one / "metrics.json").read_text())
    with pytest.raises(MusictagError, match=r"twin.* are both waveform_small with seed 0, but with settings"):
        read_study(tmp_path)


def test_nothing_to_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(MusictagError, match="there is no folder"):
        find_runs(tmp_path / "nowhere")
    write_run(tmp_path, "waveform_small", "waveform", 0.7)
    with pytest.raises(MusictagError, match=r"no finished runs of study other in .*; there are 1 of the studies sizes"):
        read_study(tmp_path, "other")


@pytest.mark.parametrize("damage", ["cut", "no scores", "other shape", "gone"])
def test_damaged_predictions_are_named(tmp_path: Path, damage: str) -> None:
    path = write_run(tmp_path, "waveform_small", "waveform", 0.7) / "predictions.npz"
    arrays = dict(np.load(path))
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    elif damage == "no scores":
        np.savez(path, **{name: array for name, array in arrays.items() if name != "scores"})
    elif damage == "other shape":
        np.savez(path, **{**arrays, "scores": arrays["scores"][:3]})
    else:
        path.unlink()
    (run,) = read_study(tmp_path).runs
    with pytest.raises(MusictagError, match=r"predictions.npz"):
        _ = run.predictions


def test_a_file_that_no_run_wrote_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text('{"config": {}, "test": {}}')
    with pytest.raises(MusictagError, match="was not written by a run"):
        find_runs(tmp_path)


def test_labels() -> None:
    names = {"frontend": "fcn", "backend": "pooling", "model": None, "baseline": None}
    assert system_label({"names": names}) == "fcn+pooling"
    assert system_label({"names": {**names, "model": "musicnn"}}) == "musicnn"
    assert system_label({"names": {**names, "baseline": "gbt", "model": "baseline_gbt"}}) == "gbt"
    probed = {"names": {**names, "probe": "linear"}, "init_from": "a/b/tagger.safetensors", "freeze": None}
    assert system_label(probed) == "fcn+pooling from tagger.safetensors (linear probe)"
    assert factor_label("data.train_songs") == "training songs"
    assert factor_label("optimizer.weight_decay") == "weight decay"
    keys = [
        "frontend.norm_momentum",
        "backend.norm_momentum",
        "scheduler.patience",
        "callbacks.early_stopping.patience",
    ]
    assert list(map(factor_label, keys)) == [
        "front-end norm momentum", "back-end norm momentum", "scheduler patience", "early stopping patience",
    ]  # fmt: skip
    assert [factor_label(f"{part}._target_") for part in ("loss", "optimizer", "callbacks.mine")] == [
        "loss", "optimizer", "mine",
    ]  # fmt: skip
    assert setting(["data.train_songs", "backend.filters"], (1000, None)) == "1,000 training songs"
    assert setting(["settings", "sync_batchnorm"], ("quick", True)) == "settings “quick”, sync batchnorm yes"
    assert setting([], ()) == ""
    assert short("a" * 30 + "1", 10) == "aaaaaa…aa1"
