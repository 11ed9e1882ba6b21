"""What image-like front-ends share: the sizes of their layers, residual blocks, batch norms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from musictag.models.frontends.image_base import (
    ResidualBlock,
    Step,
    receptive_field,
    size_after,
    smallest_size,
    stride_of,
)
from tests.helpers.models import build_frontend, draw, normed

STACKS = [
    (Step(3, padding=1), Step(1, 2)),
    (Step(3, padding=1), Step(4, 2), Step(3, padding=1), Step(2, 2)),
    (Step(8), Step(4, 4), Step(8), Step(4, 4)),
    (Step(3, 2, padding=1), Step(3, padding=1)) * 3,
    (Step(3, padding=1), Step(3, padding=1), Step(3, 3)) * 2,
]


@pytest.mark.parametrize("steps", STACKS)
def test_sizes_are_those_of_torch(steps):
    layers = nn.Sequential(
        *(nn.Conv1d(1, 1, step.window, step.stride, step.padding, bias=False) for step in steps)
    )  # a convolution has the sizes of a max-pooling with the same window and stride
    for layer in layers:
        nn.init.ones_(layer.weight)
    shortest = smallest_size(steps)
    assert size_after(steps, 0) == size_after(steps, shortest - 1) == 0
    for size in range(shortest, shortest + 60):
        assert size_after(steps, size) == layers(torch.zeros(1, 1, size)).shape[-1]
    # far from the ends, the receptive field is a window, and the next position has the adjacent one
    size = 4 * receptive_field(steps) + 2 * stride_of(steps)
    heard = torch.func.jacrev(layers)(torch.zeros(1, 1, size))[0, 0, :, 0, 0, :] != 0
    middle = size_after(steps, size) // 2
    first, last = heard[middle].nonzero().flatten()[[0, -1]].tolist()
    assert last - first + 1 == receptive_field(steps)
    assert heard[middle + 1].nonzero().flatten()[0].item() - first == stride_of(steps)


@pytest.mark.parametrize(("wide_in", "stride"), [(2, (2, 2)), (2, (2, 1)), (3, (2, 1)), (2, (1, 1)), (3, (1, 1))])
@torch.inference_mode()
def test_residual_block(wide_in, stride):
    block = ResidualBlock(wide_in, 3, 0.1, stride).eval()
    draw(block, np.random.default_rng(2))
    convs = [part for part in block.modules() if isinstance(part, nn.Conv2d)]
    norms = [part for part in block.modules() if isinstance(part, nn.BatchNorm2d)]
    image = torch.randn(2, wide_in, 9, 10)
    out = F.relu(normed(norms[0], F.conv2d(image, convs[0].weight, convs[0].bias, stride, padding=1)))
    out = normed(norms[1], F.conv2d(out, convs[1].weight, convs[1].bias, padding=1))
    shortcut = image
    if (wide_in, stride) != (3, (1, 1)):
        shortcut = normed(norms[2], F.conv2d(image, convs[2].weight, convs[2].bias, stride, padding=1))
    assert len(convs) == len(norms) == (2 if shortcut is image else 3)
    torch.testing.assert_close(block(image), F.relu(shortcut + out))


def test_batch_norms_of_models_published_in_torch_are_torch_s():
    for name in ("short_chunk", "self_attention_2020", "harmonic"):
        norms = [part for part in build_frontend(name, filter_multiplier=0.01).layers.modules() if hasattr(part, "eps")]
        assert norms
        assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-5, 0.1)}


def test_fewer_bands_are_fine_where_blocks_pad():
    assert build_frontend("self_attention_2020", num_mels=96, filter_multiplier=0.01).out_channels == 3
    assert build_frontend("harmonic", bands_per_semitone=4, filter_multiplier=1 / 128).out_channels == 2 * 2
