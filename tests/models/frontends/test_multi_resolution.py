"""Parallel filters of several lengths: their positions, and refused settings."""

from __future__ import annotations

import pytest
import torch

from musictag.common.errors import MusictagError
from musictag.models.frontends.multi_resolution import MultiResolution
from tests.helpers.models import build_frontend, heard


def test_resolutions_are_centred_on_one_another():
    torch.manual_seed(0)
    frontend = MultiResolution((2, 4, 12), (1, 2, 4), (1, 1, 1), hop_samples=4)
    frame = heard(frontend, 60)[:, :, 5].T
    spans = [torch.nonzero(samples).flatten() for samples in frame]
    # a filter's length, and a hop less a stride
    assert [len(samples) for samples in spans] == [2 + 3, 4 + 2, 12]
    centres = [(samples.min() + samples.max()).item() / 2 for samples in spans]
    assert max(centres) - min(centres) <= 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"filter_samples": [16, 64]}, "one positive number per resolution"),
        ({"num_filters": [32, 32, 0]}, "one positive number per resolution"),
        ({"filter_samples": [], "stride_samples": [], "num_filters": []}, "per resolution"),
        ({"hop_samples": 100}, r"multiple of every frontend\.stride_samples"),
        ({"hop_samples": 0}, r"frontend\.hop_samples=0"),
    ],
)
def test_settings_that_cannot_work(settings, message):
    with pytest.raises(MusictagError, match=message):
        build_frontend("multi_resolution", **settings)
