from __future__ import annotations

from typing import Any

import pytorch_lightning as pl


class CountPatches(pl.Callback):
    """Logs how many patches were trained on; what an interrupted run had counted comes back with it."""

    def __init__(self) -> None:
        self.patches = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        self.patches += len(batch["song"])
        module.log("patches_in_all", float(self.patches), on_step=False, on_epoch=True, reduce_fx="max")

    def state_dict(self) -> dict[str, Any]:
        return {"patches": self.patches}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.patches = state["patches"]
