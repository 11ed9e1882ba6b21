"""Convolutions over time with fewer multiplications, for inference on a CPU.

Two outputs of a filter with two taps, y0 = g0 x0 + g1 x1 and y1 = g0 x1 + g1 x2, take three products instead of four:
with p = g0 (x0 - x1), q = (g0 + g1) x1, r = g1 (x1 - x2) they are p + q and q - r (Winograd 1980, *Arithmetic
complexity of computations*; Mou & Duhamel 1991, *Short-length FIR filters*). Three levels of this, each with blocks in
place of numbers, make eight outputs of a filter with eight taps from 27 products instead of 64. All constants are 0, 1
and -1, so that rounding is no worse than in the plain sum. A product is a matrix here, channels to channels.

Legend: B patches, C channels, T frames, Q blocks of eight frames.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musictag.models.products import linear

LEVELS = 3
BLOCK = 2**LEVELS  #: outputs of a block, and taps
MIN_CHANNELS = 256  #: with fewer, sums take more time than the saved products


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
