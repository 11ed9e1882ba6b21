"""trainer.precision=auto: float32 or bfloat16, by a measurement, stored with the run."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import pytest
import torch

from musictag.common.errors import MusictagError
from musictag.experiment import network_run
from musictag.experiment import run as experiment
from musictag.models.network import TaggingNetwork
from musictag.training import precision as choosing
from musictag.training.losses import BCE
from musictag.training.precision import choose_precision
from tests.helpers.experiments import TINY, compose_config, folders
from tests.helpers.models import make_small_network

CPU = torch.device("cpu")


@pytest.fixture
def config(tiny_catalogue: Path, tmp_path: Path) -> dict:
    return compose_config(
        "data=catalogue", f"data.path={tiny_catalogue}", *TINY, *folders(tmp_path), "trainer.precision=auto"
    )


@pytest.mark.parametrize(
    ("instructions", "native"),
    [
        ({"avx2": True, "avx512_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"neon": True, "bf16": True}, True),
    ],
)
def test_emulated_bfloat16_is_not_even_measured(
    monkeypatch: pytest.MonkeyPatch, instructions: dict[str, bool], native: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: MappingProxyType(instructions))
    assert choosing.has_bfloat16(CPU) == native
    assert not choosing.has_bfloat16(torch.device("mps"))
    if not native:
        network = make_small_network("pons_waveform")
        assert choose_precision(network, BCE(), 8, CPU, seed=0)[0] == "32-true"


@pytest.mark.parametrize(
    ("slow", "tolerance", "chosen"), [("half", 1, "32-true"), ("full", 1, "bf16-mixed"), ("full", 0, "32-true")]
)
def test_the_faster_one_that_keeps_the_loss(
    monkeypatch: pytest.MonkeyPatch, slow: str, tolerance: float, chosen: str
) -> None:
    seconds = [0.0]

    class SlowBCE(BCE):
        def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            seconds[0] += 2.0 if torch.is_autocast_enabled("cpu") == (slow == "half") else 1.0
            return super().__call__(logits, targets)

    monkeypatch.setattr(choosing.time, "perf_counter", lambda: seconds[0])
    monkeypatch.setattr(choosing, "has_bfloat16", lambda _: True)
    monkeypatch.setattr(choosing, "LOSS_TOLERANCE", tolerance)
    network = TaggingNetwork(
        {"_target_": "musictag.models.frontends.waveform.SampleLevel", "channels": [4, 4, 4]},
        {"_target_": "musictag.models.backends.pooling.Pooling", "hidden_units": [8]},
        [{"name": name, "kind": "classification"} for name in ("rock", "jazz")],
        patch_seconds=0.1,
    )
    before, state = {name: value.clone() for name, value in network.state_dict().items()}, torch.get_rng_state()
    precision, reason = choose_precision(network, SlowBCE(), 3, CPU, seed=0)
    assert precision == chosen
    assert ("the loss is" if tolerance == 0 else "a step takes") in reason
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], equal_nan=True)


def test_a_run_keeps_its_precision(
    config: dict, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(network_run, "choose_precision", lambda *_: ("bf16-mixed", "it is faster"))
    folder = experiment.results_folder(config)
    metrics = experiment.run(config)
    assert metrics["precision"] == "bf16-mixed"
    assert metrics["config"]["trainer"]["precision"] == "auto"
    assert "Precision bf16-mixed: it is faster" in capsys.readouterr().out
    # resumed on a machine where the other one is faster
    (folder / "metrics.json").unlink()
    monkeypatch.setattr(network_run, "choose_precision", lambda *_: ("32-true", "it is faster here"))
    assert experiment.run(config)["precision"] == "bf16-mixed"
    assert "Precision bf16-mixed: as before" in capsys.readouterr().out


def test_a_gpu_without_the_memory_for_float32_gets_bfloat16(config: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(network_run, "choose_precision", full)
    assert experiment.run(config)["precision"] == "bf16-mixed"


def test_several_processes_cannot_measure(config: dict) -> None:
    config["trainer"]["strategy"] = {"_target_": "pytorch_lightning.strategies.DDPStrategy", "broadcast_buffers": False}
    with pytest.raises(MusictagError, match="auto measures in a single process"):
        experiment.run(config)
