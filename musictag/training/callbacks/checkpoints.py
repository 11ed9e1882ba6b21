"""Checkpoints from which a run resumes exactly, and the tagger of the best epoch.

Order at the end of an epoch: the module steps its schedule, early stopping counts, the tagger is written if it is the
best, then the last checkpoint, which therefore contains the state of all the others.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.io import TorchCheckpointIO
from pytorch_lightning.callbacks import Callback, Checkpoint

from musictag.common.errors import MusictagError
from musictag.models.checkpoint import read_checkpoint, write_checkpoint, write_tagger
from musictag.models.network import TaggingNetwork
from musictag.training.best_epoch import Rule
from musictag.training.callbacks.averaging import averaged
from musictag.training.callbacks.history import History
from musictag.training.signals import SignalHandler, Stopped


class StepCheckpoint(Callback):
    """Saves within an epoch: every ``minutes`` (None: never), and when ``signal_handler`` received a signal, which also
    ends training with ``Stopped``.

    All processes save after the same batch, whichever of them received the signal (see ``StopRequest``). With gradient
    accumulation, that is a batch after which the optimizer stepped. After the last batch of an epoch, validation is
    finished first, and the epoch's own checkpoint is the one that is saved.
    """

    def __init__(self, run_dir: Path, signal_handler: SignalHandler, minutes: float | None = 15) -> None:
        if minutes is not None and minutes <= 0:
            raise MusictagError(f"callbacks.checkpoint.minutes={minutes} must be above 0, or null")
        self.path = run_dir / "last.ckpt"
        self.minutes = minutes
        self.signal_handler = signal_handler
        self.failed_in: str | None = None  # train, validate or test, after an exception; Lightning does not keep it
        self._saved_at = 0.0
        self._quiet = 0  # batches whose requests were sent before the last save

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._saved_at = time.monotonic()
        # Lightning has just installed a handler for SIGTERM, which would end the run without saving ...
        self.signal_handler.install()
        # ... and synchronizes with the device in every step to ask for it; here the answer comes with other values
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.signal_handler.install()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._saved_at = time.monotonic()
        if pl_module.stop_request.stop:  # agreed in the last batches; the checkpoint of the epoch is written
            self._stop()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        is_time = self.minutes is not None and time.monotonic() - self._saved_at >= 60 * self.minutes
        pl_module.stop_request.request(is_time and trainer.is_global_zero, self.signal_handler.signum is not None)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        stop = pl_module.stop_request.stop
        save = stop or (pl_module.stop_request.save and not self._quiet)
        self._quiet = max(self._quiet - 1, 0)
        is_step = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if not save or not is_step or trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            return
        trainer.save_checkpoint(self.path)
        self._saved_at, self._quiet = time.monotonic(), 2
        if stop:
            self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.failed_in = str(trainer.state.stage.value) if trainer.state.stage else None

    def _stop(self) -> None:
        # a process without a signal is stopped by one that received it
        raise Stopped(self.signal_handler.signum or signal.SIGTERM)


class BestTagger(Callback):
    """Writes the tagger of the best epoch so far, by ``rule``, with the validation scores of that epoch.

    ``history`` has counted the epoch before. It is in the checkpoint, and a resumed run needs nothing else.
    """

    def __init__(self, path: Path, rule: Rule, history: History) -> None:
        self.path = path
        self.rule = rule
        self.history = history

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.rule.choose(self.history.rows) != trainer.current_epoch:
            return
        pl_module.check_weights()
        if trainer.is_global_zero:
            self.path.parent.mkdir(exist_ok=True)
            with averaged(trainer, pl_module.tagger):
                save_tagger(self.path, pl_module.tagger, trainer.current_epoch, trainer.callback_metrics)


def save_tagger(path: Path, network: TaggingNetwork, epoch: int | None, metrics: Mapping[str, Any]) -> None:
    """Write ``network`` as of ``epoch``, with the validation scores among ``metrics``."""
    validation = {name: float(value) for name, value in metrics.items() if name.startswith("val_")}
    validation = {name: value for name, value in validation.items() if math.isfinite(value)}
    write_tagger(path, network, epoch=epoch, validation=validation)


class EpochCheckpoint(Checkpoint):
    """Saves the last checkpoint after each epoch. Lightning calls a ``Checkpoint`` after all other callbacks."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.save_checkpoint(self.path)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically, also when the disk is full; loading one executes no code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        write_checkpoint(checkpoint, path)

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        return read_checkpoint(path)
