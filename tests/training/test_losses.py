from __future__ import annotations

import math

import pytest
import torch

from musictag.training.losses import BCE, MSE, Loss

UNKNOWN = float("nan")


def test_cross_entropy_of_known_numbers():
    logits = torch.tensor([[0.0, 2.0], [-1.0, 5.0]])
    targets = torch.tensor([[1.0, 0.0], [0.25, UNKNOWN]])
    half, high, low = math.log(2), math.log(1 + math.exp(2)), math.log(1 + math.exp(-1))
    soft = 0.25 * (low + 1) + 0.75 * low
    assert BCE()(logits, targets).item() == pytest.approx((half + high + soft) / 3, rel=1e-6)


def test_squared_error_goes_through_the_sigmoid():
    logits = torch.tensor([[0.0, math.log(3)], [7.0, 0.0]])
    targets = torch.tensor([[1.0, 0.5], [UNKNOWN, 0.5]])
    assert MSE()(logits, targets).item() == pytest.approx((0.25 + 0.0625 + 0) / 3, rel=1e-6)


@pytest.mark.parametrize("loss", [BCE(), MSE()], ids=["bce", "mse"])
def test_unknown_entries_have_no_gradient_and_no_weight(loss):
    # Even a logit that is no number does no harm where the target is unknown.
    logits = torch.tensor([[0.3, UNKNOWN], [float("inf"), -1.0]], requires_grad=True)
    targets = torch.tensor([[1.0, UNKNOWN], [UNKNOWN, 0.0]])
    value = loss(logits, targets)
    value.backward()
    assert value.item() == pytest.approx(loss(torch.tensor([0.3, -1.0]), torch.tensor([1.0, 0.0])).item(), rel=1e-6)
    assert logits.grad[0, 1] == 0
    assert logits.grad[1, 0] == 0
    assert logits.grad[0, 0] < 0 < logits.grad[1, 1]


@pytest.mark.parametrize("loss", [BCE(), MSE()], ids=["bce", "mse"])
def test_batch_without_known_targets_costs_nothing(loss):
    logits = torch.randn(4, 3, requires_grad=True)
    value = loss(logits, torch.full((4, 3), UNKNOWN))
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros(4, 3))


@pytest.mark.parametrize("loss", [BCE(), MSE()], ids=["bce", "mse"])
def test_float32_inside_autocast(loss):
    logits = torch.randn(16, 5, generator=torch.Generator().manual_seed(0)) * 4
    targets = torch.rand(16, 5, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(logits, targets)
        of_bfloat16 = loss(logits.bfloat16(), targets)
    assert inside.dtype == of_bfloat16.dtype == torch.float32
    assert inside.item() == loss(logits, targets).item()
    assert of_bfloat16.item() == loss(logits.bfloat16().float(), targets).item()


@pytest.mark.parametrize("loss", [BCE(), MSE()], ids=["bce", "mse"])
def test_probabilities_cost_what_their_logits_cost(loss):
    logits = torch.randn(16, 5, generator=torch.Generator().manual_seed(0))
    targets = (torch.rand(16, 5, generator=torch.Generator().manual_seed(1)) < 0.5).float()
    targets[::3, 1] = UNKNOWN
    assert loss.of_probabilities(logits.sigmoid(), targets).item() == pytest.approx(
        loss(logits, targets).item(), rel=1e-5
    )
    assert math.isfinite(loss.of_probabilities(torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]])).item())


@pytest.mark.parametrize("loss", [BCE(), MSE()], ids=["bce", "mse"])
def test_least_at_the_regression_target(loss):
    logits = torch.linspace(-4, 4, 801)
    losses = torch.stack([loss(logit[None, None], torch.tensor([[0.3]])) for logit in logits])
    assert logits[losses.argmin()].sigmoid().item() == pytest.approx(0.3, abs=0.003)


def test_a_loss_of_one_s_own_says_what_an_entry_costs():
    class Focal(Loss):
        def of_probability(self, probabilities, targets):
            miss = (probabilities - targets).abs()
            return -(miss**2) * (1 - miss).log()

    logits, targets = torch.tensor([[0.0, 3.0]]), torch.tensor([[1.0, UNKNOWN]])
    assert Focal()(logits, targets).item() == pytest.approx(0.25 * math.log(2))
    assert Focal().of_probabilities(logits.sigmoid(), targets).item() == pytest.approx(0.25 * math.log(2))
    with pytest.raises(TypeError, match="abstract"):
        Loss()


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"\(4, 3\).*\(4, 1\)"):
        BCE()(torch.zeros(4, 3), torch.zeros(4, 1))
