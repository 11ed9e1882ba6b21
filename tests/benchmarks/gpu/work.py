"""The work of a step: floating-point operations, and bytes that have to move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

#: What a compiler does not merge into its neighbours; everything else can read and write along with these.
_KERNELS = ("conv", "mm", "bmm", "addmm", "baddbmm", "pool", "attention", "rnn", "lstm", "gru", "fft")


class Work(NamedTuple):
    """FLOP (a multiplication and an addition are two), and bytes without and with fusing of pointwise operations."""

    flop: int
    bytes: int
    fused_bytes: int


def work_of(step: Callable[[], Any]) -> Work:
    """The work of one call of ``step``, which runs without torch.compile."""
    with FlopCounterMode(display=False) as flop, _Bytes() as moved:
        step()
    return Work(flop.get_total_flops(), moved.total, moved.fused)


class _Bytes(TorchDispatchMode):
    """Adds up the inputs and outputs of every dispatched operation; memory that is read and written counts twice."""

    def __init__(self) -> None:
        super().__init__()
        self.total = self.fused = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        schema = func._schema
        aliases = any(value.alias_info is not None and not value.alias_info.is_write for value in schema.returns)
        if aliases or "view" in schema.name or schema.name in ("aten::detach", "aten::empty_like", "aten::empty"):
            return result
        inputs = _bytes((args, kwargs or {}))
        written = [
            value
            for value, argument in zip(args, schema.arguments, strict=False)
            if argument.alias_info is not None and argument.alias_info.is_write
        ]
        outputs = _bytes(written) if written else _bytes(result)
        self.total += inputs + outputs
        name = schema.name.removeprefix("aten::").strip("_")
        if any(kernel in name for kernel in _KERNELS):
            self.fused += inputs + outputs
        return result


def _bytes(values: Any) -> int:
    tensors = (value for value in tree_leaves(values) if isinstance(value, torch.Tensor))
    # expanded tensors have fewer bytes than elements
    return sum(min(tensor.nbytes, tensor.untyped_storage().nbytes()) for tensor in tensors)
