"""Training in half precision scores in float32: what the test wrote is what the tagger says."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

import musictag
from musictag.common.errors import MusictagError
from musictag.experiment import run as experiment
from musictag.training.flags import PRECISIONS
from tests.helpers.experiments import TINY, compose_config, folders


@pytest.fixture
def tiny(tiny_catalogue: Path, tmp_path: Path) -> list[str]:
    return ["data=catalogue", f"data.path={tiny_catalogue}", *TINY, *folders(tmp_path)]


@pytest.mark.parametrize("front_end", ["frontend=waveform", "model=spectrogram_small"])
def test_scores_are_float32_under_bfloat16(tiny: list[str], tiny_catalogue: Path, front_end: str) -> None:
    kept = [word for word in tiny if front_end == "frontend=waveform" or not word.startswith("frontend")]
    config = compose_config(*kept, front_end, "trainer.precision=bf16-mixed")
    metrics = experiment.run(config)
    run_dir = experiment.results_folder(config)
    tagger = musictag.load(run_dir / "tagger.safetensors")
    paths = {row["song_id"]: tiny_catalogue.parent / row["path"] for row in csv.DictReader(tiny_catalogue.open())}
    with np.load(run_dir / "predictions.npz") as stored:
        song_ids, scores, targets = (stored[name] for name in ("song_ids", "scores", "targets"))
    said = np.stack([tagger.predict_song(tagger.read(paths[song])) for song in song_ids.tolist()])
    np.testing.assert_allclose(scores, said, atol=1e-5)
    for k, name in enumerate(tagger.tag_names):
        assert len(np.unique(scores[:, k])) == len(song_ids), name
    # and so is validation, by which the best epoch is chosen
    rows = [row for row in csv.DictReader(tiny_catalogue.open()) if row["split"] == "validation"]
    said = np.stack([tagger.predict_song(tagger.read(tiny_catalogue.parent / row["path"])) for row in rows])
    names = [name for name, kind in zip(tagger.tag_names, tagger.tag_kinds, strict=True) if kind == "regression"]
    errors = [
        np.sqrt(
            np.mean([(said[i, tagger.tag_names.index(name)] - float(row[name])) ** 2 for i, row in enumerate(rows)])
        )
        for name in names
    ]
    assert metrics["validation"]["val_rmse"] == pytest.approx(np.mean(errors), abs=1e-5)
    assert targets.shape == scores.shape


@pytest.mark.parametrize("precision", ["bf16-true", "16-true", "64-true", "bf16"])
def test_other_precisions_are_refused_by_name(tiny: list[str], tmp_path: Path, precision: str) -> None:
    with pytest.raises(MusictagError, match=f"precision={precision} does not exist; choose one of {PRECISIONS[0]}"):
        experiment.run(compose_config(*tiny, f"trainer.precision={precision}"))
    assert not list(tmp_path.glob("runs/*/*/*"))
