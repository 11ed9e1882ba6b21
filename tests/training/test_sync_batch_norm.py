"""torch's SyncBatchNorm, as Trainer(sync_batchnorm=True) puts it into a network: two processes normalise as one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from tests.helpers.experiments import ROOT
from tests.helpers.models import make_small_network

WORLD = 2
DEVICE = "cuda"
#: `python -c SCRIPT folder rank`
SCRIPT = "import sys; from tests.training.test_sync_batch_norm import process; process(sys.argv[1], int(sys.argv[2]))"


def network() -> nn.Module:
    torch.manual_seed(0)
    torch.backends.cudnn.allow_tf32 = False
    model = make_small_network("pons_waveform").train()
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    return model


def step(model: nn.Module, patches: torch.Tensor) -> dict[str, torch.Tensor]:
    """Output, gradients and buffers after a step of training on ``patches``, all on the CPU."""
    output = model(patches.to(DEVICE))
    output.pow(3).sum().backward()
    grads = {f"{name}.grad": p.grad for name, p in model.named_parameters()}
    buffers = {f"buffer.{name}": b for name, b in model.named_buffers()}
    return {name: value.detach().cpu() for name, value in {"output": output, **grads, **buffers}.items()}


def batch(model: nn.Module) -> torch.Tensor:
    return torch.randn(10, model.input_samples, generator=torch.Generator().manual_seed(1))


def process(folder: str, rank: int) -> None:
    """One of two on the same GPU, with 4 and 6 of the 10 patches; NCCL would want a GPU each, gloo does not."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD)
    model = nn.SyncBatchNorm.convert_sync_batchnorm(network()).to(DEVICE)
    share = batch(model)[:4] if rank == 0 else batch(model)[4:]
    torch.save(step(model, share), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_two_processes_normalise_as_one(tmp_path: Path) -> None:
    expected = step(network().to(DEVICE), batch(network()))
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    running = [subprocess.Popen([*command, str(rank)], cwd=ROOT) for rank in range(WORLD)]
    assert [process.wait(timeout=240) for process in running] == [0] * WORLD
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(WORLD))
    outputs = torch.cat([one["output"], other["output"]])
    torch.testing.assert_close(outputs, expected.pop("output"), rtol=1e-3, atol=1e-4)
    for name, value in expected.items():
        atol = 1e-3 * float(value.abs().max())
        if name.endswith(".grad"):  # DDP adds them up
            torch.testing.assert_close(one[name] + other[name], value, rtol=1e-2, atol=atol, msg=name)
        else:
            torch.testing.assert_close(one[name], value, rtol=1e-3, atol=atol, msg=name)
            torch.testing.assert_close(other[name], value, rtol=1e-3, atol=atol, msg=name)
