"""Dropout that changes during training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch.nn.modules.dropout import _DropoutNd

from musictag.common.errors import MusictagError


class DropoutSchedule(Callback):
    """Multiplies every dropout of the network by a factor from ``first``, in the first epoch, to ``last``.

    It changes linearly from epoch to epoch within the share ``until`` of ``trainer.max_epochs`` and then stays. Raises
    MusictagError for factors outside [0, 1], a share outside (0, 1], a network without dropout, and a ``config`` with
    ``compile``.
    """

    def __init__(self, first: float, last: float, until: float = 1.0, config: Mapping[str, Any] | None = None) -> None:
        if config and config["compile"]:  # each change would be compiled, and after a few nothing any more
            raise MusictagError("callbacks.dropout cannot be compiled; use compile=false, or callbacks.dropout=null")
        if not (0 <= first <= 1 and 0 <= last <= 1 and 0 < until <= 1):
            raise MusictagError(
                f"callbacks.dropout: first={first} and last={last} must be from 0 to 1, until={until} above 0 and at "
                "most 1"
            )
        self.first, self.last, self.until = first, last, until
        self._whole: dict[str, float] = {}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage == "fit":
            self._whole = {name: layer.p for name, layer in _layers(pl_module).items() if layer.p}
            if not self._whole:
                raise MusictagError("callbacks.dropout has no dropout to change; use callbacks.dropout=null")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._set(trainer, pl_module)  # for an epoch that is resumed within, for which the following is not called

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._set(trainer, pl_module)

    def _set(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        done = min(trainer.current_epoch / max(self.until * trainer.max_epochs, 1), 1.0)
        factor = self.first + (self.last - self.first) * done
        for name, layer in _layers(pl_module).items():
            if name in self._whole:
                layer.p = self._whole[name] * factor


def _layers(pl_module: Any) -> dict[str, _DropoutNd]:
    return {name: layer for name, layer in pl_module.tagger.named_modules() if isinstance(layer, _DropoutNd)}
