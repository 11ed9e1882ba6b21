"""Leaks: other splits leave no trace in what is fitted to the training songs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from musictag.experiment import run as experiment
from musictag.models.baselines import FeatureModel
from musictag.models.baselines.linear import Linear
from musictag.models.baselines.trees import Trees
from tests.helpers.catalogues import ready
from tests.helpers.experiments import TINY, compose_config, folders


def features(num_songs: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two columns, the first of which decides about a classification tag."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, (num_songs, 2)) * [3, 0.1] + [50, 0]
    return values.astype(np.float32), (values[:, 0] + rng.normal(0, 1, num_songs) > 50).astype(np.float32)


@pytest.mark.parametrize("model", [Linear(threads=1), Trees(max_rounds=20, min_child_samples=5, threads=1)])
@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_features_of_validation_songs_change_no_model_of_a_baseline(model: FeatureModel, kind: str) -> None:
    """They choose the penalty and the number of trees; if these are given, they have no influence at all."""
    train, targets = features(120, seed=0)
    validation, judged = features(60, seed=1)
    chosen = {"num_leaves": 7, "rounds": 10} if isinstance(model, Trees) else 10.0
    one, other = (
        model.fitter(train, songs, seed=0).fit(kind, targets, judged, chosen)
        for songs in (validation, 1000 * validation + 7)
    )
    assert one == other


def test_normalisation_measures_training_songs_alone(tiny_catalogue: Path) -> None:
    def measured() -> np.ndarray:
        data = ready(tiny_catalogue)
        return np.concatenate([block.numpy() for block in data.normalisation_waveforms()])

    before = measured()
    for split, length in (("validation", 5), ("test", 7)):
        for number in range(length):
            path = tiny_catalogue.parent / "audio" / f"{split}-{number:02d}.wav"
            soundfile.write(path, 0.9 * np.sign(np.sin(np.arange(20_000) / (9 + number))), 16_000)
    np.testing.assert_array_equal(measured(), before)


def test_test_songs_change_nothing_that_is_trained_and_kept(tiny_catalogue: Path, tmp_path: Path) -> None:
    """Every number of every epoch comes from training and validation songs."""
    words = ["data=catalogue", f"data.path={tiny_catalogue}", *TINY, *folders(tmp_path)]
    histories, scores = [], []
    for name in ("before", "after"):
        config = compose_config(*words, f"runs_dir={tmp_path / name}", f"data_dir={tmp_path / name / 'data'}")
        metrics = experiment.run(config)
        lines = (experiment.results_folder(config) / "history.csv").read_text().splitlines()
        histories.append([line.rpartition(",")[0] for line in lines])  # the last column is the duration
        scores.append(metrics["test"]["roc_auc"])
        for number in range(7):
            path = tiny_catalogue.parent / "audio" / f"test-{number:02d}.wav"
            soundfile.write(path, 0.9 * np.sign(np.sin(np.arange(20_000) / (9 + number))), 16_000)
    assert histories[0] == histories[1]
    assert scores[0] != scores[1]
