"""Early stopping with an exact resume."""

from __future__ import annotations

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping

from musictag.evaluation.metrics import monitors
from musictag.training.module import check_monitor


class ResumableEarlyStopping(EarlyStopping):
    """Early stopping that stays stopped: a run that is killed after its last epoch and resumed trains no further epoch.

    It counts epochs without a better ``monitor``. Values that are not finite end training elsewhere, with advice.
    Raises MusictagError for an unknown monitor.
    """

    def __init__(self, monitor: str, patience: int = 15, min_delta: float = 0.0) -> None:
        check_monitor(monitor)
        super().__init__(
            monitor, min_delta, patience, mode=monitors()[monitor], check_on_train_epoch_end=True, check_finite=False
        )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True
