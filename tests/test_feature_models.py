"""What predicts one tag from features, on features that are made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from musictag.baseline import fit_tagger
from musictag.errors import MusictagError
from musictag.feature_models import FeatureModel, Linear, Trees, can_judge
from musictag.identity import available_cores

from .catalogues import read_rows, ready, write_table


def made_up(num_songs: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features, of which the third decides; targets of a classification tag."""
    rng = np.random.default_rng(seed)
    features = rng.normal(0, 1, (num_songs, 6)).astype(np.float32) * [1, 100, 3, 1e-3, 1, 1] + [0, 5, 50, 0, 0, 0]
    return features.astype(np.float32), (features[:, 2] + rng.normal(0, 1, num_songs) > 50).astype(np.float32)


def test_every_setting_of_the_trees_reaches_them() -> None:
    given = {"learning_rate": 0.2, "num_leaves": 3, "min_child_samples": 7, "feature_fraction": 0.5}
    features, targets = made_up(200)
    fitter = Trees(**given, max_rounds=9, early_stopping_rounds=4, threads=1).fitter(features, features, seed=5)
    model = fitter.fit("classification", targets, targets, None)
    for line in ("learning_rate: 0.2", "num_leaves: 3", "min_data_in_leaf: 7", "feature_fraction: 0.5", "seed: 5",
                 "deterministic: 1", "force_row_wise: 1", "num_threads: 1"):  # fmt: skip
        assert f"[{line}]" in model["lightgbm"]
    assert model["chosen"] == model["trees"] == 9
    assert model["leaves"] == 27
    # what is learnt by heart helps no further song
    validation, unlike = made_up(100, seed=1)
    stopped = Trees(max_rounds=500, early_stopping_rounds=4, threads=1, min_child_samples=2).fitter(
        features, validation, seed=5
    )
    assert 0 < stopped.fit("classification", targets, unlike, None)["chosen"] < 100
    assert stopped.fit("classification", targets, unlike, 30)["trees"] == 30


def test_trees_end_where_validation_is_best() -> None:
    """Not some rounds later, when it was clear that nothing better would come."""
    features, targets = made_up(300)
    validation, judged = made_up(200, seed=1)
    model = Trees(max_rounds=400, early_stopping_rounds=15, learning_rate=0.2, threads=1)
    fitter = model.fitter(features, validation, seed=0)
    chosen = fitter.fit("classification", targets, judged, None)["chosen"]

    def loss(rounds: int) -> float:
        fitted = fitter.fit("classification", targets, judged, rounds)
        scores = model.predictor(fitted, "classification")(validation)
        return -float(np.mean(np.log(np.where(judged == 1, scores, 1 - scores))))

    losses = {rounds: loss(rounds) for rounds in range(max(1, chosen - 20), chosen + 16)}
    assert min(losses, key=losses.get) == chosen


def test_threads_are_those_that_all_libraries_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert (Trees().threads, Linear().threads, Trees(threads=2).threads) == (3, 3, 2)
    for value in ("", "0", "2,1"):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert Trees().threads == available_cores()


@pytest.mark.parametrize("model", [Trees(max_rounds=60, threads=1), Linear(threads=1)])
@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_what_decides_is_found(model: FeatureModel, kind: str) -> None:
    features, targets = made_up(600)
    if kind == "regression":
        targets = np.clip((features[:, 2] - 40) / 20, 0, 1)
    train, validation, test = slice(0, 400), slice(400, 500), slice(500, 600)
    fitted = model.fitter(features[train], features[validation], seed=0).fit(
        kind, targets[train], targets[validation], None
    )
    scores = model.predictor(json.loads(json.dumps(fitted)), kind)(features[test])
    assert scores.min() >= 0
    assert scores.max() <= 1
    assert np.corrcoef(scores, features[test, 2])[0, 1] > 0.75
    assert np.argmax(fitted["importances"]) == 2
    assert fitted["importances"][2] > 0.5
    assert sum(fitted["importances"]) == pytest.approx(1)


@pytest.mark.parametrize("model", [Trees(max_rounds=40, threads=1), Linear(threads=1)])
def test_songs_whose_target_is_unknown_are_left_out(model: FeatureModel) -> None:
    features, targets = made_up(600)
    validation, judged = made_up(100, seed=1)
    fitter = model.fitter(features, validation, seed=0)
    half = np.where(np.arange(600) % 2, targets, np.nan).astype(np.float32)
    some = np.where(np.arange(100) < 70, judged, np.nan).astype(np.float32)
    fitted = fitter.fit("classification", half, some, None)
    scores = model.predictor(fitted, "classification")(validation)
    assert np.mean((scores > 0.5) == judged) > 0.75
    # and whether they say the same, or that another tag was fitted before, makes no difference
    fitter.fit("classification", 1 - targets, judged, None)
    assert fitter.fit("classification", half, some, None)["chosen"] == fitted["chosen"]
    np.testing.assert_array_equal(
        model.predictor(fitter.fit("classification", half, some, None), "classification")(validation), scores
    )
    # songs known to say the contrary would
    contrary = np.where(np.arange(600) % 2, targets, 1 - targets).astype(np.float32)
    wrong = model.predictor(fitter.fit("classification", contrary, some, None), "classification")(validation)
    assert np.mean((wrong > 0.5) == judged) < 0.7


def test_the_linear_models_are_those_of_scikit_learn() -> None:
    features, targets = made_up(300)
    features[:, 5] = 7.0  # the same everywhere
    scale = np.where(np.arange(6) == 5, 1.0, features.std(axis=0, dtype=np.float64))
    standard = (features - features.mean(axis=0, dtype=np.float64)) / scale
    half = np.where(np.arange(300) % 2, targets, np.nan).astype(np.float32)
    known = ~np.isnan(half)
    fitter = Linear(penalties=[5.0], threads=1).fitter(features, features, seed=0)
    fitted = fitter.fit("classification", half, targets, None)
    theirs = LogisticRegression(C=0.2, max_iter=2000).fit(standard[known], targets[known])
    scores = Linear(threads=1).predictor(fitted, "classification")(features)
    np.testing.assert_allclose(scores, theirs.predict_proba(standard)[:, 1], atol=1e-4)
    fitted = fitter.fit("regression", half, targets, None)
    theirs = Ridge(alpha=5.0).fit(standard[known], targets[known])
    scores = Linear(threads=1).predictor(fitted, "regression")(features)
    np.testing.assert_allclose(scores, theirs.predict(standard).clip(0, 1), atol=1e-4)


def test_validation_chooses_the_penalty() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(0, 1, (60, 40)).astype(np.float32)
    validation = rng.normal(0, 1, (400, 40)).astype(np.float32)
    fitter = Linear(penalties=[1.0, 10000.0], threads=1).fitter(features, validation, seed=0)
    noise, other_noise = rng.integers(0, 2, 60).astype(np.float32), rng.integers(0, 2, 400).astype(np.float32)
    assert fitter.fit("classification", noise, other_noise, None)["chosen"] == 10000.0
    clear = fitter.fit("classification", (features[:, 0] > 0) * 1.0, (validation[:, 0] > 0) * 1.0, None)
    assert clear["chosen"] == 1.0
    assert fitter.fit("classification", noise, other_noise, 1.0)["chosen"] == 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Trees(learning_rate=0), r"baseline\.learning_rate=0; it must lie between"),
        (lambda: Trees(num_leaves=1), r"baseline\.num_leaves=1"),
        (lambda: Trees(feature_fraction=1.5), r"baseline\.feature_fraction=1\.5"),
        (lambda: Trees(threads=0), r"baseline\.threads=0"),
        (lambda: Linear(penalties=[]), r"baseline\.penalties=\[\]"),
        (lambda: Linear(penalties=[1, -1]), r"baseline\.penalties"),
        (
            lambda: Trees(threads=1).fitter(np.zeros((12, 3)), np.zeros((2, 3)), 0),
            r"type baseline\.min_child_samples=1",
        ),
    ],
)
def test_settings_out_of_range_say_what_to_type(make: Any, message: str) -> None:
    with pytest.raises(MusictagError, match=message):
        make()


def test_who_can_judge() -> None:
    nan = np.nan
    assert can_judge("classification", np.array([0, 1, nan]))
    assert not can_judge("classification", np.array([1, 1, nan]))
    assert not can_judge("classification", np.array([nan]))
    assert can_judge("regression", np.array([0.5, nan]))
    assert not can_judge("regression", np.array([nan]))


class Scripted(FeatureModel):
    """Fits nothing: validation chooses these numbers, one after the other."""

    def __init__(self, choices: list[float]) -> None:
        super().__init__(threads=1)
        self.choices = choices

    def fitter(self, train: np.ndarray, validation: np.ndarray, seed: int) -> Scripted:
        return self

    def fit(self, kind: str, train: np.ndarray, validation: np.ndarray, chosen: float | None) -> dict[str, Any]:
        return {"chosen": self.choices.pop(0) if chosen is None else chosen, "importances": [1.0]}

    def predictor(self, model: dict[str, Any], kind: str) -> Any:
        return lambda features: np.zeros(len(features))

    def sizes(self, models: Any) -> dict[str, int | None]:
        return {"parameters": 0}


def test_a_tag_that_validation_cannot_judge_gets_the_median_of_the_others(tiny_catalogue: Path, tmp_path: Path) -> None:
    rows = read_rows(tiny_catalogue)
    for number, row in enumerate(rows):
        row |= {"slow": number % 2, "loud": number % 2}
        if row["split"] == "validation":
            row["loud"] = 1
    write_table(tiny_catalogue, rows)
    data = ready(tiny_catalogue)
    assert [tag.name for tag in data.tags] == ["high", "noisy", "brightness", "slow", "loud"]
    features = {split: np.zeros((len(data.song_ids(split)), 1)) for split in ("train", "validation", "test")}
    with pytest.warns(UserWarning, match="cannot judge 1 of 5 tags"):
        tagger = fit_tagger(Scripted([7.0, 1.0, 100.0, 3.0]), {}, data, features, 0, tmp_path)
    assert [tag["chosen"] for tag in tagger.fitted] == [7.0, 1.0, 100.0, 3.0, 5.0]
