"""Averages of the weights: training goes on with the weights themselves, and the averaged ones are scored and saved.

Lightning's own callbacks do not serve here: they average whole numbers, too (a flag of 1 becomes 0), swap the weights
back before the best tagger is saved, and begin an exponential average at weights that are hardly trained.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from musictag.common.errors import MusictagError

#: Songs at once where batch norms are measured: their statistics depend on it, so it is no setting of evaluation.
_BLOCK = 64


class WeightAverage(Callback, ABC):
    """Keeps an average of the network's weights, which takes their place while the validation songs are scored.

    A subclass decides when the weights are added to the average, by calling ``_add``. All entries of the network's
    state are averaged, including the running statistics of batch norms; whole numbers are those of the network.
    """

    def __init__(self) -> None:
        self._average: dict[str, Tensor] = {}
        self._count = 0

    def state_dict(self) -> dict[str, Any]:
        return {"average": self._average, "count": self._count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._average, self._count = dict(state_dict["average"]), state_dict["count"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._average = {name: value.to(pl_module.device) for name, value in self._average.items()}

    @abstractmethod
    def _weight(self, count: int) -> float:
        """The weight of the next weights, after ``count`` others."""

    @torch.no_grad()
    def _add(self, network: nn.Module) -> None:
        current = network.state_dict()
        if not self._average:
            self._average = {name: value.clone() for name, value in current.items()}
        names = [name for name, value in current.items() if value.is_floating_point()]
        averages, values = [self._average[name] for name in names], [current[name] for name in names]
        torch._foreach_lerp_(averages, values, self._weight(self._count))
        for name in current.keys() - set(names):
            self._average[name].copy_(current[name])
        self._count += 1

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._swap(pl_module.tagger)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._swap(pl_module.tagger)

    @contextmanager
    def in_place(self, network: nn.Module) -> Iterator[None]:
        """Inside, the network has the averaged weights, once there are any."""
        self._swap(network)
        try:
            yield
        finally:
            self._swap(network)

    @torch.no_grad()
    def _swap(self, network: nn.Module) -> None:
        current = network.state_dict()
        for name, average in self._average.items():
            kept = current[name].clone()
            current[name].copy_(average)
            average.copy_(kept)


class MovingAverage(WeightAverage):
    """An exponential moving average (Polyak & Juditsky 1992; Tarvainen & Valpola 2017), updated after every step.

    After n steps its decay is the smaller of ``decay`` and (1 + n) / (10 + n), so that the first weights are soon
    forgotten. Raises MusictagError for a decay outside (0, 1).
    """

    def __init__(self, decay: float = 0.999) -> None:
        super().__init__()
        if not 0 < decay < 1:
            raise MusictagError(f"callbacks.averaging.decay={decay} must be above 0 and below 1")
        self.decay = decay
        self._step = 0

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"step": self._step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._step = state_dict["step"]

    def _weight(self, count: int) -> float:
        return 1 - min(self.decay, (1 + count) / (10 + count))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if trainer.global_step > self._step:  # a batch whose gradients are only accumulated is no step
            self._step = trainer.global_step
            self._add(pl_module.tagger)


class EpochAverage(WeightAverage):
    """Stochastic weight averaging (Izmailov et al. 2018): the mean of the weights after each of the last epochs.

    It begins after the share ``start`` of ``trainer.max_epochs``; until then the weights themselves are scored. Batch
    norms then have the statistics of up to 1,024 training songs, measured with the averaged weights; those of a frozen
    part keep theirs. The learning rate is that of the schedule. Raises MusictagError for a share outside [0, 1).
    """

    def __init__(self, start: float = 0.75) -> None:
        super().__init__()
        if not 0 <= start < 1:
            raise MusictagError(f"callbacks.averaging.start={start} must be at least 0 and below 1")
        self.start = start
        self._norms: list[nn.Module] = []

    def _weight(self, count: int) -> float:
        return 1 / (count + 1)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._norms = []  # other parts may be trained from now on (finetune.unfreeze_epochs)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if not self._norms:  # now, as in validation none is in training mode
            modules = pl_module.tagger.modules()
            self._norms = [layer for layer in modules if isinstance(layer, _BatchNorm) and layer.training]

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # an epoch ends with validation
        if trainer.state.fn == "fit" and trainer.current_epoch >= int(self.start * trainer.max_epochs):
            self._add(pl_module.tagger)
        super().on_validation_epoch_start(trainer, pl_module)
        if self._average and self._norms:
            blocks = (block.to(pl_module.device) for block in trainer.datamodule.normalisation_waveforms(_BLOCK))
            measure_batch_norms(pl_module.tagger, self._norms, blocks)


@torch.no_grad()
def measure_batch_norms(network: nn.Module, layers: Sequence[nn.Module], waveforms: Iterable[Tensor]) -> None:
    """Give the batch norms ``layers`` of ``network``, which is in evaluation mode, the mean statistics of blocks of
    B×N; blocks of a single patch do not count, as batch norms after the last pooling have no variance there."""
    momenta = {layer: layer.momentum for layer in layers}
    try:
        for number, block in enumerate(block for block in waveforms if len(block) > 1):
            for layer in layers:
                layer.train()
                layer.momentum = 1 / (number + 1)  # which makes the running statistics the mean so far
            network.forward(block)  # never compiled, which would be done anew for each momentum
    finally:
        for layer, momentum in momenta.items():
            layer.eval()
            layer.momentum = momentum


def averaged(trainer: pl.Trainer, network: nn.Module) -> Any:
    """A context in which ``network`` has the weights that validation scored."""
    averages = [callback for callback in trainer.callbacks if isinstance(callback, WeightAverage)]
    return averages[0].in_place(network) if averages else nullcontext()
