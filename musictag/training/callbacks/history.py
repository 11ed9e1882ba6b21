"""history.csv: one row per epoch."""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from musictag.common.files import atomic_write
from musictag.evaluation.metrics import headlines, monitors


class History(Callback):
    """One row per epoch, in ``history.csv`` and in the checkpoint, so that a resumed run has complete curves.

    ``seconds`` and ``patches`` count training without validation, by the clock of this rank and over all ranks.
    ``learning_rate`` is that of the last step of the epoch.
    """

    def __init__(self, path: Path, announce: bool) -> None:
        self.path = path
        self.announce = announce  # one line per epoch where no progress bar can be shown
        self.rows: list[dict[str, float | int | None]] = []
        self._patches = 0
        self._learning_rate: float | None = None
        self._seconds = 0.0  # seconds of this epoch before _began
        self._began = 0.0

    def state_dict(self) -> dict[str, Any]:
        so_far = {"patches": self._patches, "seconds": self._seconds + time.perf_counter() - self._began}
        return {"rows": self.rows, "epoch": so_far}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])
        so_far = state_dict.get("epoch", {"patches": 0, "seconds": 0.0})
        self._patches, self._seconds = so_far["patches"], so_far["seconds"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began = time.perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # not called for an epoch that is resumed within
        self._began = time.perf_counter()
        self._seconds = 0.0
        self._patches = 0

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        # now: later a schedule that steps per batch has set the next learning rate, meaningless after the last step
        self._learning_rate = optimizer.param_groups[0]["lr"]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._patches += len(batch["song"]) * trainer.world_size

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        self._seconds += now - self._began
        self._began = now

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        row = {
            "epoch": trainer.current_epoch,
            **{name: metrics.get(name) for name in ("train_loss", *monitors())},
            "learning_rate": self._learning_rate,
            "patches": self._patches,
            "seconds": round(self._seconds, 3),
        }
        # after a kill the same epoch may be trained again
        self.rows = [old for old in self.rows if old["epoch"] < row["epoch"]] + [row]
        if not trainer.is_global_zero:
            return
        write_history(self.path, self.rows)
        speed = {"patches_per_second": row["patches"] / max(row["seconds"], 1e-9)}
        shown = {"epoch": row["epoch"], "learning_rate": row["learning_rate"], **speed}
        for logger in trainer.loggers:
            logger.log_metrics(shown, step=trainer.global_step)
        if self.announce:
            names = ("train_loss", "val_loss", *(f"val_{metric.key}" for metric in headlines()), "learning_rate")
            shown = [f"{name} {row[name]:.4g}" for name in names if row[name] is not None]
            number = f"{row['epoch'] + 1:3} of {trainer.max_epochs}"
            print(f"epoch {number}  {'  '.join(shown)}  ({row['seconds']:.1f} s)", flush=True)


def write_history(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write one row per epoch; a run that was resumed with more metrics than before has empty cells."""
    with atomic_write(path, "w") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
