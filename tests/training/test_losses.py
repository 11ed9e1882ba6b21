from __future__ import annotations

import math

import pytest
import torch

from musictag import testing
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
@pytest.mark.parametrize("check", testing.LOSS_CHECKS)
def test_contract(check, loss):
    check(loss)


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
