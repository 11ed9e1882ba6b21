from __future__ import annotations

import math

import pytest
import torch

from musictag import testing
from musictag.common.errors import MusictagError
from musictag.training.losses import BCE, MSE, Asymmetric, Focal, Loss, SmoothedBCE

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


@pytest.mark.parametrize(
    "loss", [BCE(), MSE(), SmoothedBCE(), Focal(), Asymmetric()], ids=lambda loss: type(loss).__name__
)
@pytest.mark.parametrize("check", testing.LOSS_CHECKS)
def test_contract(check, loss):
    check(loss)


@pytest.mark.parametrize("loss", [BCE(), MSE(), Focal()], ids=["bce", "mse", "focal"])
def test_least_at_the_regression_target(loss):
    logits = torch.linspace(-4, 4, 801)
    losses = torch.stack([loss(logit[None, None], torch.tensor([[0.3]])) for logit in logits])
    assert logits[losses.argmin()].sigmoid().item() == pytest.approx(0.3, abs=0.003)


def test_what_the_other_losses_cost():
    """A positive, a negative and an easy negative at probabilities of 0.5, 0.25 and 0.04."""
    logits, targets = torch.tensor([0.5, 0.25, 0.04]).logit()[None], torch.tensor([[1.0, 0.0, 0.0]])
    cross_entropy = [-math.log(0.5), -math.log(0.75), -math.log(0.96)]
    opposite = [-math.log(0.5), -math.log(0.25), -math.log(0.04)]

    def costs(loss):
        return loss(logits, targets).item() * 3

    smoothed = [0.9 * right + 0.1 * wrong for right, wrong in zip(cross_entropy, opposite, strict=True)]
    assert costs(SmoothedBCE(0.2)) == pytest.approx(sum(smoothed), rel=1e-5)
    focal = [error**3 * cost for error, cost in zip([0.5, 0.25, 0.04], cross_entropy, strict=True)]
    assert costs(Focal(3)) == pytest.approx(sum(focal), rel=1e-5)
    asymmetric = 0.5**1 * cross_entropy[0] + 0.2**4 * -math.log(0.8) + 0
    assert costs(Asymmetric(gamma_positive=1)) == pytest.approx(asymmetric, rel=1e-5)
    assert costs(Asymmetric(0, 0, 0)) == pytest.approx(sum(cross_entropy), rel=1e-5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SmoothedBCE(1.0), "loss.smoothing=1.0 must be at least 0 and below 1"),
        (lambda: Focal(0.5), "loss.gamma=0.5 must be at least 1"),
        (lambda: Asymmetric(gamma_negative=0.5), "loss.gamma_negative=0.5 must be 0, or at least 1"),
        (lambda: Asymmetric(margin=-0.1), "loss.margin=-0.1 must be at least 0"),
    ],
)
def test_settings_without_a_gradient_are_refused(make, words):
    with pytest.raises(MusictagError, match=words):
        make()


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
