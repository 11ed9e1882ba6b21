"""Convolutions with fewer multiplications, for inference on a CPU.

Over time: two outputs of a filter with two taps, y0 = g0 x0 + g1 x1 and y1 = g0 x1 + g1 x2, take three products
instead of four: with p = g0 (x0 - x1), q = (g0 + g1) x1, r = g1 (x1 - x2) they are p + q and q - r (Winograd 1980,
*Arithmetic complexity of computations*; Mou & Duhamel 1991, *Short-length FIR filters*). Three levels of this, each
with blocks in place of numbers, make eight outputs of a filter with eight taps from 27 products instead of 64. All
constants are 0, 1 and -1, so that rounding is no worse than in the plain sum. A product is a matrix here, channels to
channels.

Over mel bands, with tall filters of one input channel: products of Fourier transforms. Those of the input are small
beside the many filters, and those of the filters are computed once. Of the results only the largest over all bands is
needed, so that two of them, as far above the middle as below, come from one sum of cosines e and one of sines s: max(e
+ s, e - s) is e + |s|, and half the inverse transform is saved.

Legend: B patches, C channels, F bands, T frames, Q blocks of eight frames.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musictag.models.products import linear

LEVELS = 3
BLOCK = 2**LEVELS  #: outputs of a block, and taps
MIN_CHANNELS = 256  #: with fewer, sums take more time than the saved products
PARTS = 2  #: of a vertical filter
FRAMES = 48  #: of products of transforms in the cache, for each thread
MIN_FILTERS = 128  #: vertical ones; as MIN_CHANNELS
MIN_SAVED = 3  #: times as many products in the plain sum: they are faster ones


class FastConv1d:
    """``conv`` with other weights and biases, B×C×T -> B×C'×T': for filters of 5 to 8 taps without strides.

    The result has its channels innermost in memory.
    """

    def __init__(self, conv: nn.Conv1d, weight: Tensor, bias: Tensor) -> None:
        taps = conv.kernel_size[0]
        self._padding = _padding(conv)
        sums, differences, outputs = (matrix.to(weight) for matrix in constants())
        sums = sums[:, :taps]
        needed = sums.any(1)  # one product has only the eighth tap, which most filters do not have
        self._differences, self._outputs = differences[needed], outputs[:, needed].contiguous()
        self._weights_POC = torch.einsum("pt,oct->poc", sums[needed], weight).contiguous()
        self._lost = taps - 1 - sum(self._padding)
        self._bias = bias

    @staticmethod
    def suits(conv: nn.Module) -> bool:
        """Whether ``conv`` can be computed so, and is faster then."""
        return (
            isinstance(conv, nn.Conv1d)
            and conv.weight.device.type == "cpu"
            and (conv.stride, conv.dilation, conv.groups) == ((1,), (1,), 1)
            and BLOCK // 2 < conv.kernel_size[0] <= BLOCK
            and min(conv.in_channels, conv.out_channels) >= MIN_CHANNELS
        )

    def __call__(self, features: Tensor) -> Tensor:
        patches, channels, frames = features.shape
        made = frames - self._lost
        if made < 1:
            raise RuntimeError(f"{frames} frames are fewer than the filters are long")
        blocks = -(-made // BLOCK)
        before, window = self._padding[0], 2 * BLOCK - 1
        after = blocks * BLOCK + BLOCK - 1 - before - frames
        x_BTC = F.pad(features.transpose(1, 2), (0, 0, before, after)).contiguous()
        # the frames that a block hears, as a view: those of neighbours overlap
        x_BQWC = x_BTC.as_strided((patches, blocks, window, channels), (x_BTC.stride(0), BLOCK * channels, channels, 1))
        x_BQPC = (self._differences @ x_BQWC).flatten(0, 1)
        y_BQPC = torch.stack(
            [linear(x, weight) for x, weight in zip(x_BQPC.unbind(1), self._weights_POC, strict=True)], 1
        )
        y_BTC = (self._outputs @ y_BQPC).view(patches, blocks * BLOCK, -1)[:, :made]
        return y_BTC.add_(self._bias).transpose(1, 2)


class FastVertical:
    """The maximum over all bands of ``conv`` with other weights, B×1×F×T -> B×C×1×T', F = ``bands``.

    Each part of the filters, PARTS in all, has its own transforms, which are shorter: their products are summed.
    """

    def __init__(self, conv: nn.Conv2d, weight: Tensor, bias: Tensor, bands: int) -> None:
        height, self._width = conv.kernel_size
        made, part, length = _transform(height, bands)
        frequencies = torch.arange(length // 2 + 1, dtype=torch.float64)
        angles = 2 * math.pi / length * frequencies
        band = torch.arange(bands) - part * torch.arange(PARTS)[:, None]
        waves = torch.polar(((band >= 0) & (band < length)).double(), -angles[:, None, None] * band)  # at KPF
        self._heard = torch.view_as_real(waves).movedim(3, 2).flatten(0, 2).to(weight)
        padded = F.pad(weight.squeeze(1), (0, 0, 0, PARTS * part - height)).unflatten(1, (PARTS, part)).double()
        middle = torch.arange(part) + (made - 1) / 2  # the results are counted from there
        waves = torch.polar(torch.ones(1, dtype=torch.float64), angles[:, None] * middle)
        spectra = torch.einsum("kr,cprw->kwpc", waves, padded.to(waves.dtype))
        real = torch.stack([spectra.real, -spectra.imag], 3)  # by the real and imaginary parts of what is heard
        imaginary = torch.stack([spectra.imag, spectra.real], 3)
        self._weights = [of.flatten(1, 3).to(weight).contiguous() for of in (real, imaginary)]
        share = torch.where((frequencies == 0) | (2 * frequencies == length), 1, 2) / length
        from_middle = torch.arange(made // 2, made) - (made - 1) / 2
        self._cosines, self._sines = (
            (share * of(from_middle[:, None] * angles)).to(weight) for of in (torch.cos, torch.sin)
        )
        self._padding = 0 if conv.padding == "valid" else conv.padding[1]
        self._bias = bias

    @staticmethod
    def suits(conv: nn.Module, bands: int) -> bool:
        """Whether ``conv`` can be computed so, and is faster then."""
        if not (
            isinstance(conv, nn.Conv2d)
            and conv.weight.device.type == "cpu"
            and (conv.in_channels, conv.stride, conv.dilation) == (1, (1, 1), (1, 1))
            and (conv.padding == "valid" or (conv.padding != "same" and conv.padding[0] == 0))
            and conv.out_channels >= MIN_FILTERS
        ):
            return False
        height, width = conv.kernel_size
        made, _, length = _transform(height, bands)
        products = (length // 2 + 1) * (4 * PARTS * width + made)
        return made > 0 and made * height * width >= MIN_SAVED * products

    def __call__(self, image: Tensor) -> Tensor:
        x_BFT = F.pad(image.squeeze(1), (self._padding, self._padding))
        heard = (self._heard @ x_BFT).unflatten(1, (-1, 2 * PARTS)).transpose(2, 3).contiguous()
        windows = heard.unfold(2, self._width, 1).transpose(3, 4).flatten(3)  # a view: neighbours overlap
        y_BTC = x_BFT.new_empty(len(x_BFT), windows.shape[2], len(self._bias))
        frames = FRAMES * torch.get_num_threads()
        for patch, maxima in zip(windows, y_BTC, strict=True):
            # few frames at a time, for the cache
            for window, pooled in zip(patch.split(frames, 1), maxima.split(frames), strict=True):
                window = window.contiguous()
                real, imaginary = (torch.bmm(window, weights).flatten(1) for weights in self._weights)
                results = (self._cosines @ real).add_((self._sines @ imaginary).abs_())
                torch.amax(results.view(-1, *pooled.shape), 0, out=pooled)
        return y_BTC.add_(self._bias).transpose(1, 2).unsqueeze(2)


def _transform(height: int, bands: int) -> tuple[int, int, int]:
    """Of filters over so many of the bands: results, height of a part, and length of its transforms."""
    made, part = bands - height + 1, math.ceil(height / PARTS)
    return made, part, made + part - 1


def _padding(conv: nn.Conv1d) -> tuple[int, int]:
    """Frames of zeros before and after."""
    if conv.padding == "same":  # as torch does it
        total = conv.kernel_size[0] - 1
        return total // 2, total - total // 2
    return (0, 0) if conv.padding == "valid" else conv.padding * 2


def constants() -> tuple[Tensor, Tensor, Tensor]:
    """Taps to products, 27×8, the frames that a block hears to products, 27×15, and products to frames, 8×27."""
    taps = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    heard = torch.tensor([[1.0, -1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, -1.0]])
    outputs = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, -1.0]])
    all_taps, all_heard, all_outputs = torch.ones(1, 1), torch.ones(1, 1), torch.ones(1, 1)
    for level in range(LEVELS):
        size = 2**level
        # three blocks of what the smaller blocks hear, which overlap
        wider = torch.zeros(3, len(all_heard), 4 * size - 1)
        for block in range(3):
            wider[:, :, block * size : block * size + 2 * size - 1] += heard[:, block, None, None] * all_heard
        all_heard = wider.flatten(0, 1)
        all_taps, all_outputs = torch.kron(taps, all_taps), torch.kron(outputs, all_outputs)
    return all_taps, all_heard, all_outputs
