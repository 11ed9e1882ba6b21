"""Settings per system: a tuning study tries points of a grid, another takes over what is best on validation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from musictag.common.errors import MusictagError
from musictag.experiment.compose import compose
from musictag.experiment.run import make_run
from musictag.experiment.tuning import nearest
from tests.helpers.experiments import SMALL_TREES, TINY, folders
from tests.helpers.studies import write_run
from tests.helpers.sweeps import finished, sweep

#: By number of songs and learning rate: PR-AUC on the validation songs of seeds 0 and 1.
SCORES = {
    (250, 0.001): (0.30, 0.36),  # on average the best, although another point has the best single run
    (250, 0.004): (0.22, 0.40),
    (1000, 0.001): (0.40, 0.41),
    (1000, 0.004): (0.45, 0.44),
}


def write_tuning(runs: Path) -> None:
    """A finished tuning study of waveform_small, whose test scores would choose otherwise."""
    listed = []
    for (songs, rate), scores in SCORES.items():
        for seed, score in enumerate(scores):
            settings = {"data.train_songs": songs, "optimizer.lr": rate}
            tested = 0.9 - score  # the worst on validation is the best on test
            made = write_run(
                runs / "songbook", "waveform_small", "waveform", tested, settings=settings, seed=seed, study="tuned",
                songs=40, tags=3,
            )  # fmt: skip
            metrics = json.loads((made / "metrics.json").read_text())
            metrics["validation"]["val_pr_auc"] = score
            (made / "metrics.json").write_text(json.dumps(metrics))
            listed.append({"overrides": [f"seed={seed}"], "run": made.name, "max_epochs": 10, "patches": 100})
    (runs / "songbook" / "study-tuned.json").write_text(json.dumps({"jobs": listed}))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("tuned") / "runs"
    write_tuning(runs)
    return runs


def taken(runs: Path, *words: str) -> dict[str, Any]:
    return compose(["model=waveform_small", "monitor=val_pr_auc", f"runs_dir={runs}", "tuning.study=tuned", *words])


@pytest.mark.parametrize(("songs", "rate"), [("250", 0.001), ("1000", 0.004), ("null", 0.004)])
def test_the_best_mean_on_validation_is_taken_over(tuned: Path, songs: str, rate: float) -> None:
    config = taken(tuned, f"data.train_songs={songs}")
    assert config["optimizer"]["lr"] == rate
    assert config["tuning"]["taken"]["settings"] == {"optimizer.lr": rate}
    assert config["tuning"]["taken"]["instead_of"] == {"optimizer.lr": 0.001}


def test_between_the_tuned_sizes_the_nearest_decides() -> None:
    chosen = [nearest([250, 1000], songs) for songs in (10, 499, 500, 501, 5000, None)]
    assert chosen == [250, 250, 250, 1000, 1000, 1000]


def test_it_is_the_run_with_these_settings_wherever_they_were_found(tuned: Path) -> None:
    words = ["data.train_songs=1000"]
    config = taken(tuned, *words)
    by_hand = compose(["model=waveform_small", "monitor=val_pr_auc", f"runs_dir={tuned}", "optimizer.lr=0.004", *words])
    decides, same = (make_run(one).deciding(()) for one in (config, by_hand))
    assert decides == same
    assert make_run(taken(tuned, "data.train_songs=250")).deciding(()) | {"data": decides["data"]} != decides


def test_what_cannot_be_taken_over_is_refused(tuned: Path, tmp_path: Path) -> None:
    with pytest.raises(MusictagError, match=r"sets optimizer.lr, which is given, too: leave out one"):
        taken(tuned, "optimizer.lr=0.01")
    with pytest.raises(MusictagError, match=r"there is no such study in .*songbook \(there are tuned\)"):
        taken(tuned, "tuning.study=tunde")
    with pytest.raises(MusictagError, match="no finished run of spectrogram_small, only of waveform_small"):
        taken(tuned, "model=spectrogram_small")
    with pytest.raises(MusictagError, match=r"has no val_rmse .* use monitor=.*val_pr_auc"):
        taken(tuned, "monitor=val_rmse")
    write_tuning(tmp_path / "runs")
    next((tmp_path / "runs").glob("*/*/metrics.json")).unlink()
    with pytest.raises(MusictagError, match="1 of 8 runs of waveform_small are not finished; rerun"):
        taken(tmp_path / "runs")


def test_a_point_of_the_grid_sets_what_it_lists() -> None:
    grid = "tuning.grid={network:[{backend.dropout:0.1},{optimizer.lr:0.5}],gbt:[{},{baseline.max_rounds:7}]}"
    assert compose([grid, "tuning.point=1"])["optimizer"]["lr"] == 0.5
    config = compose([grid, "tuning.point=1", "model=baseline_gbt"])
    assert (config["baseline"]["max_rounds"], config["optimizer"]["lr"]) == (7, 0.001)
    for words, message in (
        ([grid, "tuning.point=2"], "tuning.point=2 must be a number from 0 to 1"),
        ([grid, "tuning.point=1", "model=baseline_logistic"], "nothing for logistic; it has network, gbt"),
        ([grid, "tuning.point=1", "tuning.study=a"], "use one of them"),
        (["tuning.grid={network:[{},{}],gbt:[{}]}", "tuning.point=0"], "2 for network, 1 for gbt: list as many"),
        (["tuning.grid={network:[{backend.droput:1}]}", "tuning.point=0"], "sets backend.droput, which .* not have"),
        (["tuning.grid={network:[0.1]}", "tuning.point=0"], "tuning.grid must have a list of settings for each system"),
        (["tuning.grid=[{optimizer.lr:0.1}]", "tuning.point=0"], "tuning.grid must have a list of settings for each"),
    ):
        with pytest.raises(MusictagError, match=message):
            compose(words)


def test_augmentations_and_callbacks_are_settings_too(tmp_path: Path) -> None:
    """That a run need not have: a point adds them, and a study takes them over from the best run of another."""
    gain = "{_target_:musictag.training.augmentations.Gain,decibels:3.0}"
    mixed, ema = compose(["recipe=[mixup,ema]"]), compose(["recipe=ema"])["callbacks"]["averaging"]
    points = f"[{{}},{{augmentation.gain:{gain}}},{{augmentation.mixup.alpha:0.1}},{{callbacks.dropout.last:0.1}}]"
    grid = f"tuning.grid={{network:{points}}}"
    assert compose([grid, "tuning.point=1"])["augmentation"]["gain"]["decibels"] == 3.0
    assert compose([grid, "tuning.point=1", "recipe=mixup"])["augmentation"].keys() == {"gain", "mixup"}
    assert compose([grid, "tuning.point=2", "recipe=mixup"])["augmentation"]["mixup"]["alpha"] == 0.1
    for point, key in ((2, "augmentation.mixup.alpha"), (3, "callbacks.dropout.last")):
        with pytest.raises(MusictagError, match=f"sets {key}, which .* does not have"):
            compose([grid, f"tuning.point={point}"])
    listed = []
    for with_both, score in ((False, 0.3), (True, 0.4)):
        settings = {"data.train_songs": 250}
        if with_both:
            settings |= {"augmentation": mixed["augmentation"], "callbacks.averaging": ema}
        made = write_run(tmp_path / "songbook", "waveform_small", "waveform", score, settings=settings, songs=40)
        metrics = json.loads((made / "metrics.json").read_text())
        metrics["validation"]["val_pr_auc"] = score
        (made / "metrics.json").write_text(json.dumps(metrics))
        listed.append({"overrides": [], "run": made.name, "max_epochs": 10, "patches": 100})
    (tmp_path / "songbook" / "study-tuned.json").write_text(json.dumps({"jobs": listed}))
    config = taken(tmp_path)
    assert config["augmentation"] == mixed["augmentation"]
    assert config["callbacks"]["averaging"] == ema
    by_hand = compose(["model=waveform_small", "monitor=val_pr_auc", "recipe=[mixup,ema]", f"runs_dir={tmp_path}"])
    assert make_run(config).deciding(()) == make_run(by_hand).deciding(())


@pytest.mark.slow
def test_a_study_takes_over_what_its_tuning_study_found(tiny_catalogue: Path, tmp_path: Path) -> None:
    """From the command line, with networks and trees, each by its own grid."""
    data = ["data=catalogue", f"data.path={tiny_catalogue}", *folders(tmp_path), "data.prepare_workers=1"]
    network = [word for word in TINY if not word.startswith("data.prepare_workers")]
    trees = [word for word in SMALL_TREES if not word.startswith(("data.prepare_workers", "evaluation"))]
    grid = "tuning.grid={network:[{optimizer.lr:0.1},{optimizer.lr:0.001}],gbt:[{baseline.learning_rate:0.01},{}]}"
    tune = ["-m", *data, "study=t", grid, "tuning.point=0,1", "seed=9", "monitor=val_pr_auc", "data.train_songs=12"]
    for words in (network, [*trees, "evaluation.bootstrap_resamples=20"]):
        done = sweep(*tune, *words)
        assert done.returncode == 0, done.stdout + done.stderr
    found = finished(tmp_path)
    assert len(found) == 4
    for words in (network, [*trees, "evaluation.bootstrap_resamples=20"]):
        done = sweep("-m", *data, "study=s", "tuning.study=t", "seed=0", "monitor=val_pr_auc", *words)
        assert done.returncode == 0, done.stdout + done.stderr
    for metrics in finished(tmp_path):
        if metrics["study"] != "s":
            continue
        kind = "baseline" if metrics["baseline"] else "optimizer"
        key = {"baseline": "learning_rate", "optimizer": "lr"}[kind]
        tried = [one for one in found if bool(one["baseline"]) == bool(metrics["baseline"])]
        best = max(one["validation"]["val_pr_auc"] for one in tried)
        # so few songs that trees can be equally good
        found_best = [one["config"][kind][key] for one in tried if one["validation"]["val_pr_auc"] == best]
        assert metrics["config"][kind][key] in found_best
        assert metrics["config"]["tuning"]["taken"]["songs"] == 12
