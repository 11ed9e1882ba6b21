"""Rules for the best epoch: smoothing, and what other rules would have chosen."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from musictag.common.errors import MusictagError
from musictag.experiment import run as experiment
from musictag.models.checkpoint import read_tagger
from musictag.training.best_epoch import Rule, rules
from musictag.training.callbacks.early_stopping import ResumableEarlyStopping
from musictag.training.signals import Stopped
from tests.helpers.experiments import TINY, compose_config, folders

LUCKY = (0.30, 0.60, 0.35, 0.42, 0.44, 0.46, 0.43, 0.41)  # epoch 1 by luck, epoch 5 with the epochs around it


def rows(values: Any, name: str = "val_pr_auc") -> list[dict[str, Any]]:
    return [{"epoch": epoch, name: value} for epoch, value in enumerate(values)]


def test_a_lucky_epoch_does_not_win() -> None:
    assert Rule("val_pr_auc").choose(rows(LUCKY)) == 1
    means = [sum(LUCKY[max(0, end - 3) : end]) / len(LUCKY[max(0, end - 3) : end]) for end in range(1, 9)]
    assert Rule("val_pr_auc", 3).choose(rows(LUCKY)) == means.index(max(means)) == 3
    assert Rule("val_pr_auc", 5).choose(rows(LUCKY)) == 5
    assert Rule(None).choose(rows(LUCKY)) == 7


def test_each_metric_has_its_direction_and_what_is_not_a_number_never_wins() -> None:
    assert Rule("val_loss", 2).choose(rows((0.5, 0.2, 0.4, 0.1, 0.3), "val_loss")) == 4
    assert Rule("val_loss").choose(rows((math.nan, 0.2, math.nan), "val_loss")) == 1
    assert Rule("val_pr_auc", 2).choose(rows((0.1, math.nan, 0.3, 0.2))) == 3
    assert Rule("val_pr_auc").choose(rows((0.5, 0.5))) == 0  # of equals the first
    assert Rule("val_pr_auc").choose(rows((None, None))) is None  # regression alone


def test_what_is_chosen_so_far_is_what_a_choice_at_the_end_would_be() -> None:
    """The tagger is written while training goes on, by what is known then."""
    for smoothing in (1, 2, 3, 5):
        rule, found = Rule("val_pr_auc", smoothing), rows(LUCKY)
        written = [epoch for epoch in range(len(found)) if rule.choose(found[: epoch + 1]) == epoch]
        assert written[-1] == rule.choose(found)


def test_the_rules_are_those_of_the_run_and_its_rivals() -> None:
    assert list(rules("val_loss", 1)) == ["val_loss", "val_pr_auc", "last epoch"]
    assert list(rules("val_pr_auc", 3)) == ["val_loss", "val_pr_auc", "val_pr_auc smoothed", "last epoch"]
    assert list(rules("val_rmse", 2)) == ["val_loss", "val_pr_auc", "val_rmse", "val_rmse smoothed", "last epoch"]


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "3"])
def test_a_smoothing_that_cannot_be_is_refused(wrong: Any) -> None:
    with pytest.raises(MusictagError, match=f"monitor_smoothing={wrong} must be a number of epochs"):
        ResumableEarlyStopping("val_loss", smoothing=wrong)
    with pytest.raises(MusictagError, match=f"monitor_smoothing={wrong} must be a number of epochs"):
        experiment.run(compose_config() | {"monitor_smoothing": wrong})


@pytest.mark.parametrize("wrong", [0, -1])
def test_a_patience_that_ends_training_before_it_begins_is_refused(wrong: Any) -> None:
    with pytest.raises(MusictagError, match=f"patience={wrong} must be .* use callbacks.early_stopping=null"):
        ResumableEarlyStopping("val_loss", patience=wrong)


def test_early_stopping_says_what_the_validation_songs_lack() -> None:
    stopping, found = ResumableEarlyStopping("val_rmse"), {"val_loss": 0.5, "val_pr_auc": 0.5, "train_loss": 0.5}
    with pytest.raises(
        MusictagError,
        match=r"callbacks.early_stopping.monitor=val_rmse cannot be computed .* possible here: val_loss, val_pr_auc$",
    ):
        stopping._run_early_stopping_check(SimpleNamespace(callback_metrics=found, fast_dev_run=False))


def test_early_stopping_counts_smoothed_epochs_and_continues_to() -> None:
    def stops_after(values: tuple[float, ...], smoothing: int, killed_after: int = 99) -> int:
        stopping = ResumableEarlyStopping("val_pr_auc", patience=2, smoothing=smoothing)
        for epoch, value in enumerate(values):
            if epoch == killed_after:
                state, stopping = stopping.state_dict(), ResumableEarlyStopping("val_pr_auc", 2, smoothing=smoothing)
                stopping.load_state_dict(state)
            if stopping._evaluate_stopping_criteria(torch.tensor(value))[0]:
                return epoch
        return len(values)

    assert stops_after(LUCKY, 1) == 3
    # means 0.30, 0.45, 0.417, 0.457, 0.403, 0.44: two epochs without a better one after epoch 3
    assert stops_after(LUCKY, 3) == 5
    assert [stops_after(LUCKY, 3, killed) for killed in range(1, 6)] == [5] * 5


@pytest.fixture
def settings(tiny_catalogue: Path, tmp_path: Path) -> list[str]:
    words = ["trainer.max_epochs=6", "data.train_songs=6", "optimizer.lr=0.02", "evaluation.compare_choices=true"]
    words += ["monitor=val_pr_auc", "monitor_smoothing=2", "data.patches_per_epoch=8"]
    return ["data=catalogue", f"data.path={tiny_catalogue}", *TINY, *words, *folders(tmp_path)]


def test_what_other_choices_would_have_given_is_written_down(settings: list[str], tmp_path: Path) -> None:
    config = compose_config(*settings)
    metrics = experiment.run(config)
    folder, choices = experiment.results_folder(config), metrics["choices"]
    assert list(choices) == ["val_loss", "val_pr_auc", "val_pr_auc smoothed", "last epoch"]
    assert choices["val_pr_auc smoothed"]["epoch"] == metrics["best_epoch"]
    assert choices["last epoch"]["epoch"] == 5
    assert len({choice["epoch"] for choice in choices.values()}) > 1
    assert not (folder / "choices").exists()
    (folder / "choices").mkdir()  # left behind by a process that was killed after it had written its results
    experiment.run(config)
    assert not (folder / "choices").exists()
    # a run that ends with an epoch that another rule chooses has these scores as its own
    other = min(choices.values(), key=lambda choice: choice["epoch"])
    assert other["epoch"] < metrics["best_epoch"]
    words = [f"trainer.max_epochs={other['epoch'] + 1}", f"runs_dir={tmp_path / 'alone'}"]
    alone = experiment.run(compose_config(*settings, *words))["choices"]["last epoch"]
    assert (alone["epoch"], alone["test"]) == (other["epoch"], pytest.approx(other["test"]))
    assert alone["validation"] == pytest.approx(other["validation"])
    # without the comparison the run is the same, and only its own choice is tested
    plain = experiment.run(compose_config(*settings, "evaluation.compare_choices=false"))
    assert plain["test"] == metrics["test"]
    assert plain["best_epoch"] == metrics["best_epoch"]
    for name, choice in plain["choices"].items():
        is_own = choice["epoch"] == plain["best_epoch"]
        assert choice == choices[name] | {"test": choices[name]["test"] if is_own else None}


def test_an_interrupted_comparison_has_the_same_choices(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from musictag.training.callbacks.history import History

    whole = experiment.run(compose_config(*settings))
    config = compose_config(*settings, f"runs_dir={tmp_path / 'again'}")
    count = History.on_train_epoch_end

    def killed(self: History, trainer: Any, module: Any) -> None:
        if trainer.current_epoch == 3:
            raise Stopped(15)
        count(self, trainer, module)

    monkeypatch.setattr(History, "on_train_epoch_end", killed)
    with pytest.raises(Stopped):
        experiment.run(config)
    folder = experiment.results_folder(config)
    assert sorted(path.stem for path in (folder / "choices").iterdir())[-1] == "val_pr_auc_smoothed"
    monkeypatch.setattr(History, "on_train_epoch_end", count)
    assert experiment.run(config)["choices"] == whole["choices"]
    # the taggers are gone: what they would score is not made up
    (folder / "metrics.json").unlink()
    with pytest.raises(MusictagError, match="choices"):
        experiment.run(config)
    assert read_tagger(folder / "tagger.safetensors").description["epoch"] == whole["best_epoch"]
