"""Baselines: through the real entry point, on real features of synthetic songs."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import musictag
from musictag import cli
from musictag.common.errors import MusictagError
from musictag.data.features.descriptors import feature_names
from musictag.experiment import run as experiment
from musictag.experiment.results import console as terminal
from musictag.experiment.tracking.tracker import Tracker
from musictag.models.baselines.trees import Trees
from tests.helpers.catalogues import read_rows, write_table
from tests.helpers.experiments import SMALL, compose_config
from tests.helpers.processes import program

FILES = {
    "config.json", "importances.csv", "importances.png", "metrics.json", "model.json", "predictions.npz", "tags.png",
}  # fmt: skip


def comparable(metrics: dict[str, Any]) -> dict[str, Any]:
    """What of metrics.json must not depend on when and how often a run was started."""
    return {key: metrics[key] for key in ("test", "validation", "songs", "trees", "leaves")}


@pytest.mark.slow
def test_the_entry_point_leaves_a_finished_run_and_finds_it_again(
    trees: list[str], tiny_catalogue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def train() -> str:
        done = program("train.py", *trees)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "LightGBM" not in done.stdout + done.stderr  # it has nothing to say
        return done.stdout

    train()
    (run_dir,) = (path for path in (tmp_path / "runs" / tiny_catalogue.stem).iterdir() if path.is_dir())
    assert run_dir.name.startswith("gbt-")
    assert {path.name for path in run_dir.iterdir()} == FILES

    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert (metrics["baseline"], metrics["frontend"], metrics["backend"]) == ("gbt", None, None)
    assert metrics["songs"] == {"train": 12, "validation": 5, "test": 7}
    assert 2 <= metrics["trees"] <= 3 * 15
    assert metrics["leaves"] >= 2 * metrics["trees"]
    assert sum(metrics["chosen"]["num_leaves"].values()) == 3
    assert set(metrics["chosen"]["num_leaves"]) <= {"7", "31", "127"}
    assert metrics["test"]["roc_auc"]["value"] > 0.8
    assert metrics["validation"]["val_loss"] > 0
    assert metrics["speed"]["test_audio_seconds_per_second"] > 10
    assert {"lightgbm", "librosa", "scikit-learn"} < set(metrics["versions"])
    assert "frontend" not in metrics["config"]

    predictions = np.load(run_dir / "predictions.npz", allow_pickle=False)
    tagger = musictag.load(run_dir)
    assert predictions["tags"].tolist() == list(tagger.tag_names)
    rows = {row["song_id"]: row["path"] for row in csv.DictReader(tiny_catalogue.open())}
    for song_id, scores in zip(predictions["song_ids"], predictions["scores"], strict=True):
        path = tiny_catalogue.parent / rows[str(song_id)]
        tagged = tagger.tag(path)
        assert [tagged[name] for name in tagger.tag_names] == scores.tolist()
    assert list(tagged.values()) == sorted(tagged.values(), reverse=True)
    assert tagger.tag(path, top=1) == dict([next(iter(tagged.items()))])
    assert cli.main(["tag", str(path), str(path), "--model", str(run_dir / "model.json"), "--json"]) == 0
    assert next(iter(json.loads(capsys.readouterr().out).values())) == tagged

    importances = list(csv.DictReader((run_dir / "importances.csv").open()))
    assert {row["feature"] for row in importances} <= set(feature_names())
    for name in tagger.tag_names:
        assert sum(float(row["share"]) for row in importances if row["tag"] == name) == pytest.approx(1, abs=1e-3)

    written = {path: path.stat().st_mtime_ns for path in run_dir.iterdir()}
    assert "Finished before" in train()
    assert {path: path.stat().st_mtime_ns for path in run_dir.iterdir()} == written


def test_metrics_have_the_keys_of_a_network_run(trees: list[str], place: list[str]) -> None:
    from tests.helpers.experiments import TINY

    network = experiment.run(compose_config(*place, *TINY, "trainer.max_epochs=1"))
    metrics = experiment.run(compose_config(*trees))
    assert set(metrics) - set(network) == {"features", "trees", "leaves", "chosen"}
    assert set(network) - set(metrics) == {"precision", "choices"}
    for key in ("test", "speed", "songs"):
        assert set(metrics[key]) == set(network[key])
    assert set(metrics["validation"]) <= set(network["validation"])
    # the same songs, targets and tags, in the same order
    ours, theirs = (
        np.load(experiment.results_folder(config) / "predictions.npz")
        for config in (compose_config(*trees), compose_config(*place, *TINY, "trainer.max_epochs=1"))
    )
    for name in ("song_ids", "tags", "kinds", "targets"):
        np.testing.assert_array_equal(ours[name], theirs[name])


@pytest.mark.slow
def test_the_same_run_gives_the_same_scores_whatever_the_threads(trees: list[str], tmp_path: Path) -> None:
    first = experiment.run(compose_config(*trees))
    again = experiment.run(compose_config(*trees, "baseline.threads=2", f"runs_dir={tmp_path / 'again'}"))
    assert comparable(first) == comparable(again)
    other = experiment.run(compose_config(*trees, "seed=1"))
    assert comparable(first) != comparable(other)


def test_an_interrupted_run_goes_on_after_its_tags(
    trees: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = experiment.run(compose_config(*trees, f"runs_dir={tmp_path / 'whole'}"))
    fitted = []
    fit = Trees.fitter

    def counting(model: Trees, *arguments: Any) -> Any:
        fitter = fit(model, *arguments)
        inner = fitter.fit

        def once(*arguments: Any) -> dict[str, Any]:
            if len(fitted) == 2:
                raise KeyboardInterrupt
            fitted.append(arguments[0])
            return inner(*arguments)

        fitter.fit = once
        return fitter

    config = compose_config(*trees)
    monkeypatch.setattr(Trees, "fitter", counting)
    with pytest.raises(KeyboardInterrupt):
        experiment.run(config)
    run_dir = experiment.results_folder(config)
    begun = list((run_dir / "tags").glob("*.json"))
    assert len(begun) == 2
    assert not (run_dir / "metrics.json").exists()
    for path in begun:
        path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": 1000.0}))
    fitted.clear()
    resumed = experiment.run(config)
    assert comparable(resumed) == comparable(whole)
    assert 2000 < resumed["seconds"]["train"] < 3000  # with those of the process that began
    assert fitted == ["regression"]  # the last of the three
    assert {path.name for path in run_dir.iterdir()} == FILES


def test_a_damaged_model_of_a_tag_is_named(trees: list[str]) -> None:
    config = compose_config(*trees)
    path = experiment.results_folder(config) / "tags" / "0001.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"name": "noi')
    with pytest.raises(MusictagError, match=r"0001\.json is damaged .* delete it"):
        experiment.run(config)
    assert "0001.json" in (path.parent.parent / "error.txt").read_text()


def test_a_linear_run_knows_what_is_high(place: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    metrics = experiment.run(compose_config(*place, "model=baseline_logistic", *SMALL))
    assert metrics["run"].startswith("logistic-")
    assert metrics["parameters"] == 3 * (len(feature_names()) + 1)
    assert sum(metrics["chosen"]["penalties"].values()) == 3
    tags = {tag["name"]: tag for tag in metrics["test"]["tags"]}
    assert tags["high"]["roc_auc"] == 1
    assert tags["brightness"]["rmse"] < tags["brightness"]["rmse_of_mean"]
    terminal.print_results(metrics, "runs")
    assert "features and logistic on catalogue: 12 training songs, 241 features, 726 parameters" in " ".join(
        capsys.readouterr().out.split()
    )


def test_tags_that_validation_cannot_judge_get_what_it_chose_for_others(trees: list[str], tiny_catalogue: Path) -> None:
    rows = read_rows(tiny_catalogue)
    for row in rows:
        if row["split"] == "validation":
            row["noisy"] = 0
    write_table(tiny_catalogue, rows)
    with pytest.warns(UserWarning, match=r"cannot judge 1 of 3 tags .*: noisy\."):
        experiment.run(compose_config(*trees))
    tagger = musictag.load(experiment.results_folder(compose_config(*trees)))
    chosen = {tag["name"]: tag["chosen"] for tag in tagger.fitted}
    assert chosen["noisy"] == Trees().typical([chosen["high"], chosen["brightness"]])
    for row in rows:
        if row["split"] == "validation":
            row |= {"high": 1, "brightness": ""}
    write_table(tiny_catalogue, rows)
    with pytest.raises(MusictagError, match="cannot judge any tag"):
        experiment.run(compose_config(*trees))


def test_only_the_first_of_several_processes_works(trees: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose_config(*trees)
    monkeypatch.setattr(experiment, "is_rank_zero", lambda: False)
    with pytest.raises(SystemExit) as ended:
        experiment.run(config)
    assert ended.value.code == 0
    assert not experiment.results_folder(config).exists()


def test_the_tracker_gets_scores_and_importances(trees: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    class Notes(Tracker):
        def __init__(self) -> None:
            self.told: list[Any] = []

        def start(self) -> None:
            self.told.append("start")

        def log_table(self, name: str, columns: Any, rows: Any) -> None:
            self.told.append((name, tuple(columns), len(rows) > 3))

        def finish(self, metrics: Any, data: Any, scores: np.ndarray) -> None:
            self.told.append((metrics["run"], len(data.song_ids("test")), scores.shape))

    notes = Notes()
    monkeypatch.setattr("musictag.experiment.baseline_run.make_tracker", lambda config, run_dir: notes)
    metrics = experiment.run(compose_config(*trees))
    table = ("importances", ("tag", "feature", "share"), True)
    assert notes.told == ["start", table, (metrics["run"], 7, (7, 3))]


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["init_from=musicnn-msd"], "init_from"),
        (["freeze=frontend"], "freeze"),
        (["probe=linear", "init_from=x.ckpt"], "init_from and probe"),
        (["evaluation.mode=whole"], "evaluation.mode=whole"),
    ],
)
def test_what_only_networks_have_is_refused(trees: list[str], overrides: list[str], named: str) -> None:
    with pytest.raises(MusictagError, match=f"{named} with baseline=gbt: a baseline has no network"):
        experiment.run(compose_config(*trees, *overrides))
