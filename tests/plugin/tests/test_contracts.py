"""What a plug-in's author writes: every part against musictag's contracts."""

from __future__ import annotations

import pytest
from my_package.losses import Focal
from my_package.sources import Tones

from musictag import testing

FRONTEND = {"_target_": "my_package.parts.Envelopes", "hop_samples": 256}
BACKEND = {"_target_": "my_package.parts.MeanAndDeviation"}


@pytest.mark.parametrize("check", testing.FRONTEND_CHECKS)
def test_front_end(check):
    check(FRONTEND)


@pytest.mark.parametrize("check", testing.BACKEND_CHECKS)
def test_back_end(check):
    check(BACKEND)


def test_together():
    testing.check_pair(FRONTEND, BACKEND)


@pytest.mark.parametrize("check", testing.LOSS_CHECKS)
def test_loss(check):
    check(Focal())


def test_source():
    testing.check_source(Tones())
