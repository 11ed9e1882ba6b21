"""What metrics.json says of a training: whether it had converged, what it took, its seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from musictag.experiment import run as experiment
from musictag.experiment.results.networks import convergence
from musictag.models.network import TaggingNetwork
from musictag.models.summary import sketch, training_flops
from tests.helpers.experiments import SMALL_TREES, TINY, compose_config, folders


def rows(values: list[float], name: str = "val_pr_auc") -> list[dict[str, float]]:
    return [{"epoch": epoch, name: value} for epoch, value in enumerate(values)]


def of(values: list[float], name: str = "val_pr_auc") -> tuple[bool, bool, bool]:
    best = int(np.argmin(values) if name == "val_loss" else np.argmax(values))
    found = convergence(rows(values, name), best, name)
    assert (found["best_epoch"], found["epochs"]) == (best, len(values))
    return found["at_end"], found["still_falling"], found["converged"]


def test_a_run_has_converged_unless_its_best_epoch_is_the_end_of_a_rise() -> None:
    rising = np.linspace(0.2, 0.4, 20).tolist()
    assert of(rising) == (True, True, False)
    assert of([*rising, *[0.4] * 20]) == (False, False, True)
    flat = [*rising, *[0.3999] * 19, 0.4001]  # the best is the last by chance
    assert of(flat) == (True, False, True)
    assert of([0.2, 0.5, *[0.3] * 6, 0.4, 0.45]) == (False, True, True)  # rises again, below its best
    assert of([-value for value in rising], "val_loss") == (True, True, False)
    assert of(rising[::-1]) == (False, False, True)
    assert of([0.3, 0.3, 0.3]) == (False, True, True)
    assert of([0.3, 0.3, 0.4]) == (True, True, False)  # too short to tell


def test_the_steps_of_a_training_cost_what_its_layers_do() -> None:
    """Three times the forward pass, but for the gradient of the audio, which nobody needs."""
    config = compose_config(*TINY)
    tiny = sketch(config, 4)
    network = TaggingNetwork(**tiny.spec).eval()
    costs = []

    def count(module: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        costs.append(2 * output.numel() * module.weight[0].numel())

    layers = [m for m in network.modules() if isinstance(m, torch.nn.Conv1d | torch.nn.Linear)]
    for layer in layers:
        layer.register_forward_hook(count)
    network(torch.zeros(1, network.input_samples))
    assert sum(costs) == tiny.flops
    assert training_flops(network) == 3 * tiny.flops - costs[0]
    # nothing flows back into a frozen front-end: its layers only compute
    network.frontend.requires_grad_(False)
    fixed = sum(isinstance(m, torch.nn.Conv1d) for m in network.frontend.modules())
    first = costs[fixed]  # of the back-end, without the gradient of its input
    assert training_flops(network) == sum(costs[:fixed]) + 3 * sum(costs[fixed:]) - first


def test_a_part_that_looks_at_values_cannot_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    network = TaggingNetwork(**sketch(compose_config(*TINY), 4).spec)
    forward = type(network.frontend).forward
    louder = lambda self, audio: forward(self, audio / max(audio.abs().max().item(), 1e-3))  # noqa: E731
    monkeypatch.setattr(type(network.frontend), "forward", louder)
    assert training_flops(network) is None


@pytest.fixture
def data(tiny_catalogue: Path, tmp_path: Path) -> list[str]:
    return ["data=catalogue", f"data.path={tiny_catalogue}", *folders(tmp_path)]


def test_a_network_says_what_its_training_took(data: list[str]) -> None:
    words = ["data.patches_per_epoch=8", "seed=4", "seeds.subset=7", "trainer.accumulate_grad_batches=2"]
    config = compose_config(*data, *TINY, *words)
    metrics = experiment.run(config)
    compute = metrics["compute"]
    assert (compute["patches"], compute["steps"]) == (16, 2)  # two epochs of two batches, accumulated
    assert compute["train_seconds"] == metrics["seconds"]["epochs"] > 0
    assert compute["train_flop"] == 16 * training_flops(TaggingNetwork(**sketch(config, 3).spec))
    assert metrics["seeds"] == {"subset": 7, "initialisation": 4, "order": 4}
    assert metrics["convergence"]["epochs"] == 2
    # the same as before from a checkpoint of the last epoch
    (experiment.results_folder(config) / "metrics.json").unlink()
    again = experiment.run(config)
    assert all(again[key] == metrics[key] for key in ("compute", "convergence", "seeds", "choices"))


def test_a_baseline_says_what_applies_to_it(data: list[str]) -> None:
    metrics = experiment.run(compose_config(*data, *SMALL_TREES, "seeds.order=5"))
    assert metrics["convergence"] is None
    assert metrics["compute"]["train_seconds"] > metrics["seconds"]["train"]
    assert [metrics["compute"][key] for key in ("train_flop", "steps", "patches")] == [None] * 3
    assert metrics["seeds"] == {"subset": 0, "initialisation": None, "order": 5}
