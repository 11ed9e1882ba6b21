"""A catalogue of 1.2 million songs: opening, sampling and memory; and its experiment, scaled down."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
import soundfile

import musictag
from musictag.data.datasets.catalogue import CatalogueFile
from musictag.data.loading.datamodule import SongDataModule
from musictag.data.random_draws import epoch_order, song_keys, subset_order
from musictag.experiment import run as experiment
from tests.benchmarks import million
from tests.helpers.catalogues import synthetic_song, write_table
from tests.helpers.experiments import TINY, compose_config, folders
from tests.helpers.plain_training import read_splits, song_scores

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return million.write_million(tmp_path_factory.mktemp("million"))


@pytest.mark.slow
@on_linux
def test_it_fits_into_memory(catalogue: Path) -> None:
    opened = million.in_fresh_process(million.opening, catalogue, 2)
    assert opened["shape"] == ((32, 48000), (32, 139))
    assert opened["main_mb"] <= 2500
    assert len(opened["worker_mb"]) == 2
    assert max(opened["worker_mb"]) <= 150


@pytest.mark.slow
def test_its_subsets_are_nested_and_training_draws_from_them(catalogue: Path) -> None:
    source = CatalogueFile(catalogue)
    trained_on = []
    for size in (100_000, 500_000):
        data = SongDataModule(source, catalogue.parent / "data", patch_seconds=3, train_songs=size, num_workers=0)
        data.prepare_data()
        data.setup()
        assert len(data.song_ids("train")) == size
        assert len(data.song_ids("validation")) == len(data.song_ids("test")) == 100_000
        batch = next(iter(data.train_dataloader()))
        assert batch["audio"].shape == (32, 48000)
        np.testing.assert_array_equal(batch["target"], data.targets("train")[batch["song"].numpy()])
        trained_on.append(set(data.song_ids("train")))
    assert trained_on[0] < trained_on[1]


@pytest.mark.slow
def test_the_order_of_an_epoch_has_every_song_once() -> None:
    order = epoch_order(million.NUM_SONGS, seed=0, epoch=3)
    assert len(order) == million.NUM_SONGS
    np.testing.assert_array_equal(np.sort(order), np.arange(million.NUM_SONGS))
    keys = song_keys(f"song{song:07d}" for song in range(million.NUM_SONGS))
    np.testing.assert_array_equal(np.sort(subset_order(keys, 0)), np.arange(million.NUM_SONGS))


@pytest.mark.slow
@on_linux
def test_its_metrics_fit_into_memory() -> None:
    # memory does not depend on the number of resamples, which are drawn block by block
    assert million.in_fresh_process(million.scoring, million.TEST_SONGS, 20)["peak_mb"] <= 2000


def test_a_small_one_is_made_and_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(million, "_WARM_BATCHES", 5)
    path = million.write_million(tmp_path, num_songs=1200)
    manifest = CatalogueFile(path).manifest()
    assert len(manifest) == 1200
    assert [tag.kind for tag in manifest.tags] == ["classification"] * 100 + ["regression"] * 39
    assert not manifest.leaked_groups()
    assert million.patch_rate(path) > 100
    for measured in (lambda: million.identity_seconds(path), lambda: million.scoring(200, resamples=5)["seconds"]):
        began = time.perf_counter()
        seconds = measured()
        assert 0 < seconds <= time.perf_counter() - began


@pytest.mark.slow
def test_the_experiment_of_the_paper_on_a_catalogue_of_this_kind(tmp_path: Path) -> None:
    """loss=mse, nine layers on waveforms, 100 classification and 39 regression tags."""
    rng = np.random.default_rng(0)
    (tmp_path / "audio").mkdir()
    rows = []
    for number in range(36):
        high, noisy = number % 2, number // 2 % 2
        soundfile.write(tmp_path / "audio" / f"{number}.wav", synthetic_song(12, high, noisy, 0.5, number), 16000)
        row = {"song_id": f"song {number}", "path": f"audio/{number}.wav", "group": f"artist {number}"}
        row["split"] = "train" if number < 20 else "validation" if number < 28 else "test"
        # each tag has both classes in each split of at least eight songs
        row |= {f"class {tag:03d}": (number + tag) // (1 + tag % 4) % 2 for tag in range(100)}
        row |= {f"measure {tag:02d}": round(float(rng.random()), 3) for tag in range(39)}
        rows.append(row)
    rows[3]["class 007"] = rows[4]["measure 07"] = ""
    path = write_table(tmp_path / "catalogue.csv", rows)
    config = compose_config(
        *[option for option in TINY if "channels" not in option and "frontend" not in option],
        "frontend=waveform",
        "frontend.channels=[4,4,4,4,4,4,4,4,4]",
        "loss=mse",
        "data=catalogue",
        f"data.path={path}",
        "data.patch_seconds=11.5",
        "monitor=val_rmse",
        *folders(tmp_path),
    )
    metrics = experiment.run(config)
    test = metrics["test"]
    assert (test["tags_scored"], test["regression_tags_scored"]) == (100, 39)
    run_dir = experiment.results_folder(config)
    assert json.loads((run_dir / "metrics.json").read_text())["test"] == test
    network = musictag.load(run_dir / "tagger.safetensors").network
    names = [name for name in rows[0] if name.startswith(("class", "measure"))]
    splits = read_splits(path, names)
    scores, targets = song_scores(network, splits["test"].audio), splits["test"].targets
    with np.load(run_dir / "predictions.npz") as predictions:
        np.testing.assert_allclose(predictions["scores"], scores, rtol=0, atol=1e-6)
        scores = predictions["scores"].astype(np.float64)  # ties are possible
    by_hand = {
        "roc_auc": [sklearn.metrics.roc_auc_score(targets[:, k], scores[:, k]) for k in range(100)],
        "pr_auc": [sklearn.metrics.average_precision_score(targets[:, k], scores[:, k]) for k in range(100)],
        "rmse": np.sqrt(np.mean((scores[:, 100:] - targets[:, 100:]) ** 2, axis=0)),
    }
    for name, values in by_hand.items():
        assert test[name]["value"] == pytest.approx(np.mean(values), abs=1e-6)
        assert test[name]["low"] < test[name]["value"] < test[name]["high"]
    scores = song_scores(network, splits["validation"].audio)
    squared = np.mean((scores - splits["validation"].targets) ** 2)
    assert metrics["validation"]["val_loss"] == pytest.approx(squared, abs=1e-6)
