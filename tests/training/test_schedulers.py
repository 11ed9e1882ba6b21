"""Learning rates over time, and of other batches."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR, ReduceLROnPlateau, StepLR

from musictag.common.errors import MusictagError
from musictag.experiment.builders import scaled_lr
from musictag.training.schedulers import cosine, make_scheduler, one_cycle


def rates(make: Any, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    scheduler = make_scheduler(partial(make), optimizer, steps, "min")["scheduler"]
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_a_cosine_rises_and_falls() -> None:
    found = rates(partial(cosine, warmup=0.2, final=0.1), 10)
    assert found[:3] == pytest.approx([0.05, 0.1, 0.1])
    assert found[6] == pytest.approx(0.1 * (0.1 + 0.9 / 2))  # half of the way down
    assert found == [*found[:2], *sorted(found[2:], reverse=True)]
    assert rates(partial(cosine, warmup=0.0), 4)[0] == pytest.approx(0.1)
    for wrong in ({"warmup": 1.0}, {"final": -0.1}):
        with pytest.raises(MusictagError, match=rf"scheduler.{next(iter(wrong))}="):
            rates(partial(cosine, **wrong), 4)


def test_one_cycle_s_summit_is_the_optimizer_s_rate() -> None:
    assert max(rates(one_cycle, 10)) == pytest.approx(0.1)


def test_schedules_of_pytorch_are_told_what_they_ask_for() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    made = make_scheduler(partial(OneCycleLR, max_lr=0.3), optimizer, 20, "min")
    assert (made["interval"], made["scheduler"].total_steps) == ("step", 20)
    assert make_scheduler(partial(StepLR, step_size=2), optimizer, 20, "min")["interval"] == "epoch"


def test_a_mode_of_another_kind_stays_what_it_is() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1, momentum=0.9)
    make = partial(CyclicLR, base_lr=0.01, max_lr=0.1)
    assert make_scheduler(make, optimizer, 20, "min")["scheduler"].mode == "triangular"
    for mode in ("min", "max"):
        assert make_scheduler(partial(ReduceLROnPlateau), optimizer, 20, mode)["scheduler"].mode == mode


def test_one_cycle_may_begin_at_its_summit_and_needs_no_momentum() -> None:
    found = rates(partial(one_cycle, pct_start=0.25), 4)
    assert found == [pytest.approx(0.1), *sorted(found[1:], reverse=True)]
    for name in ("SGD", "Adagrad", "Adam"):
        optimizer = getattr(torch.optim, name)([torch.nn.Parameter(torch.ones(1))], lr=0.1)
        assert one_cycle(optimizer, 10).get_last_lr() == pytest.approx([0.1 / 25])


def test_a_rule_of_scaling() -> None:
    assert scaled_lr(0.1, 64, "linear", 32) == pytest.approx(0.2)
    assert scaled_lr(0.1, 128, "sqrt", 32) == pytest.approx(0.2)
    assert scaled_lr(0.1, 128, "none", 32) == 0.1
