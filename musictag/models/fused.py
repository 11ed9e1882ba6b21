"""Convolution, ReLU, batch norm and max-pooling as one step of training on a CPU, forward and backward.

The plain layers pass over their large maps a dozen times, through memory and in orders that the processor cannot
vectorise. Here a block of the map is finished while it is in the cache, with the channels innermost, and only the
pooled map goes on. The layers stay the ones of the network: names, weights and results are theirs, up to rounding.

Legend: B rows of the batch, T positions, C and O channels in and out, K = kernel positions times C.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from musictag.models.products import add_outer, linear

#: Numbers of a block of the map for each thread, about half of which fit a core's second-level cache.
_BLOCK = 2**18


class Window(NamedTuple):
    """Where a convolution and its pooling read: ``length`` positions of input, of those in B×T×C."""

    length: int
    kernel: int
    stride: int
    pool: int

    @property
    def convolved(self) -> int:
        return (self.length - self.kernel) // self.stride + 1

    @property
    def pooled(self) -> int:
        return self.convolved // self.pool

    def phase(self, i: int) -> int:
        """How many positions the convolution computes that are the ``i``-th of their pool, complete or not."""
        return (self.convolved - i - 1) // self.pool + 1


def fusible(features: Tensor, *blocks: nn.Module) -> bool:
    """Whether the ``conv_relu_norm`` blocks can be trained by ``conv_relu_norm_pool``.

    Not under autocast, on other devices, while compiling or in evaluation; with hooks, which would not be called; and
    not with layers of other classes, such as synchronised batch norms.
    """
    if (
        features.device.type != "cpu"
        or features.dtype != torch.float32
        or not torch.is_grad_enabled()
        or torch.is_autocast_enabled("cpu")
        or torch.compiler.is_compiling()
    ):
        return False
    return all(
        type(block[0]) in (nn.Conv1d, nn.Conv2d)
        and type(block[2]) in (nn.BatchNorm1d, nn.BatchNorm2d)
        and block[2].training
        and not any(layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks for layer in block)
        for block in blocks
    )


def conv_relu_norm_pool(x_BTC: Tensor, block: nn.Sequential, weight_KO: Tensor, window: Window, pad_to: int) -> Tensor:
    """``block`` (convolution, ReLU, batch norm), in training, and a max-pooling -> B×T×O.

    ``x_BTC`` is contiguous; behind ``window.length`` positions it has padding, which does not change the result, up to
    a multiple of ``stride * pool`` positions (none is needed where the pooling leaves a single position). The result is
    padded with zeros likewise, to a multiple of ``pad_to``. ``weight_KO`` is the convolution's weight, positions before
    channels. The kernel must not be longer than ``stride * pool``, unless a single position is left.
    """
    norm = block[2]
    y, mean, var = _ConvReluNormPool.apply(
        x_BTC, weight_KO, block[0].bias, norm.weight, norm.bias, norm.eps, window, pad_to
    )
    with torch.no_grad():
        count = len(x_BTC) * window.convolved
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(var * (count / (count - 1)), norm.momentum)
    return y


class _ConvReluNormPool(torch.autograd.Function):
    """Row t of phase i, the i-th convolution of each pool, begins at input position ``stride * (pool * t + i)``. The
    kernel is not longer than the distance between rows, so that a phase is a product of two matrices: the input as it
    is in memory, with K of its numbers in each row, and the weight. The pooling is a maximum over the phases.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, gamma: Tensor, beta: Tensor, eps: float, window: Window,
        pad_to: int,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        batch, pooled = len(x), window.pooled
        rectified = x.new_empty(window.pool, batch, _rows(x, window), weight.shape[1])
        extreme = x.new_empty(batch, pooled, weight.shape[1]) if window.pool > 1 else rectified[0, :, :pooled]
        # where gamma is negative, batch norm turns the minimum into the maximum
        sign = torch.where(gamma < 0, -1.0, 1.0) if bool((gamma < 0).any()) else None
        shift, sums, squares, transposed = None, [], [], weight.t().contiguous()
        for block in _blocks(rectified):
            for i in range(window.pool):
                rows = _matrix(x[block], window, i)
                product = rectified[i, block].view(-1, weight.shape[1])[: len(rows)]
                product.copy_(linear(rows, transposed, bias))
                values = _head(rectified[i, block], window.phase(i)).clamp_(min=0)
                if shift is None:  # near the mean, so that the variance is not a small difference of large numbers
                    shift = values.mean((0, 1))
                centred = values - shift
                sums.append(_total(centred))
                squares.append(_total(centred.square_()))
                if window.pool == 1:
                    continue
                values = _head(values, pooled) if sign is None else _head(values, pooled) * sign
                if i == 0:
                    extreme[block] = values
                else:
                    torch.maximum(extreme[block], values, out=extreme[block])
        if sign is not None and window.pool > 1:
            extreme.mul_(sign)
        count = batch * window.convolved
        beside = torch.stack(sums).double().sum(0) / count
        var = torch.stack(squares).double().sum(0) / count - beside**2
        mean, var = (shift + beside).to(x.dtype), var.to(x.dtype)
        inverse = (var + eps).rsqrt()
        y = x.new_empty(batch, -(-pooled // pad_to) * pad_to, weight.shape[1])
        torch.addcmul(beta - mean * gamma * inverse, extreme, gamma * inverse, out=y[:, :pooled])
        y[:, pooled:].zero_()
        ctx.save_for_backward(x, weight, gamma, rectified, extreme, mean, inverse)
        ctx.window = window
        ctx.mark_non_differentiable(mean, var)
        return y, mean, var

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, *_: None) -> tuple[Tensor | None, ...]:
        x, weight, gamma, rectified, extreme, mean, inverse = ctx.saved_tensors
        window: Window = ctx.window
        grad_y = grad_y[:, : window.pooled]
        grad_beta, products = torch.zeros_like(mean), torch.zeros_like(mean)
        for block in _blocks(rectified):
            grad_beta += _total(grad_y[block])
            products += _total((extreme[block] - mean).mul_(grad_y[block]))
        grad_gamma = products * inverse
        # batch norm's gradient: gamma / std * grad_y where the pooling took the value, plus a linear function of it
        count = len(x) * window.convolved
        slope = -gamma * inverse.square() * grad_gamma / count
        offset = -gamma * inverse * grad_beta / count - slope * mean
        grad_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        grad_weight, grad_bias = torch.zeros_like(weight), torch.zeros_like(mean)
        for block in _blocks(rectified):
            left = grad_y[block] * (gamma * inverse)  # of equal values, the first takes it
            if grad_x is not None:
                grad_x[block] = 0
            for i in range(window.pool):
                values = _head(rectified[i, block], window.phase(i))
                grad = torch.empty_like(rectified[i, block])
                inner = _head(grad, window.phase(i))
                if inner is not grad:
                    grad[:, window.phase(i) :] = 0
                torch.addcmul(offset, values, slope, out=inner)
                if window.pool == 1:
                    inner.add_(left)
                else:
                    # as numbers, since comparisons that give booleans are not vectorised
                    taken = torch.eq(_head(values, window.pooled), extreme[block], out=torch.empty_like(left))
                    left.sub_(taken.mul_(left))
                    _head(inner, window.pooled).add_(taken)
                torch.ops.aten.threshold_backward.grad_input(inner, values, 0, grad_input=inner)
                rows = _matrix(x[block], window, i)
                grad = grad.view(-1, grad.shape[-1])[: len(rows)]
                add_outer(grad_weight, rows, grad)
                grad_bias.add_(grad.sum(0))
                if grad_x is not None:
                    _matrix(grad_x[block], window, i).add_(linear(grad, weight))
        return grad_x, grad_weight, grad_bias, grad_gamma, grad_beta, None, None, None


def _rows(x: Tensor, window: Window) -> int:
    """Rows of a phase for each row of the batch; those that reach into the padding are not part of the result."""
    return 1 if window.pool == window.convolved else x.shape[1] // (window.stride * window.pool)


def _head(values_BTO: Tensor, positions: int) -> Tensor:
    return values_BTO if values_BTO.shape[1] == positions else values_BTO[:, :positions]


def _total(values_BTO: Tensor) -> Tensor:
    """The sum for each channel."""
    if values_BTO.is_contiguous():
        return values_BTO.view(-1, values_BTO.shape[-1]).sum(0)
    return values_BTO.sum(1).sum(0)  # over both axes at once, torch is ten times slower


def _blocks(rectified: Tensor) -> list[slice]:
    """Groups of rows of the batch whose phases, one at a time, stay in the cache."""
    _, batch, rows, channels = rectified.shape
    size = max(1, torch.get_num_threads() * _BLOCK // (rows * channels))
    return [slice(begin, begin + size) for begin in range(0, batch, size)]


def _matrix(x: Tensor, window: Window, i: int) -> Tensor:
    """The input of phase ``i`` as a matrix of K columns, without copying; its last row is the last one that is used."""
    batch, positions, channels = x.shape
    rows = _rows(x, window)
    size = ((batch - 1) * rows + window.phase(i), window.kernel * channels)
    return x.as_strided(size, (positions // rows * channels, 1), x.storage_offset() + i * window.stride * channels)
