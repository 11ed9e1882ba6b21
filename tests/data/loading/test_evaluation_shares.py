"""Songs shared among processes get the scores of a single process: 7, 8 and 9 songs, 2 and 3 processes."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from musictag.data.datasets.catalogue import CatalogueFile
from musictag.data.loading.datamodule import SongDataModule
from musictag.evaluation.song_average import SongAverage
from musictag.models.network import TaggingNetwork
from musictag.training.module import to_waveform
from tests.helpers.catalogues import write_catalogue
from tests.helpers.experiments import ROOT
from tests.helpers.processes import HANGS

SONGS = (7, 8, 9)
#: `python -c SCRIPT folder rank world`
SCRIPT = f"import sys; from {__name__} import process; process(sys.argv[1], *map(int, sys.argv[2:]))"


def evaluate(folder: Path, songs: int, mode: str) -> tuple[np.ndarray, list[int]]:
    """Scores of the test songs, as TaggingModule computes them, and the rows of the patches evaluated here."""
    data = SongDataModule(CatalogueFile(folder / f"music{songs}/catalogue.csv"), folder / "data", patch_seconds=0.5,
                    eval_batch_size=5, num_workers=0, prepare_workers=1, evaluation_mode=mode)  # fmt: skip
    data.prepare_data()
    data.setup()
    torch.manual_seed(0)
    tagger = TaggingNetwork(
        frontend={"_target_": "musictag.models.frontends.waveform.SampleLevel", "channels": [8] * 6},
        backend={"_target_": "musictag.models.backends.residual.Residual", "filters": 8, "dense_units": 8},
        tags=[{"name": tag.name, "kind": tag.kind} for tag in data.tags],
        patch_seconds=0.5,
    ).eval()
    average, heard = SongAverage(songs, len(data.tags)), []
    with torch.inference_mode():
        for batch in data.test_dataloader():
            average.update(batch["song"], tagger.probabilities(tagger(to_waveform(batch["audio"]))))
            heard += batch["song"].tolist()
    return average.compute().numpy(), heard


def process(folder: str | Path, rank: int, world: int) -> None:
    """One of ``world`` processes; writes its result."""
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet{world}", rank=rank, world_size=world,
        timeout=timedelta(seconds=HANGS),
    )  # fmt: skip
    for songs in SONGS:
        for mode in ("patches", "whole"):
            scores, heard = evaluate(Path(folder), songs, mode)
            content = {"scores": scores.tolist(), "heard": heard}
            Path(folder, f"{mode}-{songs}-{rank}-{world}.json").write_text(json.dumps(content))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With catalogues of 7, 8 and 9 test songs, prepared."""
    folder = tmp_path_factory.mktemp("shares")
    for songs in SONGS:
        path = write_catalogue(folder / f"music{songs}")
        lines = path.read_text().splitlines()
        column = lines[0].split(",").index("split")
        cells = [line.split(",") for line in lines[1:]]
        for row, line in enumerate(reversed(cells)):
            line[column] = "test" if row < songs else "validation" if row < songs + 4 else "train"
        path.write_text("\n".join([lines[0], *map(",".join, cells)]) + "\n")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.usefixtures("one_thread")
def test_songs_shared_by_processes_have_the_scores_of_one(folder: Path, world: int) -> None:
    alone = {(mode, songs): evaluate(folder, songs, mode) for songs in SONGS for mode in ("patches", "whole")}
    command = [sys.executable, "-c", SCRIPT, str(folder)]
    others = [subprocess.Popen([*command, str(rank), str(world)], cwd=ROOT) for rank in range(1, world)]
    process(folder, 0, world)  # this process is the first
    assert [other.wait(timeout=HANGS) for other in others] == [0] * len(others)
    for (mode, songs), (scores, heard) in alone.items():
        parts = [json.loads((folder / f"{mode}-{songs}-{rank}-{world}.json").read_text()) for rank in range(world)]
        for part in parts:  # every process knows all scores
            np.testing.assert_allclose(np.array(part["scores"]), scores, rtol=0, atol=1e-6)
            assert part["heard"]
        assert sorted(row for part in parts for row in part["heard"]) == sorted(heard)
        assert len(set(heard)) == songs
