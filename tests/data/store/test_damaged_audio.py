"""Damaged audio gives the same message in a worker, a run or a baseline; after the repair, work continues."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from musictag.common.errors import MusictagError
from musictag.data.datasets.catalogue import CatalogueFile
from musictag.data.features.cache import stored_features
from musictag.data.loading.patch_datasets import EvaluationPatches
from musictag.data.loading.prefetch import PrefetchingLoader
from musictag.data.loading.samplers import EvaluationBatch
from musictag.data.preparation.prepare import prepare
from musictag.data.random_draws import patch_starts_of_epoch, song_keys
from musictag.data.store.store import Store
from musictag.experiment import run as experiment
from tests.data.store.test_checksums import flip_sample, place
from tests.experiment.test_run import comparable
from tests.helpers.catalogues import ready
from tests.helpers.experiments import TINY, compose_config, folders
from tests.helpers.preparations import contents
from tests.helpers.processes import program

SEED = 0


@pytest.mark.parametrize(
    ("damage", "workers"),
    [
        *(("bit", 1), ("cut", 0), ("missing", 0)),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("bit", 0), ("empty", 0), ("cut", 1), ("missing", 1), ("empty", 1))
        ),
    ],
)
def test_the_error_is_the_same_in_whichever_process_the_audio_is_read(
    tiny_catalogue: Path, damage: str, workers: int
) -> None:
    data = ready(tiny_catalogue)
    path, _, _ = place(data.store, "test-06")
    if damage == "bit":
        flip_sample(data.store, "test-06", 8000)
    elif damage == "missing":
        path.unlink()
    else:
        os.truncate(path, 0 if damage == "empty" else path.stat().st_size // 2)
    rows = data.store.rows_of(np.array(["test-06"]))
    batches = [EvaluationBatch(np.array([0]), np.array([start]), 4000) for start in (0, 7000, 0)]
    loader = PrefetchingLoader(
        EvaluationPatches(data.store, rows), batch_sampler=batches, num_workers=workers, collate_fn=lambda batch: batch
    )
    with pytest.raises(MusictagError) as caught:
        list(loader)
    message = str(caught.value)
    assert message.startswith(f"shard {path} is damaged: ")
    named = "test-06"
    if damage != "bit":  # nothing in the shard can be read: its first songs are named
        named = "validation-04, test-00, test-01, test-02, test-03 and 3 more"
    assert f"Affected songs: {named}. " in message
    assert "Traceback" not in message
    assert "worker" not in message


def run_settings(tiny_catalogue: Path, tmp_path: Path, workers: int) -> list[str]:
    return [
        *TINY, *folders(tmp_path), "data=catalogue", f"data.path={tiny_catalogue}", f"seed={SEED}",
        f"data.num_workers={workers}",
    ]  # fmt: skip


def first_sample_of_epoch(store: Store, song_id: str, epoch: int) -> int:
    """Start of the patch of half a second that is drawn from a song in an epoch."""
    _, _, samples = place(store, song_id)
    keys, draws = song_keys([song_id]), np.zeros(1, dtype=np.int64)
    return int(patch_starts_of_epoch(keys, draws, np.array([samples]), 8000, SEED, epoch)[0])


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_run_stops_at_damaged_audio_and_ends_as_if_it_had_never_been(
    tiny_catalogue: Path, tmp_path: Path, workers: int
) -> None:
    settings = run_settings(tiny_catalogue, tmp_path, workers)
    undamaged = experiment.run(compose_config(*settings, f"runs_dir={tmp_path / 'undamaged'}"))
    (folder,) = (tmp_path / "data").iterdir()
    store, whole = Store(folder), contents(folder)
    path = flip_sample(store, "train-05", first_sample_of_epoch(store, "train-05", epoch=1))
    config = compose_config(*settings)
    with pytest.raises(MusictagError) as caught:
        experiment.run(config)
    run_dir = experiment.results_folder(config)
    assert not (run_dir / "metrics.json").exists()
    assert (run_dir / "error.txt").read_text() == f"{caught.value}\n"
    for said in (str(path), "train-05", f"rm -f {path}"):
        assert said in str(caught.value)
    assert "Traceback" not in str(caught.value)
    # rerun without following the advice, the message is the same
    with pytest.raises(MusictagError, match="train-05"):
        experiment.run(config)
    path.unlink()
    metrics = experiment.run(config)
    assert comparable(metrics) == comparable(undamaged)
    assert not (run_dir / "error.txt").exists()
    assert json.loads((run_dir / "metrics.json").read_text())["test"] == metrics["test"]
    assert contents(folder) == whole


def test_a_run_on_a_shard_cut_short_decodes_its_songs_again(tiny_catalogue: Path, tmp_path: Path) -> None:
    settings = run_settings(tiny_catalogue, tmp_path, workers=0)
    undamaged = experiment.run(compose_config(*settings, f"runs_dir={tmp_path / 'undamaged'}"))
    (folder,) = (tmp_path / "data").iterdir()
    whole = contents(folder)
    path, _, _ = place(Store(folder), "train-05")
    os.truncate(path, path.stat().st_size // 2)
    assert comparable(experiment.run(compose_config(*settings))) == comparable(undamaged)
    assert contents(folder) == whole


@pytest.mark.slow
def test_training_on_damaged_audio_prints_no_traceback(tiny_catalogue: Path, tmp_path: Path) -> None:
    settings = run_settings(tiny_catalogue, tmp_path, workers=1)
    data = prepare(CatalogueFile(tiny_catalogue), tmp_path / "data")
    path = flip_sample(data.store, "train-05", first_sample_of_epoch(data.store, "train-05", epoch=1))
    process = program("train.py", *settings)
    assert process.returncode == 1, process.stderr
    assert f"musictag: shard {path} is damaged: " in process.stderr
    assert "train-05" in process.stderr
    assert "Traceback" not in process.stdout + process.stderr


@pytest.mark.slow
def test_features_of_damaged_audio_are_not_computed(tiny_catalogue: Path, tmp_path: Path) -> None:
    store = prepare(CatalogueFile(tiny_catalogue), tmp_path / "data", songs_per_shard=5).store
    path = flip_sample(store, "train-05", 100)
    song_ids = np.array([f"train-{number:02d}" for number in range(10)])
    with pytest.raises(MusictagError, match=rf"shard {path} is damaged: .*train-05") as caught:
        stored_features(store, song_ids, workers=2)
    assert "Traceback" not in str(caught.value)
    path.unlink()
    again = prepare(CatalogueFile(tiny_catalogue), store.folder.parent, songs_per_shard=5).store
    assert np.isfinite(stored_features(again, song_ids)).all()
