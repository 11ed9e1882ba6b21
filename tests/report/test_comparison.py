"""Runs side by side: from finished runs alone, and only those that can be compared."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path

import pytest
from matplotlib.image import imread
from matplotlib.text import Text

from musictag.cli import main
from musictag.common.errors import MusictagError
from musictag.experiment import run as experiment
from musictag.report import comparison
from tests.helpers.catalogues import write_catalogue
from tests.helpers.experiments import TINY, compose_config, folders
from tests.helpers.studies import write_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of a waveform model and one of a preset, of study ``sizes``; one more run without a study."""
    folder = tmp_path_factory.mktemp("runs")
    tiny = ["data=catalogue", f"data.path={write_catalogue(folder / 'music')}", *TINY, *folders(folder)]
    for seed in (0, 1):
        experiment.run(compose_config(*tiny, "study=sizes", f"seed={seed}"))
    small = ["model=musicnn", "frontend.timbral_filters=2", "frontend.temporal_filters=1", "frontend.num_mels=16"]
    rest = [word for word in tiny if not word.startswith(("frontend", "backend"))]
    experiment.run(compose_config(*rest, *small, "study=sizes", "frontend.filter_multiplier=0.5"))
    experiment.run(compose_config(*tiny, "data.train_songs=8"))
    return folder / "runs" / "catalogue"


def test_a_row_is_what_the_run_wrote(runs):
    rows = comparison.read_rows(runs, "sizes")
    assert [(row["model"], row["seed"]) for row in rows] == [
        ("musicnn", 0), ("waveform+residual", 0), ("waveform+residual", 1)
    ]  # fmt: skip
    for row in rows:
        metrics = json.loads((runs / row["run"] / "metrics.json").read_text())
        assert row["pr_auc"] == metrics["test"]["pr_auc"]["value"]
        assert row["roc_auc_low"] == metrics["test"]["roc_auc"]["low"]
        assert row["parameters"] == metrics["parameters"]
        assert row["test_audio_seconds_per_second"] == metrics["speed"]["test_audio_seconds_per_second"]
    assert [row["family"] for row in rows] == ["spectrogram", "waveform", "waveform"]
    assert [row["input"] for row in rows] == ["16 mel", "waveform", "waveform"]
    assert [row["paper"] for row in rows] == ["Pons & Serra 2019", None, None]
    assert rows[0]["filter_multiplier"] == 0.5


def test_seeds_that_vary_apart_are_told_apart(tmp_path):
    for subset in (0, 1):
        path = write_run(tmp_path, "waveform_small", "waveform", 0.7, seed=subset, songs=40, tags=3) / "metrics.json"
        seeds = {"subset": subset, "initialisation": 3, "order": 3}
        path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": 3, "seeds": seeds}))
    assert [row["seed"] for row in comparison.read_rows(tmp_path)] == [3_003, 1_003_003]


def test_models_come_in_the_order_of_their_mean_pr_auc():
    scores = {"a": (0.2, 0.9), "b": (0.6, 0.6), "c": (0.1, 0.5)}  # the best single run is of a
    rows = [{"model": model, "seed": seed, "pr_auc": of[seed]} for seed in (0, 1) for model, of in scores.items()]
    ordered = comparison.by_model(rows)
    assert [[row["model"] for row in seeds] for seeds in ordered] == [["b", "b"], ["a", "a"], ["c", "c"]]
    assert [row["seed"] for row in ordered[0]] == [0, 1]


def test_table_csv_and_picture(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["compare", str(runs), "--study", "sizes", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    rows = comparison.read_rows(runs, "sizes")
    waveform = [row["pr_auc"] for row in rows[1:]]
    mean = sum(waveform) / 2
    assert f"{mean:.3f}±{abs(waveform[0] - mean):.3f}".replace("±0.", "±.") in printed
    assert "musicnn (1 of 2 seeds)" in printed
    assert "12 training songs of catalogue, 2 epochs, seeds 0, 1; filters × 0.5, 1" in printed
    with (tmp_path / "out" / "sizes.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [float(row["pr_auc"]) for row in written] == pytest.approx([row["pr_auc"] for row in rows], rel=1e-5)
    assert written[0]["run"] == rows[0]["run"]
    picture = imread(tmp_path / "out" / "sizes.png")
    assert picture.shape[1] > picture.shape[0] > 500


def test_a_study_with_a_dot_in_its_name_keeps_it(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "read_rows", lambda folder, study, read=comparison.read_rows: read(folder, "sizes"))
    assert main(["compare", str(runs), "--study", "v1.2", "--out", str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["v1.2.csv", "v1.2.png"]


@pytest.mark.slow
def test_speeds_are_measured_side_by_side(runs, tmp_path):
    assert main(["compare", str(runs), "--study", "sizes", "--out", str(tmp_path), "--measure"]) == 0
    with (tmp_path / "sizes.csv").open(newline="") as file:
        measured = [float(row["test_audio_seconds_per_second"]) for row in csv.DictReader(file)]
    noted = [row["test_audio_seconds_per_second"] for row in comparison.read_rows(runs, "sizes")]
    assert measured[1] == measured[2] > 1  # one model, two seeds
    assert measured != pytest.approx(noted, rel=1e-3)


def test_names_do_not_cover_points_or_each_other(runs, tmp_path, monkeypatch):
    row = comparison.read_rows(runs, "sizes")[0]
    crowd = [
        row | {"model": f"model number {i}", "pr_auc": 0.3 + 0.02 * (i // 2), "parameters": 10_000 + 100_000 * (i % 2)}
        for i in range(10)  # side by side on the left, one upon the other on the right
    ]
    figures = []
    save = comparison.save_figure
    monkeypatch.setattr(comparison, "save_figure", lambda figure, path: figures.append(figure) or save(figure, path))
    comparison.plot(crowd, tmp_path / "crowd.png")
    for axes in figures[0].axes:
        names = [text for text in axes.texts if text.get_text().startswith("model")]
        boxes = [Text.get_window_extent(text) for text in names]
        assert len(boxes) == 10
        assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
        points = [axes.transData.transform(text.xy) for text in names]
        assert not any(box.contains(*point) for box in boxes for point in points)


def test_of_many_models_the_best_are_drawn(runs, tmp_path, monkeypatch):
    row = comparison.read_rows(runs, "sizes")[0]
    crowd = [row | {"model": f"model number {i}", "pr_auc": 0.3 + 0.02 * i} for i in range(4)]
    figures = []
    monkeypatch.setattr(comparison, "save_figure", lambda figure, path: figures.append(figure))
    monkeypatch.setattr(comparison, "_MOST_POINTS", 2)
    comparison.plot(crowd, tmp_path / "crowd.png")
    left = figures[0].axes[0]
    assert {text.get_text() for text in left.texts} == {"model number 2", "model number 3"}
    assert "2 of 4 models, the best by PR-AUC" in left.get_title(loc="left")


def test_other_test_songs_are_refused_as_in_reports(tmp_path):
    for name, family, music in (("waveform_small", "waveform", 0), ("spectrogram_small", "spectrogram", 1)):
        write_run(tmp_path, name, family, 0.7, songs=40, tags=4, music=music)
    with pytest.raises(MusictagError, match="have different test songs and cannot"):
        comparison.read_rows(tmp_path)


def test_what_cannot_be_compared(runs, tmp_path, capsys):
    assert main(["compare", str(runs), "--out", str(tmp_path)]) == 1
    assert "have different numbers of training songs, 8, 12: use" in capsys.readouterr().err
    assert main(["compare", str(runs), "--study", "depths", "--out", str(tmp_path)]) == 1
    assert "no finished runs of study depths" in capsys.readouterr().err
    assert main(["compare", str(tmp_path), "--study", "sizes", "--out", str(tmp_path)]) == 1
    assert main(["compare", str(tmp_path / "nowhere"), "--out", str(tmp_path)]) == 1
    assert "there is no folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_two_settings_of_a_model_are_not_taken_for_two_seeds(runs, tmp_path, capsys):
    (one, *_) = [row for row in comparison.read_rows(runs, "sizes") if row["model"] == "musicnn"]
    metrics = json.loads((runs / one["run"] / "metrics.json").read_text())
    tuned = {
        "config": metrics["config"] | {"init_from": "runs/tagger.safetensors", "freeze": "frontend"},
        "run": "tuned",
    }
    for folder, changes in (("a", {}), ("b", {"run": "twin"}), ("tuned", tuned)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "metrics.json").write_text(json.dumps(metrics | changes))
    assert main(["compare", str(tmp_path), "--out", str(tmp_path)]) == 1
    assert "b are both musicnn with seed 0, but with settings that no table" in capsys.readouterr().err
    (tmp_path / "b" / "metrics.json").unlink()
    rows = comparison.read_rows(tmp_path)
    assert [row["model"] for row in rows] == ["musicnn", "musicnn from tagger.safetensors (frontend frozen)"]


def test_a_model_under_several_settings_is_several_models(tmp_path):
    for rate in (0.001, 0.002):
        for seed in (0, 1):
            settings = {"optimizer.lr": rate}
            write_run(tmp_path, "waveform_small", "waveform", 0.7, settings=settings, seed=seed, songs=40, tags=4)
    write_run(tmp_path, "gbt", "baseline", 0.7, settings={"data.train_songs": 250}, songs=40, tags=4)
    groups = comparison.by_model(comparison.read_rows(tmp_path))
    assert {(seeds[0]["model"], len(seeds)) for seeds in groups} == {
        ("waveform_small (learning rate 0.001)", 2), ("waveform_small (learning rate 0.002)", 2)
    }  # fmt: skip
