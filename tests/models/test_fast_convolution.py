"""Convolutions with fewer products compute what torch's do."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from musictag.models import fast_convolution
from musictag.models.fast_convolution import FastConv1d, FastVertical, constants


def test_the_constants_make_a_convolution() -> None:
    sums, heard, outputs = constants()
    assert (sums.shape, heard.shape, outputs.shape) == ((27, 8), (27, 15), (8, 27))
    taps, signal = torch.randn(8, dtype=torch.float64), torch.randn(15, dtype=torch.float64)
    made = outputs.double() @ ((sums.double() @ taps) * (heard.double() @ signal))
    torch.testing.assert_close(made, (signal.unfold(0, 8, 1) * taps).sum(1))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("padding", [0, 3, "same", "valid"])
@pytest.mark.parametrize("taps", [5, 6, 7, 8])
def test_any_length(taps: int, padding: int | str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_convolution, "MIN_CHANNELS", 6)
    torch.manual_seed(0)
    conv = nn.Conv1d(6, 7, taps, padding=padding).requires_grad_(False)
    assert FastConv1d.suits(conv)
    fast = FastConv1d(conv, conv.weight, conv.bias)
    for frames in (8, 9, 16, 23, 24, 25):
        features = torch.randn(3, 6, frames)
        torch.testing.assert_close(fast(features), conv(features), atol=1e-5, rtol=1e-5)
        strided = features.transpose(1, 2).contiguous().transpose(1, 2)
        torch.testing.assert_close(fast(strided), conv(features), atol=1e-5, rtol=1e-5)
    if padding in (0, "valid"):
        assert fast(torch.randn(1, 6, taps)).shape == (1, 7, 1)
        with pytest.raises(RuntimeError, match="fewer than the filters are long"):
            fast(torch.randn(1, 6, taps - 1))


def test_its_error_is_a_few_roundings_of_the_largest_value() -> None:
    torch.manual_seed(0)
    conv = nn.Conv1d(256, 256, 7, padding="same").requires_grad_(False)
    assert FastConv1d.suits(conv)
    fast, features = FastConv1d(conv, conv.weight, conv.bias), torch.randn(2, 256, 40)
    found = fast(features)
    exact = conv.double()(features.double())
    # the plain sum is within 2 to 5 of them, depending on the processor's instructions
    assert (found - exact).abs().max() < 10 * torch.finfo(torch.float32).eps * exact.abs().max()


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv1d(256, 256, 4),
        nn.Conv1d(256, 256, 9),
        nn.Conv1d(256, 255, 7),
        nn.Conv1d(256, 256, 7, stride=2),
        nn.Conv1d(256, 256, 7, dilation=2),
        nn.Conv1d(256, 256, 7, groups=2),
        nn.Conv2d(256, 256, (1, 7)),
    ],
)
def test_others_are_left_alone(conv: nn.Module) -> None:
    assert not FastConv1d.suits(conv)


@pytest.mark.parametrize("padding", [(0, 0), (0, 3), "valid"])
@pytest.mark.parametrize("height", [5, 6, 9, 12])
@pytest.mark.parametrize("width", [1, 4])
def test_vertical_filters(height: int, width: int, padding: tuple[int, int] | str) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(1, 7, (height, width), padding=padding).requires_grad_(False)
    fast = FastVertical(conv, conv.weight, conv.bias, 12)
    for frames in (4, 5, fast_convolution.FRAMES * torch.get_num_threads() + 4):
        image = torch.randn(3, 1, 12, frames)
        torch.testing.assert_close(fast(image), conv(image).amax(2, keepdim=True), atol=1e-5, rtol=1e-5)


def test_the_error_of_vertical_filters_is_a_few_roundings_of_the_largest_value() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(1, 128, (67, 7)).requires_grad_(False)
    assert FastVertical.suits(conv, 96)
    fast, image = FastVertical(conv, conv.weight, conv.bias, 96), torch.randn(2, 1, 96, 60)
    found = fast(image)
    exact = conv.double()(image.double()).amax(2, keepdim=True)
    assert (found - exact).abs().max() < 10 * torch.finfo(torch.float32).eps * exact.abs().max()


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(1, 127, (67, 7)),
        nn.Conv2d(1, 128, (97, 7)),
        nn.Conv2d(1, 128, (67, 1)),
        nn.Conv2d(1, 128, (3, 3)),
        nn.Conv2d(2, 128, (67, 7)),
        nn.Conv2d(1, 128, (67, 7), stride=(1, 2)),
        nn.Conv2d(1, 128, (67, 7), dilation=(1, 2)),
        nn.Conv2d(1, 128, (67, 7), padding=(1, 0)),
        nn.Conv2d(1, 128, (67, 7), padding="same"),
    ],
)
def test_other_images_are_left_alone(conv: nn.Module) -> None:
    assert not FastVertical.suits(conv, 96)
