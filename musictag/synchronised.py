"""Batch norm over the batch of all processes, on GPUs and CPUs: a model trained by many is the model trained by one."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning.plugins.layer_sync import LayerSync
from torch import Tensor, nn


class _Normalised(torch.autograd.Function):
    """Batch norm with the statistics of all processes' patches, which all of them must call: an exchange forward, one
    backward. Its passes over the patches are torch's own kernels.
    """

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``input`` B×C×..., normalised; and mean C, variance C (biased) and the number of values a channel."""
        # sums of many bfloat16 numbers would be nothing but rounding
        values = input.to(torch.promote_types(input.dtype, torch.float32))
        axes = [axis for axis in range(input.dim()) if axis != 1]
        mean = values.mean(axes)
        variance = (values - _as_channels(mean, values)).square_().mean(axes)
        own = torch.cat([mean, variance, mean.new_tensor([input.numel() // input.shape[1]])])
        everybody = own.new_empty(dist.get_world_size(), len(own))
        dist.all_gather(list(everybody), own)
        means, variances, counts = everybody.split([len(mean), len(mean), 1], dim=1)
        count = counts.sum()
        mean = (means * counts).sum(0) / count
        variance = ((variances + (means - mean).square()) * counts).sum(0) / count
        output, _, _ = torch.native_batch_norm(input, weight, bias, mean, variance, False, 0.0, eps)
        ctx.save_for_backward(input, weight, mean, variance, count)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance, count)
        return output, mean, variance, count

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        input, weight, mean, variance, count = ctx.saved_tensors
        scale = (variance + ctx.eps).rsqrt()
        # sums of gradient x normalised input and of the gradient: those of weight and bias
        _, with_normal, alone = torch.ops.aten.native_batch_norm_backward(
            gradient, input, torch.ones_like(mean), mean, variance, mean, scale, False, ctx.eps, [False, True, True]
        )
        to_input = None
        if ctx.needs_input_grad[0]:
            everybody = torch.cat([with_normal, alone]).to(mean.dtype)
            dist.all_reduce(everybody)
            of_normal, of_bias = (everybody / count).chunk(2)
            # weight x scale x (gradient - of_bias - normal x of_normal): one pass for what depends on the input ...
            values = input.to(mean.dtype)
            to_input, _, _ = torch.native_batch_norm(values, -of_normal, -of_bias, mean, variance, False, 0.0, ctx.eps)
            # ... and one for the gradient
            outer = scale if weight is None else scale * weight
            to_input = to_input.add_(gradient).mul_(_as_channels(outer, input)).to(input.dtype)
        return (
            to_input,
            with_normal.to(weight.dtype) if ctx.needs_input_grad[1] else None,
            alone.to(weight.dtype) if ctx.needs_input_grad[2] else None,
            None,
        )


class SynchronisedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """What torch's SyncBatchNorm is on GPUs, for the other devices: mean and variance of all processes' patches."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"B×C×... expected, got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        """The normalised ``input``, B×C×..., in the same shape."""
        alone = not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1
        if alone or not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        self.num_batches_tracked.add_(1)
        normal, mean, variance, count = _Normalised.apply(input, self.weight, self.bias, self.eps)
        share = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        unbiased = variance * (count / (count - 1).clamp(min=1))
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)
        return normal


class SynchroniseBatchNorms(LayerSync):
    """Lightning's hook: before training every batch norm becomes a synchronised one, afterwards an ordinary one.

    ``on_gpus``: torch's own, which is faster and works there only.
    """

    on_gpus = False

    def apply(self, model: nn.Module) -> nn.Module:
        for parent in list(model.modules()):
            for name, layer in list(parent.named_children()):
                if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                    made = _like(layer, nn.SyncBatchNorm if self.on_gpus else SynchronisedBatchNorm)
                    made.made_from = type(layer)
                    setattr(parent, name, made)
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        for parent in list(model.modules()):
            for name, layer in list(parent.named_children()):
                if isinstance(layer, nn.SyncBatchNorm | SynchronisedBatchNorm):
                    setattr(parent, name, _like(layer, layer.made_from))
        return model


def _like(layer: Any, kind: type[nn.Module]) -> Any:
    """A batch norm of another ``kind`` with the settings, the parameters and the buffers of ``layer``."""
    made = kind(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats, device="meta")
    for name in ("weight", "bias"):
        setattr(made, name, getattr(layer, name))
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        setattr(made, name, getattr(layer, name))
    made.train(layer.training)
    made.requires_grad_(layer.weight.requires_grad if layer.affine else False)
    return made


def _as_channels(values: Tensor, like: Tensor) -> Tensor:
    """C numbers in the shape that goes with B×C×... ."""
    return values.view(1, -1, *[1] * (like.dim() - 2))
