"""The contract of losses, one function a promise."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from musictag.testing.refusals import refused
from musictag.training.losses import Loss

_UNKNOWN = math.nan


def check_loss(loss: Loss) -> None:
    """Raise AssertionError unless the loss fulfils its contract (see ``musictag.training.losses.Loss``)."""
    for check in LOSS_CHECKS:
        check(loss)


def unknown_targets_do_not_count(loss: Loss) -> None:
    """Where a target is unknown (NaN) there is neither a cost nor a gradient, whatever the logit is."""
    logits = torch.tensor([[0.3, _UNKNOWN], [float("inf"), -1.0]], requires_grad=True)
    targets = torch.tensor([[1.0, _UNKNOWN], [_UNKNOWN, 0.0]])
    value = loss(logits, targets)
    value.backward()
    known = loss(torch.tensor([0.3, -1.0]), torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(value, known, msg="entries whose target is unknown change the mean")
    gradient = logits.grad
    assert gradient[0, 1] == gradient[1, 0] == 0, "entries whose target is unknown have a gradient"
    assert gradient[0, 0] < 0 < gradient[1, 1], "the loss does not pull logits towards their targets"


def no_target_costs_nothing(loss: Loss) -> None:
    """A batch without any known target costs 0, and still has a gradient: zeros."""
    logits = torch.randn(4, 3, requires_grad=True)
    value = loss(logits, torch.full((4, 3), _UNKNOWN))
    value.backward()
    assert value.item() == 0, f"a batch without any known target costs {value.item()}"
    assert torch.equal(logits.grad, torch.zeros(4, 3)), "a batch without any known target has a gradient"


def it_is_computed_in_float32(loss: Loss) -> None:
    """Also under autocast, and of logits in bfloat16."""
    logits, targets = 4 * _drawn(0, 16, 5), _drawn(1, 16, 5).sigmoid()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside, of_bfloat16 = loss(logits, targets), loss(logits.bfloat16(), targets)
    kinds = (inside.dtype, of_bfloat16.dtype)
    assert kinds == (torch.float32, torch.float32), f"under autocast the loss is {kinds[0]} or {kinds[1]}, not float32"
    assert inside.item() == loss(logits, targets).item(), "autocast changes the loss"
    assert of_bfloat16.item() == loss(logits.bfloat16().float(), targets).item(), "logits in bfloat16 change the sum"


def probabilities_cost_what_logits_cost(loss: Loss) -> None:
    """``of_probabilities`` is the same loss, finite also for probabilities of 0 and 1."""
    logits, targets = _drawn(0, 16, 5), (_drawn(1, 16, 5) < 0).float()
    targets[::3, 1] = _UNKNOWN
    costs = [loss.of_probabilities(logits.sigmoid(), targets), loss(logits, targets)]
    torch.testing.assert_close(*costs, rtol=1e-5, atol=1e-6, msg="of_probability and of_logit are two losses")
    worst = loss.of_probabilities(torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]]))
    assert worst.isfinite(), "probabilities of 0 and 1 have no finite loss"


def shapes_must_agree(loss: Loss) -> None:
    """Logits and targets of different shapes are refused."""
    refused(lambda: loss(torch.zeros(4, 3), torch.zeros(4, 1)), ValueError, "targets of another shape")


LOSS_CHECKS: tuple[Callable[[Loss], None], ...] = (
    unknown_targets_do_not_count, no_target_costs_nothing, it_is_computed_in_float32,
    probabilities_cost_what_logits_cost, shapes_must_agree,
)  # fmt: skip


def _drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
