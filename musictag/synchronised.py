"""Batch norm over the batch of all processes, on GPUs and CPUs: a model trained by many is the model trained by one."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning.plugins.layer_sync import LayerSync
from torch import Tensor, nn


class _SumOfAll(torch.autograd.Function):
    """The sum over processes. What depends on it in any of them depends on the summand of each: so do gradients."""

    @staticmethod
    def forward(ctx: Any, summand: Tensor) -> Tensor:
        total = summand.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


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
        axes = [axis for axis in range(input.dim()) if axis != 1]
        values = input.float()  # sums of many bfloat16 numbers would be nothing but rounding
        count = values.new_tensor(float(values.numel() // values.shape[1]))
        dist.all_reduce(count)
        mean = _SumOfAll.apply(values.sum(axes)) / count
        centred = values - _as_channels(mean, values)
        variance = _SumOfAll.apply(centred.square().sum(axes)) / count
        with torch.no_grad():
            share = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
            self.running_mean.lerp_(mean.detach().to(self.running_mean.dtype), share)
            unbiased = variance.detach() * (count / (count - 1).clamp(min=1))
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)
        normal = centred * _as_channels((variance + self.eps).rsqrt(), values)
        if self.affine:
            normal = normal * _as_channels(self.weight, values) + _as_channels(self.bias, values)
        return normal.to(input.dtype)


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
