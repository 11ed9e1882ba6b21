"""Torch's fused optimisers are used where they exist, and a run stays with what it began with."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from musictag.experiment import run as experiment
from musictag.training.optimizers import make_optimizer
from tests.helpers.experiments import TINY, compose_config, folders

OPTIMIZERS = {
    "adam": partial(torch.optim.Adam, lr=0.01, weight_decay=0.1),
    "adamw": partial(torch.optim.AdamW, lr=0.01),
    "sgd": partial(torch.optim.SGD, lr=0.01, momentum=0.9, nesterov=True),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_fused_step_is_the_plain_one(name: str) -> None:
    torch.manual_seed(0)
    layers = nn.Linear(7, 5)
    others = copy.deepcopy(layers)
    fused, plain = make_optimizer(OPTIMIZERS[name], list(layers.parameters())), OPTIMIZERS[name](others.parameters())
    assert [group["fused"] for group in fused.param_groups] == [True]
    for _ in range(20):
        for weight, other in zip(layers.parameters(), others.parameters(), strict=True):
            weight.grad = torch.randn_like(weight)
            other.grad = weight.grad.clone()
        fused.step()
        plain.step()
    for weight, other in zip(layers.parameters(), others.parameters(), strict=True):
        torch.testing.assert_close(weight, other, rtol=1e-5, atol=1e-6)
    fused.load_state_dict(plain.state_dict())  # the checkpoint of a run that began without
    assert not fused.param_groups[0]["fused"]


def test_the_users_choice_and_other_optimisers_stay() -> None:
    weights = list(nn.Linear(2, 2).parameters())
    assert not make_optimizer(partial(torch.optim.Adam, fused=False), weights).param_groups[0]["fused"]
    assert not make_optimizer(partial(torch.optim.Adam, foreach=True), weights).param_groups[0]["fused"]
    assert isinstance(make_optimizer(partial(torch.optim.RMSprop, lr=0.1), weights), torch.optim.RMSprop)
    assert make_optimizer(lambda weights: torch.optim.SGD(weights, 0.1), weights).param_groups[0]["fused"] is None


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_are_still_clipped(tiny_catalogue: Path, tmp_path: Path, precision: str) -> None:
    settings = ["optimizer=sgd", "optimizer.lr=1", "optimizer.momentum=0", "optimizer.nesterov=false"]
    still = ["trainer.gradient_clip_val=1e-9", "trainer.max_epochs=1", "scheduler=constant"]
    config = compose_config(
        "data=catalogue", f"data.path={tiny_catalogue}", *TINY, *folders(tmp_path), *settings, *still,
        f"trainer.precision={precision}",
    )  # fmt: skip
    experiment.run(config)
    content = torch.load(experiment.results_folder(config) / "last.ckpt", weights_only=True)
    weights = content["state_dict"]["tagger.backend.norm1.weight"]
    torch.testing.assert_close(weights, torch.ones_like(weights), rtol=0, atol=1e-6)
    assert content["optimizer_states"][0]["param_groups"][0]["fused"] is True
