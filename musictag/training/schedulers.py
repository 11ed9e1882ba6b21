"""Learning rates for larger batches, and learning-rate schedules."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from musictag.common.errors import MusictagError


def make_scheduler(make: Callable[..., Any], optimizer: Optimizer, total_steps: int, mode: str) -> dict[str, Any]:
    """The schedule that ``make``, a partial, creates for the optimizer, as Lightning's configuration of a scheduler.

    A schedule with an argument ``total_steps`` is stepped after every optimizer step; every other one after every
    epoch. ReduceLROnPlateau gets the ``mode`` of the monitored value, ``min`` or ``max``.
    """
    parameters = inspect.signature(make.func).parameters
    derived: dict[str, Any] = {"total_steps": max(total_steps, 1)}
    if isinstance(make.func, type) and issubclass(make.func, ReduceLROnPlateau):
        derived |= {"mode": mode}
    taken = {name: value for name, value in derived.items() if name in parameters and name not in make.keywords}
    return {"scheduler": make(optimizer, **taken), "interval": "step" if "total_steps" in parameters else "epoch"}


def step_epoch(scheduler: Any, monitored: float) -> None:
    """Step a schedule at the end of an epoch."""
    if isinstance(scheduler, ReduceLROnPlateau):
        scheduler.step(monitored)
    else:
        scheduler.step()


def one_cycle(optimizer: Optimizer, total_steps: int, pct_start: float = 0.3) -> LRScheduler:
    """PyTorch's one-cycle schedule (Smith & Topin 2018), whose ``max_lr`` is the optimizer's learning rate.
    ``pct_start``: share of the steps with a rising learning rate."""
    highest = [group["lr"] for group in optimizer.param_groups]
    if pct_start * total_steps == 1:  # by the length of a rise of one step, which is 0, PyTorch would divide
        pct_start *= 1 - 1e-9
    momentum = bool({"momentum", "betas"} & optimizer.defaults.keys())  # Adagrad, for example, has none to cycle
    return OneCycleLR(optimizer, max_lr=highest, total_steps=total_steps, pct_start=pct_start, cycle_momentum=momentum)


def cosine(optimizer: Optimizer, total_steps: int, warmup: float = 0.05, final: float = 0.0) -> LRScheduler:
    """Linear warm-up to the optimizer's learning rate, then half a cosine down to ``final`` times that (Loshchilov &
    Hutter 2017). ``warmup``: share of the steps with a rising learning rate.

    Raises MusictagError for shares outside [0, 1).
    """
    for name, value in (("warmup", warmup), ("final", final)):
        if not 0 <= value < 1:
            raise MusictagError(f"scheduler.{name}={value} must be at least 0 and below 1")
    rising = round(warmup * total_steps)

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        done = (step - rising) / max(total_steps - rising, 1)
        return final + (1 - final) * (1 + math.cos(math.pi * min(done, 1))) / 2

    return LambdaLR(optimizer, factor)
