"""The inference form of a network: the same function in evaluation mode, arranged for speed.

Three rearrangements, all of them exact but for rounding:

* A batch norm is an affine map a x + c per channel. Before a ReLU it is folded into the convolution. After a ReLU, too,
  as a max(y, 0) + c is max(a y + c, c), or min(a y + c, c) where a is negative: the convolution takes a and c, and a
  clamp with two bounds per channel takes the place of the ReLU. How the convolution is padded makes no difference.
* A clamp never decreases, so that max-pooling comes before it, and leaves less to clamp.
* On a CPU the channels of a value are adjacent in memory, and convolutions over time run as ones over an image of
  height 1, for which there are faster kernels, or with fewer products (see fast_convolution.py).

A part of a network may define ``inference_form()``; all others become what ``rearranged`` makes of them.
Legend: B patches, N samples, C channels, H height, T frames, K tags.
"""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from musictag.common.errors import MusictagError
from musictag.models.fast_convolution import FastConv1d, FastVertical

#: Precisions of scoring, as Lightning calls them: all in float32, or convolutions in bfloat16.
PRECISIONS = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16}
#: What processors call their bfloat16 instructions: x86 twice, ARM. Without them torch computes bfloat16 in software.
_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")
#: Largest allowed difference of probabilities between the two; those of real networks differ by less than 0.01.
BFLOAT16_TOLERANCE = 0.05
#: Audio in the front-end at once, per CPU thread: what its layers exchange has to fit into the cache.
CACHED_SECONDS = 10.0
#: Never decreasing, unless a setting says so, value by value: they can change places with a maximum.
_ACTIVATIONS = (nn.ReLU, nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh)
_NOTHING = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)  # what they do in evaluation mode


def has_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` computes in bfloat16, rather than emulating it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and any(torch.cpu.get_capabilities().get(name) for name in _INSTRUCTIONS)


def check_precision(precision: str, device: torch.device) -> None:
    """Raise MusictagError for an unknown precision of scoring, and for one that ``device`` lacks."""
    if precision not in PRECISIONS:
        raise MusictagError(f"precision={precision} does not exist for scoring; allowed: {', '.join(PRECISIONS)}")
    if precision != "32-true" and not has_bfloat16(device):
        raise MusictagError(
            f"precision={precision}: this {device.type} has no instructions for bfloat16; use precision=32-true"
        )


class InferenceForm(nn.Module):
    """Both parts of a network with their weights of this moment, for scoring: the same logits, faster, no gradients.

    It stays on the device of the parts. ``backend.output`` is the last layer here, too. With ``dtype`` bfloat16 the
    convolutions in chains of layers take and return such values; sums are in float32, as is everything else.
    """

    def __init__(self, frontend: nn.Module, backend: nn.Module, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.frontend, self.backend = inference_form(frontend), inference_form(backend)
        if dtype != torch.float32:
            compute_in(self, dtype)
        self._cached_samples = CACHED_SECONDS * frontend.sample_rate
        self.training = False

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        """Waveform B×N float32 in [-1, 1] -> logits B×K."""
        blocks = 1
        if waveform.device.type == "cpu":
            blocks = math.ceil(waveform.numel() / (torch.get_num_threads() * self._cached_samples))
        parts = waveform.tensor_split(max(1, min(blocks, len(waveform))))
        return self.backend(torch.cat([self.frontend(part) for part in parts]))


def compute_in(form: nn.Module, dtype: torch.dtype) -> None:
    """Let every Stage of an inference form compute in ``dtype``."""
    for chain in [module for module in form.modules() if isinstance(module, Chain)]:
        for step in chain._steps:
            if isinstance(step, Stage):
                step.prepare(dtype)
            else:
                compute_in(step, dtype)


def inference_form(module: nn.Module) -> nn.Module:
    """The inference form of a part: its own, or else what ``rearranged`` makes of it."""
    if type(module) is nn.MaxPool1d and not module.return_indices:
        return MaxOverTime(module)
    return module.inference_form() if hasattr(module, "inference_form") else rearranged(module)


def rearranged(module: nn.Module) -> nn.Module:
    """A copy of ``module`` in evaluation mode in which chains of layers, nn.Sequential, are a ``Chain`` each.

    Everything else remains, down to the single layers of a chain under their names.
    """
    if type(module) is nn.Sequential:
        return Chain(module)
    children = module._modules
    form = copy.deepcopy(module, {id(child): child for child in children.values()})  # without copying them
    form._modules = {}
    form.requires_grad_(False)
    form.training = False  # not by eval(), which a part may extend, and which would miss its layers
    forms = {id(child): inference_form(child) for child in module.children()}
    form._modules = {name: forms.get(id(child)) for name, child in children.items()}
    return form


class Chain(nn.Sequential):
    """Layers one after the other, B×C×T or B×C×H×T, rearranged; its own layers are plain copies of them.

    The result is contiguous if the input is, and with ``contiguous=False`` as the last layer leaves it. Layers of
    unknown kinds have contiguous input, unless they have the attribute ``any_layout``. They and the result have the
    input's dtype, whatever the convolutions compute in.
    """

    def __init__(self, layers: nn.Sequential | OrderedDict[str, nn.Module], contiguous: bool = True) -> None:
        named = layers._modules if isinstance(layers, nn.Sequential) else layers  # a slice of a chain has a dictionary
        super().__init__(OrderedDict(copy.deepcopy(named)))
        self.contiguous = contiguous
        steps = list(_flattened(self))
        for number, (before, layer) in enumerate(pairwise(tuple(steps))):
            falls = getattr(before, "negative_slope", getattr(before, "alpha", 1.0)) < 0  # LeakyReLU, ELU
            if type(before) in _ACTIVATIONS and type(layer) in _MAXIMA and not falls:
                steps[number : number + 2] = layer, before
        self._steps: list[Stage | nn.Module] = []  # in a list, as they are no layers under names of their own
        for step in steps:
            if type(step) in (nn.Conv1d, nn.Conv2d) and step.padding_mode == "zeros" and not _has_hooks(step):
                self._steps.append(Stage(step))
            elif not (self._steps and isinstance(self._steps[-1], Stage) and self._steps[-1].takes(step)):
                self._steps.append(inference_form(step))
        for step in self._steps:
            if isinstance(step, Stage):
                step.prepare()
        self.requires_grad_(False).eval()

    def forward(self, features: Tensor) -> Tensor:
        contiguous, dtype = self.contiguous and features.is_contiguous(), features.dtype
        for step in self._steps:
            if not (isinstance(step, Stage) or type(step) in _ACTIVATIONS):
                features = features.to(dtype)
                if not hasattr(step, "any_layout"):
                    features = features.contiguous()
            features = step(features)
        features = features.to(dtype)
        return features.contiguous() if contiguous else features


def _flattened(layers: Iterable[nn.Module]) -> Iterator[nn.Module]:
    for layer in layers:
        if type(layer) is nn.Sequential:
            yield from _flattened(layer)
        elif type(layer) not in _NOTHING:
            yield layer


def _has_hooks(layer: nn.Module) -> bool:
    """Whether the layer is more than its class says, such as one with spectral norm."""
    return bool(layer._forward_pre_hooks or layer._forward_hooks)


class Stage:
    """A convolution and what follows it, batch norms, ReLUs and a max-pooling, as convolution, maximum and clamp."""

    @torch.no_grad()
    def __init__(self, conv: nn.Conv1d | nn.Conv2d) -> None:
        self._conv = conv
        self._pool: nn.Module | None = None
        zeros = conv.weight.new_zeros(conv.out_channels)
        # the result is scale · (convolution without bias) + shift, between the bounds
        self._scale, self._shift = zeros + 1, zeros if conv.bias is None else conv.bias.detach()
        self._lower, self._upper = zeros - torch.inf, zeros + torch.inf

    @torch.no_grad()
    def takes(self, layer: nn.Module) -> bool:
        """Whether ``layer`` can be part of the stage; then it is."""
        if _has_hooks(layer):
            return False
        if type(layer) is nn.ReLU:
            self._lower, self._upper = self._lower.clamp(min=0), self._upper.clamp(min=0)
        elif isinstance(layer, _BatchNorm) and layer.running_mean is not None and self._pool is None:
            scale = (layer.running_var + layer.eps).rsqrt() * (1 if layer.weight is None else layer.weight)
            shift = (0 if layer.bias is None else layer.bias) - layer.running_mean * scale
            self._scale, self._shift = self._scale * scale, self._shift * scale + shift
            bounds = [torch.where(scale == 0, shift, bound * scale + shift) for bound in (self._lower, self._upper)]
            self._lower, self._upper = torch.minimum(*bounds), torch.maximum(*bounds)
        elif type(layer) in _MAXIMA and self._pool is None and not getattr(layer, "return_indices", False):
            self._pool = _over_image(layer) if type(layer) is nn.MaxPool1d else layer
        else:
            return False
        return True

    @torch.no_grad()
    def prepare(self, dtype: torch.dtype | None = None) -> None:
        """After the last of its layers, for convolutions in ``dtype``, by default that of the weights."""
        conv = self._conv
        self._dtype = conv.weight.dtype if dtype is None else dtype
        self._over_time = isinstance(conv, nn.Conv1d)
        weight = (conv.weight.flatten(1) * self._scale[:, None]).view_as(conv.weight)
        large_kernel = conv.in_channels == 1 and weight[0].numel() > 9  # the kernels for these prefer the usual layout
        channels_last = weight.device.type == "cpu" and (self._over_time or not large_kernel)
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        self._fast: FastConv1d | FastVertical | None = None
        if dtype is None and FastConv1d.suits(conv):
            self._fast = FastConv1d(conv, weight, self._shift)
        elif dtype is None and isinstance(self._pool, MaxOverBands) and FastVertical.suits(conv, self._pool.bands):
            self._fast = FastVertical(conv, weight, self._shift, self._pool.bands)
        weight = weight.unsqueeze(2) if self._over_time else weight
        # copied, as a kernel with one input channel is contiguous in both ways, and its strides tell which is meant
        self._weight = torch.empty_like(weight, dtype=self._dtype, memory_format=self._layout).copy_(weight)
        self._bias = self._shift.to(self._dtype)
        settings = ((conv.stride, 1), (conv.padding, 0), (conv.dilation, 1))
        self._how = (*(self._image(setting, height) for setting, height in settings), conv.groups)
        self._is_relu = bool((self._lower == 0).all() and (self._upper == torch.inf).all())
        self._is_bounded = bool((self._lower.isfinite() | self._upper.isfinite()).any())
        self._bounds = [bound[:, None, None].to(self._dtype) for bound in (self._lower, self._upper)]

    def _image(self, setting: tuple[int, ...] | str, height: int) -> tuple[int, ...] | str:
        """A setting of the convolution, for an image."""
        return (height, *setting) if self._over_time and isinstance(setting, tuple) else setting

    def __call__(self, features: Tensor) -> Tensor:
        if isinstance(self._fast, FastConv1d):
            image = self._fast(features).unsqueeze(2)
        elif self._fast is not None:
            image = self._fast(features)
        else:
            image = features.unsqueeze(2) if self._over_time else features
            image = image.to(self._dtype).contiguous(memory_format=self._layout)
            image = F.conv2d(image, self._weight, self._bias, *self._how)
        if self._pool is not None and not isinstance(self._fast, FastVertical):
            image = self._pool(image)
        if self._is_relu:
            image = image.relu_()
        elif self._is_bounded:
            image = image.clamp_(*self._bounds)
        return image.squeeze(2) if self._over_time else image


class MaxOverTime(nn.Module):
    """The nn.MaxPool1d ``pool``, which would make its input contiguous, for any layout."""

    any_layout = True

    def __init__(self, pool: nn.MaxPool1d) -> None:
        super().__init__()
        self.pool = _over_image(pool)

    def forward(self, features: Tensor) -> Tensor:
        return self.pool(features.unsqueeze(2)).squeeze(2)


def _over_image(pool: nn.MaxPool1d) -> nn.MaxPool2d:
    """``pool`` over the width of an image."""
    sizes = [(pool.kernel_size, 1), (pool.stride, 1), (pool.padding, 0), (pool.dilation, 1)]
    sizes = [(height, size if isinstance(size, int) else size[0]) for size, height in sizes]
    return nn.MaxPool2d(*sizes, ceil_mode=pool.ceil_mode)


class MaxOverBands(nn.Module):
    """B×C×H×T -> B×C×1×T: the maximum over the height, of what a convolution made of an image of ``bands``."""

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.bands = bands

    def forward(self, image: Tensor) -> Tensor:
        return image.amax(2, keepdim=True)


_MAXIMA = (nn.MaxPool1d, nn.MaxPool2d, MaxOverBands)
