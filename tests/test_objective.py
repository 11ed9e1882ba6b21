from __future__ import annotations

import math

import pytest
import torch

from musictag.errors import MusictagError
from musictag.objective import Objective

UNKNOWN = float("nan")


def test_cross_entropy_of_known_numbers():
    logits = torch.tensor([[0.0, 2.0], [-1.0, 5.0]])
    targets = torch.tensor([[1.0, 0.0], [0.25, UNKNOWN]])
    half, high, low = math.log(2), math.log(1 + math.exp(2)), math.log(1 + math.exp(-1))
    soft = 0.25 * (low + 1) + 0.75 * low
    assert Objective("bce")(logits, targets).item() == pytest.approx((half + high + soft) / 3, rel=1e-6)


def test_squared_error_goes_through_the_sigmoid():
    logits = torch.tensor([[0.0, math.log(3)], [7.0, 0.0]])
    targets = torch.tensor([[1.0, 0.5], [UNKNOWN, 0.5]])
    assert Objective("mse")(logits, targets).item() == pytest.approx((0.25 + 0.0625 + 0) / 3, rel=1e-6)


@pytest.mark.parametrize("kind", ["bce", "mse"])
def test_unknown_entries_have_no_gradient_and_no_weight(kind):
    # Even a logit that is no number does no harm where the target is unknown.
    logits = torch.tensor([[0.3, UNKNOWN], [float("inf"), -1.0]], requires_grad=True)
    targets = torch.tensor([[1.0, UNKNOWN], [UNKNOWN, 0.0]])
    loss = Objective(kind)(logits, targets)
    loss.backward()
    assert loss.item() == pytest.approx(
        Objective(kind)(torch.tensor([0.3, -1.0]), torch.tensor([1.0, 0.0])).item(), rel=1e-6
    )
    assert logits.grad[0, 1] == 0
    assert logits.grad[1, 0] == 0
    assert logits.grad[0, 0] < 0 < logits.grad[1, 1]


@pytest.mark.parametrize("kind", ["bce", "mse"])
def test_batch_without_known_targets_costs_nothing(kind):
    logits = torch.randn(4, 3, requires_grad=True)
    loss = Objective(kind)(logits, torch.full((4, 3), UNKNOWN))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros(4, 3))


@pytest.mark.parametrize("kind", ["bce", "mse"])
def test_float32_inside_autocast(kind):
    logits = torch.randn(16, 5, generator=torch.Generator().manual_seed(0)) * 4
    targets = torch.rand(16, 5, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = Objective(kind)(logits, targets)
        of_bfloat16 = Objective(kind)(logits.bfloat16(), targets)
    assert inside.dtype == of_bfloat16.dtype == torch.float32
    assert inside.item() == Objective(kind)(logits, targets).item()
    assert of_bfloat16.item() == Objective(kind)(logits.bfloat16().float(), targets).item()


@pytest.mark.parametrize("kind", ["bce", "mse"])
def test_probabilities_cost_what_their_logits_cost(kind):
    logits = torch.randn(16, 5, generator=torch.Generator().manual_seed(0))
    targets = (torch.rand(16, 5, generator=torch.Generator().manual_seed(1)) < 0.5).float()
    targets[::3, 1] = UNKNOWN
    objective = Objective(kind)
    assert objective.of_probabilities(logits.sigmoid(), targets).item() == pytest.approx(
        objective(logits, targets).item(), rel=1e-5
    )
    assert math.isfinite(objective.of_probabilities(torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]])).item())


@pytest.mark.parametrize("kind", ["bce", "mse"])
def test_least_at_the_regression_target(kind):
    logits = torch.linspace(-4, 4, 801)
    losses = torch.stack([Objective(kind)(logit[None, None], torch.tensor([[0.3]])) for logit in logits])
    assert logits[losses.argmin()].sigmoid().item() == pytest.approx(0.3, abs=0.003)


def test_unknown_objective_names_what_exists():
    with pytest.raises(MusictagError, match=r"'hinge'.*bce, mse"):
        Objective("hinge")


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"\(4, 3\).*\(4, 1\)"):
        Objective()(torch.zeros(4, 3), torch.zeros(4, 1))
