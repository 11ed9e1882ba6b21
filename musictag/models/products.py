"""Products of matrices on a CPU, without gradients.

For float32, torch calls MKL, which leaves AVX-512 unused on processors that are not Intel's: half their rate, or less.
oneDNN, which torch uses for convolutions, does not.

Legend: M rows, K columns, O outputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: What torch.compile calls for a linear layer on a CPU; absent from builds without oneDNN.
_LINEAR = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None


def linear(x_MK: Tensor, weight_OK: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias``, M×O. Rows of ``x`` may have gaps between them."""
    if not _suits(x_MK):
        return F.linear(x_MK, weight_OK, bias_O)
    return _LINEAR(x_MK, weight_OK, bias_O, "none", [], "")


def add_outer(sum_KO: Tensor, x_MK: Tensor, y_MO: Tensor) -> None:
    """Add ``x.T @ y`` to ``sum``."""
    # below AVX-512, MKL is faster at sums over many rows
    if _suits(x_MK) and torch.backends.cpu.get_cpu_capability() == "AVX512":
        sum_KO.add_(_LINEAR(x_MK.t(), y_MO.t(), None, "none", [], ""))
    else:
        sum_KO.addmm_(x_MK.t(), y_MO)


def _suits(x: Tensor) -> bool:
    return _LINEAR is not None and x.device.type == "cpu" and x.dtype == torch.float32
