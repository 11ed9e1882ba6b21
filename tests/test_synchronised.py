"""Batch norms of several processes on CPUs are the batch norm of one that has all patches."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from musictag.synchronised import SynchroniseBatchNorms

from .experiments import ROOT

WORLD = 2
#: `python -c SCRIPT folder rank`
SCRIPT = "import sys; from tests.test_synchronised import process; process(sys.argv[1], int(sys.argv[2]))"


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4, momentum=0.3), nn.ReLU(),
        nn.Flatten(), nn.BatchNorm1d(4 * 6, affine=False),
        nn.Linear(24, 3), nn.Unflatten(1, (3, 1, 1)), nn.BatchNorm2d(3, momentum=None),
    )  # fmt: skip


def loss(output: torch.Tensor) -> torch.Tensor:
    """Of normalised values neither the sum nor the sum of squares depends on anything: gradients would be 0."""
    return output.float().pow(3).sum()


def step(model: nn.Module, patches: torch.Tensor) -> dict[str, torch.Tensor]:
    """Output, and everything that a step of training changes or needs, after two steps."""
    for _ in range(2):
        model.zero_grad()
        output = model(patches)
        loss(output).backward()
    grads = {f"{name}.grad": p.grad.clone() for name, p in model.named_parameters()}
    states = {f"state.{k}": v.clone() for k, v in model.state_dict().items()}
    return {"output": output.detach(), **grads, **states, **in_bfloat16(model, patches)}


def in_bfloat16(model: nn.Module, patches: torch.Tensor) -> dict[str, torch.Tensor]:
    """Output and the gradient of the first layer, behind a batch norm that is frozen."""
    model.zero_grad()
    model[1].requires_grad_(False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(patches)
    loss(output).backward()
    assert model[1].weight.grad is None
    return {"bfloat16": output.detach(), "bfloat16.grad": model[0].weight.grad}


def batch() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(10, 2, 8, generator=generator) * 3 + 1


def process(folder: str, rank: int) -> None:
    """One of two, with 4 and 6 of the 10 patches."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD)
    model = SynchroniseBatchNorms().apply(network())
    share = batch()[:4] if rank == 0 else batch()[4:]
    torch.save(step(model, share), f"{folder}/{rank}.pt")
    model.eval()
    assert torch.equal(model(share[:1]), SynchroniseBatchNorms().revert(model)(share[:1]))
    dist.destroy_process_group()


def test_two_processes_normalise_as_one(tmp_path: Path) -> None:
    expected = step(network(), batch())
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    running = [subprocess.Popen([*command, str(rank)], cwd=ROOT) for rank in range(WORLD)]
    assert [process.wait(timeout=240) for process in running] == [0] * WORLD
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(WORLD))
    torch.testing.assert_close(torch.cat([one["output"], other["output"]]), expected["output"])
    halves = torch.cat([one.pop("bfloat16"), other.pop("bfloat16")])
    torch.testing.assert_close(halves, expected.pop("bfloat16"), rtol=0.05, atol=0.05)
    grads = one.pop("bfloat16.grad") + other.pop("bfloat16.grad")
    torch.testing.assert_close(grads, expected.pop("bfloat16.grad"), rtol=0.05, atol=0.2)
    for name, value in expected.items():
        if name.endswith(".grad"):  # DDP adds them up
            torch.testing.assert_close(one[name] + other[name], value, rtol=1e-4, atol=1e-4, msg=name)
        elif name.startswith("state."):
            torch.testing.assert_close(one[name], value, msg=name)
            torch.testing.assert_close(other[name], value, msg=name)


@pytest.mark.parametrize("on_gpus", [False, True])
def test_layers_are_exchanged_and_given_back_with_all_they_hold(on_gpus: bool) -> None:
    model = network()
    before = dict(model.state_dict(keep_vars=True))
    kinds = [type(layer) for layer in model]
    model[1].weight.requires_grad_(False)
    hook = SynchroniseBatchNorms()
    hook.on_gpus = on_gpus
    hook.apply(model)
    assert not [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert isinstance(model[1], nn.SyncBatchNorm) == on_gpus
    assert (model[1].eps, model[1].momentum, model[7].momentum) == (1e-5, 0.3, None)
    after = model.state_dict(keep_vars=True)
    assert all(after[name] is value for name, value in before.items())
    hook.revert(model)
    assert [type(layer) for layer in model] == kinds
    assert all(model.state_dict(keep_vars=True)[name] is value for name, value in before.items())
    assert not model[1].weight.requires_grad
