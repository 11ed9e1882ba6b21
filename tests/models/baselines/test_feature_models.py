"""Models that predict one tag from features, on synthetic features."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from musictag.common.errors import MusictagError
from musictag.common.files import write_json
from musictag.common.processes import available_cores
from musictag.models.baselines import FeatureModel, can_judge
from musictag.models.baselines.linear import Linear
from musictag.models.baselines.trees import Trees
from musictag.training.baseline import fit_tagger
from tests.helpers.catalogues import read_rows, ready, write_table


def made_up(num_songs: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features, the third of which decides; targets of a classification tag."""
    rng = np.random.default_rng(seed)
    features = rng.normal(0, 1, (num_songs, 6)).astype(np.float32) * [1, 100, 3, 1e-3, 1, 1] + [0, 5, 50, 0, 0, 0]
    return features.astype(np.float32), (features[:, 2] + rng.normal(0, 1, num_songs) > 50).astype(np.float32)


def test_every_setting_of_the_trees_reaches_them(monkeypatch: pytest.MonkeyPatch) -> None:
    grown = []
    train = lightgbm.train

    def watched(*arguments: Any, **settings: Any) -> Any:
        grown.append(train(*arguments, **settings))
        return grown[-1]

    monkeypatch.setattr(lightgbm, "train", watched)
    given = {"learning_rate": 0.2, "num_leaves": 3, "min_child_samples": 7, "feature_fraction": 0.5}
    features, targets = made_up(200)
    fitter = Trees(**given, max_rounds=9, early_stopping_rounds=4, threads=1).fitter(features, features, seed=5)
    model = fitter.fit("classification", targets, targets, None)
    (booster,) = grown
    for line in ("learning_rate: 0.2", "num_leaves: 3", "min_data_in_leaf: 7", "feature_fraction: 0.5", "seed: 5",
                 "deterministic: 1", "force_row_wise: 1", "num_threads: 1"):  # fmt: skip
        assert f"[{line}]" in booster.model_to_string()
    assert model["chosen"] == {"num_leaves": 3, "rounds": 9}
    assert model["trees"] == 9
    assert model["leaves"] == 27
    # memorised songs help no other song
    validation, unlike = made_up(100, seed=1)
    stopped = Trees(max_rounds=500, early_stopping_rounds=4, threads=1, min_child_samples=2).fitter(
        features, validation, seed=5
    )
    assert 0 < stopped.fit("classification", targets, unlike, None)["chosen"]["rounds"] < 100
    told = stopped.fit("classification", targets, unlike, {"num_leaves": 5, "rounds": 30})
    assert (told["trees"], told["chosen"]) == (30, {"num_leaves": 5, "rounds": 30})
    assert told["leaves"] == 5 * 30


def boxes(num_songs: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features, four of which decide together (the parity of their signs): trees with few leaves cannot express it."""
    features = np.random.default_rng(seed).normal(0, 1, (num_songs, 4)).astype(np.float32)
    return features, (np.prod(np.sign(features), axis=1) > 0).astype(np.float32)


def test_validation_chooses_the_size_of_the_trees() -> None:
    settings = {"feature_fraction": 1.0, "max_rounds": 60, "threads": 1}
    features, targets = boxes(4000, seed=0)
    validation, judged = boxes(1000, seed=1)
    fitter = Trees(num_leaves=[31, 3], **settings).fitter(features, validation, seed=0)
    large = fitter.fit("classification", targets, judged, None)
    assert large["chosen"]["num_leaves"] == 31
    assert large["leaves"] > 3 * large["trees"]
    # if one feature decides, large trees memorise noise
    rng = np.random.default_rng(2)
    simple, alike = (
        (songs[:, 0] + rng.normal(0, 2, len(songs)) > 0).astype(np.float32) for songs in (features, validation)
    )
    assert fitter.fit("classification", simple, alike, None)["chosen"]["num_leaves"] == 3
    # the choice is better than either size for all tags
    for size in (3, 31):
        alone = Trees(num_leaves=size, **settings).fitter(features, validation, seed=0)
        of_size = [alone.fit("classification", *pair, None) for pair in ((targets, judged), (simple, alike))]
        assert [model["chosen"]["num_leaves"] for model in of_size] == [size, size]
        mine = [large, fitter.fit("classification", simple, alike, None)]
        assert sum(map(validation_loss(validation, (judged, alike)), range(2), mine)) < sum(
            map(validation_loss(validation, (judged, alike)), range(2), of_size)
        )


def validation_loss(features: np.ndarray, targets: tuple[np.ndarray, ...]) -> Any:
    def loss(place: int, model: dict[str, Any]) -> float:
        scores = Trees(threads=1).predictor(model, "classification")(features).clip(1e-6, 1 - 1e-6)
        return float(-np.log(np.where(targets[place] == 1, scores, 1 - scores)).mean())

    return loss


def test_sizes_that_so_few_songs_cannot_fill_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    train = lightgbm.train

    def watched(parameters: dict[str, Any], *arguments: Any, **settings: Any) -> Any:
        tried.append(parameters["num_leaves"])
        return train(parameters, *arguments, **settings)

    monkeypatch.setattr(lightgbm, "train", watched)
    features, targets = boxes(400, seed=0)
    # the loss on the training songs themselves decreases with size
    fitter = Trees(num_leaves=[2, 8, 16, 32, 64], max_rounds=5, threads=1).fitter(features, features, seed=0)
    fitter.fit("classification", targets, targets, None)
    assert tried == [2, 8, 16, 32]  # at 20 songs per leaf there are at most 20
    tried.clear()
    fitter.fit("classification", np.where(np.arange(400) < 100, targets, np.nan), targets, None)
    assert tried == [2, 8]


def test_unjudged_tags_get_the_size_of_most_others() -> None:
    chosen = [{"num_leaves": size, "rounds": rounds} for size, rounds in ((7, 10), (31, 100), (31, 300), (31, 110))]
    assert Trees().typical(chosen) == {"num_leaves": 31, "rounds": 110}
    assert Trees().typical([chosen[1], chosen[0]]) == {"num_leaves": 7, "rounds": 10}
    assert Linear().typical([1, 10, 1000]) == 10
    models = [{"chosen": one, "trees": one["rounds"], "leaves": 5} for one in chosen]
    assert Trees().sizes(models)["chosen"] == {"num_leaves": {"7": 1, "31": 3}}
    lines = [{"chosen": penalty, "weights": [0.0]} for penalty in (10000, 1, 10000, 0.5)]
    assert Linear().sizes(lines)["chosen"] == {"penalties": {"0.5": 1, "1": 1, "10000": 2}}


def test_one_number_is_a_list_of_one() -> None:
    assert Trees(num_leaves=5).num_leaves == [5]
    assert Trees(num_leaves=[9, 5, 9]).num_leaves == [5, 9]
    assert Linear(penalties=3).penalties == [3]


def test_trees_end_where_validation_is_best() -> None:
    """Not some rounds later, when it was clear that nothing better would follow."""
    features, targets = made_up(300)
    validation, judged = made_up(200, seed=1)
    model = Trees(num_leaves=7, max_rounds=400, early_stopping_rounds=15, learning_rate=0.2, threads=1)
    fitter = model.fitter(features, validation, seed=0)
    chosen = fitter.fit("classification", targets, judged, None)["chosen"]["rounds"]

    def loss(rounds: int) -> float:
        fitted = fitter.fit("classification", targets, judged, {"num_leaves": 7, "rounds": rounds})
        scores = model.predictor(fitted, "classification")(validation)
        return -float(np.mean(np.log(np.where(judged == 1, scores, 1 - scores))))

    losses = {rounds: loss(rounds) for rounds in range(max(1, chosen - 20), chosen + 16)}
    assert min(losses, key=losses.get) == chosen


def test_threads_are_passed_to_all_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
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
    # songs with the opposite value would
    contrary = np.where(np.arange(600) % 2, targets, 1 - targets).astype(np.float32)
    wrong = model.predictor(fitter.fit("classification", contrary, some, None), "classification")(validation)
    assert np.mean((wrong > 0.5) == judged) < 0.7


def test_the_linear_models_are_those_of_scikit_learn_on_features_standardised_by_training_songs() -> None:
    features, targets = made_up(3000)  # several blocks
    features[:, 5] = 7.0  # constant
    # different validation songs, which must not affect the standardisation by training songs
    validation, judged = made_up(200, seed=1)
    validation = validation * 3 + 11
    scaler = StandardScaler().fit(features.astype(np.float64))
    standard = scaler.transform(features.astype(np.float64))
    half = np.where(np.arange(3000) % 2, targets, np.nan).astype(np.float32)
    known = ~np.isnan(half)
    fitter = Linear(penalties=[500.0], threads=1).fitter(features, validation, seed=0)
    model = Linear(threads=1)
    for kind, theirs in (("classification", LogisticRegression(C=1 / 500, tol=1e-8)), ("regression", Ridge(alpha=500))):
        fitted = fitter.fit(kind, half, judged, None)
        theirs.fit(standard[known], targets[known])
        expected = theirs.predict_proba(standard)[:, 1] if kind == "classification" else theirs.predict(standard)
        np.testing.assert_allclose(model.predictor(fitted, kind)(features), expected.clip(0, 1), atol=5e-4)
        # scores of other songs do not depend on them, and validation chooses by these scores
        alone = Linear(penalties=[500.0], threads=1).fitter(features, features, seed=0).fit(kind, half, targets, None)
        assert alone["weights"] == fitted["weights"]
    penalties = [0.01, 10.0, 1e5]
    chosen = Linear(penalties=penalties, threads=1).fitter(features, validation, seed=0)
    fitted = chosen.fit("classification", half, judged, None)
    losses = []
    for penalty in penalties:
        line = LogisticRegression(C=1 / penalty, tol=1e-8).fit(standard[known], targets[known])
        losses.append(log_loss(judged, line.predict_proba(scaler.transform(validation.astype(np.float64)))[:, 1]))
    assert fitted["chosen"] == penalties[int(np.argmin(losses))]


def test_linear_models_make_one_copy_of_the_features_for_all_tags_and_penalties() -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((20_000, 60), dtype=np.float32)
    targets = (features[:, 0] > 0).astype(np.float32)
    half = np.where(np.arange(len(targets)) % 2, targets, np.nan).astype(np.float32)
    model = Linear(penalties=[10, 1000], threads=1)
    model.fitter(features[:50], features[:50], seed=0).fit("regression", targets[:50], targets[:50], None)  # imports
    tracemalloc.start()
    try:
        fitter = model.fitter(features, features[:100], seed=0)
        fitter.fit("classification", targets, targets[:100], None)
        fitter.fit("classification", half, targets[:100], None)
        fitter.fit("regression", half, targets[:100], None)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 1.5 * features.nbytes


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
        (lambda: Trees(learning_rate=0), r"baseline\.learning_rate=0; it must be between"),
        (lambda: Trees(num_leaves=1), r"baseline\.num_leaves=1"),
        (lambda: Trees(num_leaves=[7, 1]), r"baseline\.num_leaves=1"),
        (lambda: Trees(num_leaves=[]), r"baseline\.num_leaves=\[\]; give one or more numbers"),
        (lambda: Trees(feature_fraction=1.5), r"baseline\.feature_fraction=1\.5"),
        (lambda: Trees(threads=0), r"baseline\.threads=0"),
        (lambda: Linear(penalties=[]), r"baseline\.penalties=\[\]"),
        (lambda: Linear(penalties=[1, -1]), r"baseline\.penalties"),
        (
            lambda: Trees(threads=1).fitter(np.zeros((12, 3)), np.zeros((2, 3)), 0),
            r"use baseline\.min_child_samples=1",
        ),
    ],
)
def test_settings_out_of_range_say_what_to_use(make: Any, message: str) -> None:
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
    """Fits nothing: validation chooses these numbers, in order."""

    def __init__(self, choices: list[float]) -> None:
        super().__init__(threads=1)
        self.choices = choices

    def fitter(self, train: np.ndarray, validation: np.ndarray, seed: int) -> Scripted:
        return self

    def fit(self, kind: str, train: np.ndarray, validation: np.ndarray, chosen: float | None) -> dict[str, Any]:
        return {"chosen": self.choices.pop(0) if chosen is None else chosen, "importances": [1.0]}

    def predictor(self, model: dict[str, Any], kind: str) -> Any:
        return lambda features: np.zeros(len(features))

    def typical(self, chosen: Any) -> float:
        return float(np.median(chosen))

    def sizes(self, models: Any) -> dict[str, int | None]:
        return {"parameters": 0}


def test_a_tag_that_validation_cannot_judge_gets_what_is_typical_of_the_others(
    tiny_catalogue: Path, tmp_path: Path
) -> None:
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
        tagger, _ = fit_tagger(Scripted([7.0, 1.0, 100.0, 3.0]), {}, data, features, 0, tmp_path)
    assert [tag["chosen"] for tag in tagger.fitted] == [7.0, 1.0, 100.0, 3.0, 5.0]
    # a file of another tag, as of a process that had lost other songs, is not taken for that of this one
    path = tmp_path / "tags" / "0001.json"
    write_json(path, json.loads(path.read_text()) | {"name": "another"})
    with pytest.warns(UserWarning, match="cannot judge 1 of 5 tags"):
        tagger, _ = fit_tagger(Scripted([8.0]), {}, data, features, 0, tmp_path)
    assert [tag["chosen"] for tag in tagger.fitted] == [7.0, 8.0, 100.0, 3.0, 5.0]
    assert tagger.tag_names == tuple(tag.name for tag in data.tags)
