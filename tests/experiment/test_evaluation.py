"""Song-level scores of a run, from scratch: patches cut here, means taken here, figures by scikit-learn."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics

import musictag
from musictag.experiment import run as experiment
from tests.helpers.catalogues import read_rows, write_table
from tests.helpers.experiments import TINY, compose_config, folders
from tests.helpers.plain_training import read_splits, song_scores

PATCH = 38400
TAGS = ("high", "noisy", "brightness", "rare", "gone")
KINDS = "high:classification,noisy:classification,brightness:regression,rare:classification,gone:classification"


@pytest.fixture
def catalogue(tiny_catalogue: Path) -> Path:
    """Unknown targets of every kind; tags without positives, without negatives, and known of nobody, in the test."""
    rows = read_rows(tiny_catalogue)
    for number, row in enumerate(rows):
        evaluated = row["split"] != "train"
        row["rare"] = 0 if row["split"] == "test" else number % 2
        row["gone"] = "" if row["split"] == "validation" else 1 if row["split"] == "test" else number % 2
        if evaluated and number % 4 == 3:
            row["noisy"] = ""
        if evaluated and number % 3 == 1:
            row["brightness"] = ""
    next(row for row in rows if row["split"] == "test")["high"] = ""
    return write_table(tiny_catalogue, rows)


def by_hand(scores: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    """Of one evaluation (arrays S×K): figures by tag, None where there are none, and their means."""
    tags: dict[str, dict[str, float | None]] = {}
    for name, score, target in zip(TAGS, scores.T, targets.T, strict=True):
        score, target = score[~np.isnan(target)], target[~np.isnan(target)]
        tags[name] = dict.fromkeys(("roc_auc", "pr_auc", "rmse", "prevalence"))
        if name == "brightness":
            tags[name]["rmse"] = float(np.sqrt(np.mean((score - target) ** 2)))
            continue
        if len(target):
            tags[name]["prevalence"] = float(np.mean(target == 1))
        if len(set(target)) == 2:
            tags[name]["roc_auc"] = sklearn.metrics.roc_auc_score(target, score)
            tags[name]["pr_auc"] = sklearn.metrics.average_precision_score(target, score)
    means = {
        figure: float(np.mean([tag[figure] for tag in tags.values() if tag[figure] is not None]))
        for figure in ("roc_auc", "pr_auc", "rmse")
    }
    return {"tags": tags, "means": means}


@pytest.mark.filterwarnings("ignore:the split")
@pytest.mark.parametrize("mode", ["patches", "whole"])
def test_the_scores_of_a_run_are_those_of_its_patches(catalogue: Path, tmp_path: Path, mode: str) -> None:
    words = ["data.patch_seconds=2.4", f"data.tags={{{KINDS}}}", f"evaluation.mode={mode}", "evaluation.batch_size=3"]
    learning = ["optimizer.lr=0.01", "frontend.norm_momentum=0.2", "backend.norm_momentum=0.2"]
    config = compose_config("data=catalogue", f"data.path={catalogue}", *TINY, *folders(tmp_path), *words, *learning)
    metrics = experiment.run(config)
    run_dir = experiment.results_folder(config)
    network = musictag.load(run_dir / "tagger.safetensors").network
    splits = read_splits(catalogue, TAGS)
    lengths = [len(audio) for audio in splits["test"].audio]
    assert min(lengths) < PATCH < max(lengths)
    assert any(length > PATCH and length % PATCH for length in lengths)

    scores = song_scores(network, splits["test"].audio, whole=mode == "whole")
    stored = np.load(run_dir / "predictions.npz")
    assert stored["song_ids"].tolist() == splits["test"].ids
    np.testing.assert_array_equal(stored["targets"], splits["test"].targets)
    np.testing.assert_allclose(stored["scores"], scores, rtol=0, atol=1e-6)
    assert np.ptp(scores[:, 0]) > 1e-3  # the songs differ by more than that

    expected = by_hand(scores, splits["test"].targets)
    test = metrics["test"]
    for figure, value in expected["means"].items():
        assert test[figure]["value"] == pytest.approx(value, abs=1e-6), figure
    for tag in test["tags"]:
        figures = expected["tags"][tag["name"]]
        assert {figure: tag[figure] for figure in figures} == pytest.approx(figures, abs=1e-6), tag["name"]
        assert tag["known"] == np.count_nonzero(~np.isnan(splits["test"].targets[:, TAGS.index(tag["name"])]))
    assert [tag["known"] for tag in test["tags"]] == [6, 5, 5, 7, 7]
    assert test["tags_left_out"] == ["rare", "gone"]
    scored = [expected["tags"][name]["prevalence"] for name in ("high", "noisy")]
    assert test["chance_pr_auc"] == pytest.approx(np.mean(scored))

    scores = song_scores(network, splits["validation"].audio, whole=mode == "whole")
    expected = by_hand(scores, splits["validation"].targets)
    with (run_dir / "history.csv").open() as file:
        best = list(csv.DictReader(file))[metrics["best_epoch"]]
    for figure, value in expected["means"].items():
        assert float(best[f"val_{figure}"]) == pytest.approx(value, abs=1e-6), figure
    known = ~np.isnan(splits["validation"].targets)
    p, t = scores[known], splits["validation"].targets[known]
    assert float(best["val_loss"]) == pytest.approx(np.mean(-t * np.log(p) - (1 - t) * np.log(1 - p)), abs=1e-6)
