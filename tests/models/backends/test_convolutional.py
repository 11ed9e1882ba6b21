"""The fully convolutional back-end: as many layers as its patch length needs, and no other length."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from musictag.common.errors import MusictagError
from musictag.models.backends.convolutional import FullyConvolutional


@pytest.mark.parametrize(
    ("in_frames", "pool_frames", "layers"),
    [(1, 3, 1), (2, 3, 1), (3, 3, 1), (4, 3, 2), (9, 3, 2), (10, 3, 3), (243, 3, 5), (244, 3, 6), (8, 2, 3), (5, 7, 1)],
)
def test_convolutions_until_one_frame_is_left_and_none_ignored(in_frames, pool_frames, layers):
    torch.manual_seed(0)
    backend = FullyConvolutional(3, in_frames, 2, filters=4, pool_frames=pool_frames).eval()
    assert sum(isinstance(layer, nn.Conv1d) for layer in backend.modules()) == layers
    features = torch.randn(2, 3, in_frames)
    assert backend.layers(features).shape == (2, 4, 1)
    for frame in {0, in_frames // 2, in_frames - 1}:
        spoilt = features.clone()
        spoilt[0, :, frame] = torch.nan
        logits = backend(spoilt)
        assert logits[0].isnan().all(), frame
        assert logits[1].isfinite().all()


@pytest.mark.parametrize("in_frames", [9, 10])
def test_convolutional_takes_one_length_only(in_frames):
    backend = FullyConvolutional(3, in_frames, 2, filters=4).eval()
    for other in (in_frames - 1, in_frames + 1, 1, 30):
        with pytest.raises(RuntimeError, match=f"{other} frames, but .* made for {in_frames}"):
            backend(torch.randn(2, 3, other))


def test_pooling_of_single_frames_is_refused():
    with pytest.raises(MusictagError, match=r"backend\.pool_frames=1 must be at least 2"):
        FullyConvolutional(3, 9, 2, pool_frames=1)
