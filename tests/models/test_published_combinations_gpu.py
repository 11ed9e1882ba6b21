"""Every published combination on a GPU: the same numbers as on a CPU, and training in half precision."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.models import PRESETS, make_small_network

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("name", PRESETS)
def test_the_same_probabilities(name):
    tagger = make_small_network(name)
    waveform = 0.1 * torch.randn(2, tagger.input_samples)
    with torch.inference_mode():
        expected = tagger.probabilities(tagger(waveform))
        tagger.cuda()
        found = tagger.probabilities(tagger(waveform.cuda()))
        with torch.autocast("cuda", torch.bfloat16):
            half = tagger.probabilities(tagger(waveform.cuda()))
    torch.testing.assert_close(found.cpu(), expected, atol=5e-3, rtol=0)  # convolutions may use TF32
    torch.testing.assert_close(half.cpu(), expected, atol=0.05, rtol=0)


@pytest.mark.parametrize("name", PRESETS)
def test_training_in_half_precision(name):
    tagger = make_small_network(name).cuda().train()
    waveform = 0.1 * torch.randn(4, tagger.input_samples, device="cuda")
    targets = torch.rand(4, 3, device="cuda").round()
    with torch.autocast("cuda", torch.bfloat16):
        logits = tagger(waveform)
    torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), targets).backward()
    assert all(parameter.grad.isfinite().all() for parameter in tagger.parameters())
