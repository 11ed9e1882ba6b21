"""Batch norms that each of several processes has for itself: validated, kept and tested are those of the first one."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

import musictag
from musictag.training.losses import BCE
from tests.helpers.catalogues import ready
from tests.helpers.experiments import TINY, folders
from tests.helpers.processes import TRAIN, TWO_PROCESSES, only_run, run, scores


@pytest.mark.slow
def test_two_processes_validate_with_the_statistics_of_one(tiny_catalogue: Path, tmp_path: Path) -> None:
    """Batch norms in which the last batch counts for much: each process's own would be far from the other's."""
    words = ["data=catalogue", f"data.path={tiny_catalogue}", *TINY, *folders(tmp_path), *TWO_PROCESSES]
    own = ["trainer.sync_batchnorm=false", "backend.norm_momentum=0.9", "frontend.norm_momentum=0.9"]
    run([*TRAIN, *words, *own, "trainer.max_epochs=1"], tmp_path / "records")
    run_dir = only_run(tmp_path / "runs")
    kept = musictag.load(run_dir / "tagger.safetensors")
    data = ready(tiny_catalogue)
    paths = {row["song_id"]: row["path"] for row in csv.DictReader(tiny_catalogue.open(newline=""))}
    tagged = [kept.tag(tiny_catalogue.parent / paths[song_id]) for song_id in data.song_ids("validation")]
    predicted = torch.tensor([[song[name] for name in kept.tag_names] for song in tagged])
    loss = BCE().of_probabilities(predicted, torch.from_numpy(data.targets("validation")))
    assert scores(run_dir)["validation"]["val_loss"] == pytest.approx(float(loss), abs=1e-5)
