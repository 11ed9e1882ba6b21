"""Early stopping with an exact resume."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping

from musictag.common.errors import MusictagError
from musictag.evaluation.metrics import monitors
from musictag.training.best_epoch import check_smoothing
from musictag.training.module import check_computed, check_monitor


class ResumableEarlyStopping(EarlyStopping):
    """Early stopping that stays stopped: a run that is killed after its last epoch and resumed trains no further epoch.

    It counts epochs without a better ``monitor``, averaged over the last ``smoothing`` epochs (over all of them in the
    first ones). Values that are not finite end training elsewhere, with advice. Raises MusictagError for an unknown
    monitor, an impossible patience or smoothing, and in training for a monitor that the validation songs lack.
    """

    def __init__(self, monitor: str, patience: int = 15, min_delta: float = 0.0, smoothing: int = 1) -> None:
        check_monitor(monitor)
        check_smoothing(smoothing)
        if patience < 1:
            instead = "to train all epochs use callbacks.early_stopping=null"
            raise MusictagError(f"callbacks.early_stopping.patience={patience} must be at least 1; {instead}")
        self.smoothing = smoothing
        self.recent: list[float] = []
        super().__init__(
            monitor, min_delta, patience, mode=monitors()[monitor], check_on_train_epoch_end=True, check_finite=False
        )

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"recent": self.recent}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.recent = list(state_dict.get("recent", ()))
        super().load_state_dict(state_dict)

    def _evaluate_stopping_criteria(self, current: torch.Tensor) -> tuple[bool, str | None]:
        self.recent = [*self.recent, float(current)][-self.smoothing :]
        return super()._evaluate_stopping_criteria(current.new_tensor(sum(self.recent) / len(self.recent)))

    def _validate_condition_metric(self, logs: dict[str, Any]) -> bool:
        check_computed("callbacks.early_stopping.monitor", self.monitor, logs)
        return True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True
