"""The peers are the same networks, and each is asked in its own process; speeds are not tested."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from musictag.common.errors import MusictagError
from musictag.experiment.compose import compose
from musictag.models.network import TaggingNetwork
from tests import benchmarks
from tests.benchmarks import peers
from tests.benchmarks.gpu.work import work_of
from tests.benchmarks.peers.plain import MODELS

_PUBLIC = """
import torch

class SampleCNN(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = torch.nn.Linear(59049, 50)

    def forward(self, x):
        return self.dense(x).sigmoid()
"""


@pytest.mark.parametrize("preset", [name for name in MODELS if name != "fcn"])
def test_the_plain_module_has_the_weights_and_the_work_of_the_preset(preset: str):
    config = compose([f"model={preset}"])
    make, seconds, samples = MODELS[preset]
    ours = TaggingNetwork(config["frontend"], config["backend"], [{"name": str(n)} for n in range(50)], seconds).eval()
    ours.fit_normalisation([torch.randn(1, ours.input_samples)])
    plain = make(50).eval()
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in plain.parameters())
    with torch.no_grad():
        ours_work = work_of(lambda: ours(torch.randn(1, ours.input_samples)))
        plain_work = work_of(lambda: plain(torch.randn(1, samples)))
    assert ours_work.flop == plain_work.flop


@pytest.mark.slow
def test_peers_take_turns_and_a_failure_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "training").mkdir()
    (tmp_path / "training/model.py").write_text(_PUBLIC)
    (tmp_path / "clmr").mkdir()
    monkeypatch.setattr(peers, "_BATCH_SECONDS", 1)
    arguments = f"peers --models samplecnn --modes inference --turns 2 --clmr {tmp_path} --minzwon {tmp_path}"
    assert benchmarks.main([*arguments.split(), "--out", str(tmp_path)]) == 0
    with (tmp_path / "peers.csv").open() as file:
        ours, plain, minzwon, clmr = csv.DictReader(file)
    assert (ours["who"], ours["times musictag"]) == ("musictag", "1")
    assert float(plain["from "]) <= float(plain["times musictag"]) <= float(plain["to "])
    assert 0 < float(minzwon["times musictag"]) < 0.5
    assert clmr["ms"].startswith("failed: ModuleNotFoundError")


def test_a_path_that_does_not_exist_is_refused():
    with pytest.raises(MusictagError, match="--clmr nowhere does not exist"):
        benchmarks.main(["peers", "--clmr", "nowhere"])
