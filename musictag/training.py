"""Training a network with Lightning: loss, optimiser, schedule, song-level validation and test.

Legend: B patches, S songs, N samples, K tags. A batch is what ``musictag.data.datamodule.SongData`` hands out:
``audio`` int16 B×N, ``song`` int64 B (the song's row within its split) and, in training, ``target`` float32 B×K.
"""

from __future__ import annotations

import math
import time
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor

from musictag.data.sampling import noise_seed
from musictag.errors import MusictagError
from musictag.evaluation.registry import METRICS, monitors
from musictag.layers import full_precision
from musictag.metrics import song_metrics
from musictag.models.network import TaggingNetwork
from musictag.objective import Objective
from musictag.steps import Arriving, EpochLoss, Wishes

#: Of training; nothing else is offered, as weights in half precision would neither learn nor score as float32 ones do.
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
SCHEDULES = ("plateau", "one_cycle", "constant")


class TaggingModule(pl.LightningModule):
    """A ``TaggingNetwork`` in training.

    ``tagger`` is its specification (``TaggingNetwork.spec``: plain containers), so that every checkpoint is
    self-describing and loads with ``weights_only=True``. Optimiser: Adam, as in the paper. Learning-rate schedules, our
    own: ``plateau`` (reduce when ``monitor`` stalls), ``one_cycle`` (for a fixed small budget) and ``constant``.

    ``freeze="frontend"`` leaves the front-end as it is, for fine-tuning.

    Validation and test score whole songs, in float32 whatever the precision of training: the mean over a song's patches
    of the probabilities, collected by the SongAverage that the DataModule hands out. Logged each epoch: ``train_loss``,
    ``val_loss`` (the objective between song scores and targets) and ``val_<key>`` of each of the METRICS that the tags
    allow.

    Raises MusictagError for an unknown objective, schedule, monitor or part to freeze.
    """

    def __init__(
        self,
        tagger: dict[str, Any],
        *,
        objective: str = "bce",
        learning_rate: float = 0.001,
        weight_decay: float = 0.0,
        schedule: str = "plateau",
        plateau_patience: int = 5,
        plateau_factor: float = 0.2,
        monitor: str = "val_loss",
        seed: int = 0,
        compile: bool = False,
        freeze: str | None = None,
    ) -> None:
        super().__init__()
        if schedule not in SCHEDULES:
            raise MusictagError(f"trainer.schedule={schedule} does not exist; choose one of {', '.join(SCHEDULES)}")
        if monitor not in monitors():
            raise MusictagError(f"trainer.monitor={monitor} does not exist; choose one of {', '.join(monitors())}")
        if freeze not in (None, "frontend"):
            raise MusictagError(f"freeze={freeze} does not exist; allowed: frontend, null")
        self.save_hyperparameters()
        self.tagger = TaggingNetwork(**tagger)
        if freeze:
            self.tagger.frontend.requires_grad_(False)
        self.objective = Objective(objective)
        if compile:
            # in place, so that the names in the state dict stay those of the plain model
            self.tagger.compile()
        self.wishes = Wishes()
        self._epoch_loss = EpochLoss()
        self._unchecked: tuple[Arriving, Tensor] | None = None
        self.test_seconds = 0.0

    # training

    def on_train_start(self) -> None:
        self._freeze()

    def on_train_epoch_start(self) -> None:
        # not called for an epoch that is resumed in its middle
        self._epoch_loss = EpochLoss()
        self._freeze()

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        # Dropout draws from the global generator: seeded by batch, a resumed run draws what an uninterrupted one would.
        torch.manual_seed(noise_seed(self.hparams.seed, self.current_epoch, batch_idx, self.global_rank))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self._raise_if_not_finite()
        logits = self.tagger(to_waveform(batch["audio"]))
        loss = self.objective(logits, batch["target"])
        wishes = self.wishes.tensor(loss.device)
        if self.trainer.world_size > 1:
            # The mean over the known targets of all ranks, not the mean of the ranks' means. What any rank wishes goes
            # along, so that all of them save and stop after the same batch.
            known = (~batch["target"].isnan()).sum()
            totals = torch.cat([known[None], wishes])
            dist.all_reduce(totals)
            loss = loss * known * self.trainer.world_size / totals[0].clamp(min=1)
            wishes = totals[1:]
        self._epoch_loss.add(loss.detach(), len(batch["song"]))
        self._unchecked = Arriving(torch.cat([loss.detach()[None].float(), wishes.float()])), batch["song"]
        return loss

    def _raise_if_not_finite(self) -> None:
        # While training one batch late: by then the figures have long arrived from the device and reading them stalls
        # nothing. Before anything is made of the weights, a validation or a checkpoint, at once.
        if self._unchecked is None:
            return
        arriving, songs = self._unchecked
        self._unchecked = None
        loss, save, stop = arriving.get()
        self.wishes.granted(save > 0, stop > 0)
        if not math.isfinite(loss):
            ids = self.trainer.datamodule.song_ids("train")[songs.cpu().numpy()]
            raise MusictagError(
                f"the loss became {loss} in epoch {self.current_epoch}, in the batch with the songs "
                f"{', '.join(map(str, ids))}. Listen to these; if they are sound, lower trainer.learning_rate "
                f"(now {self.hparams.learning_rate}), lower trainer.gradient_clip, or use trainer.precision=32-true. "
                "The checkpoints before are kept."
            )

    def _freeze(self) -> None:
        if self.hparams.freeze:
            self.tagger.frontend.eval()  # its batch norms stay as they are, too

    def check_weights(self) -> None:
        """Raise MusictagError where loss or weights are no longer finite, so that such weights are never saved."""
        self._raise_if_not_finite()
        # a step can ruin the weights while the loss before it was still finite
        weights = [value for value in self.state_dict().values() if value.is_floating_point()]
        if not torch.stack([value.isfinite().all() for value in weights]).all():
            raise MusictagError(
                f"weights became infinite or NaN in epoch {self.current_epoch}, and are not saved. Lower "
                f"trainer.learning_rate (now {self.hparams.learning_rate}), lower trainer.gradient_clip, or use "
                "trainer.precision=32-true. The checkpoints before are kept."
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.check_weights()
        checkpoint["epoch_loss"] = self._epoch_loss.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._epoch_loss.restore(checkpoint.get("epoch_loss"))

    def on_train_epoch_end(self) -> None:
        if self.hparams.schedule == "plateau":
            # Here and not by Lightning, which steps after the checkpoint is written: a resumed run would miss a step.
            self.lr_schedulers().step(self.trainer.callback_metrics[self._monitor()])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(
            [p for p in self.tagger.parameters() if p.requires_grad],
            lr=self.hparams.learning_rate,
            weight_decay=self.hparams.weight_decay,
        )
        if self.hparams.schedule == "constant":
            return optimizer
        if self.hparams.schedule == "one_cycle":
            scheduler = torch.optim.lr_scheduler.OneCycleLR(
                optimizer,
                max_lr=self.hparams.learning_rate,
                total_steps=max(int(self.trainer.estimated_stepping_batches), 1),
            )
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer,
            mode=monitors()[self.hparams.monitor],
            factor=self.hparams.plateau_factor,
            patience=self.hparams.plateau_patience,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": self._monitor()}}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        if self.hparams.schedule == "one_cycle":
            scheduler.step()

    # evaluation

    def on_validation_epoch_start(self) -> None:
        self._raise_if_not_finite()
        self._start_evaluation("validation")

    def on_test_epoch_start(self) -> None:
        self._start_evaluation("test")
        self._test_began = time.perf_counter()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self._evaluate(batch)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self._evaluate(batch)

    def _start_evaluation(self, split: str) -> None:
        # Apple's GPUs have no float64: there the sums stay with the processor
        device = "cpu" if self.device.type == "mps" else self.device
        self.song_average = self.trainer.datamodule.song_average(split).to(device)
        if self.trainer.world_size > 1:
            # Ranks have different numbers of evaluation batches, so nothing may be exchanged within them: the running
            # statistics of batch norm are made equal once, here (see experiment.py: broadcast_buffers=False).
            for buffer in self.tagger.buffers():
                dist.broadcast(buffer, 0)

    def _evaluate(self, batch: dict[str, Tensor]) -> None:
        waveform = to_waveform(batch["audio"])
        # As the tagger will be used. bfloat16 moves scores by hundredths and gives many songs the same one.
        with full_precision(waveform):
            scores = self.tagger.probabilities(self.tagger(waveform))
        self.song_average.update(batch["song"], scores)

    def on_validation_epoch_end(self) -> None:
        scores = self.song_average.compute().float().cpu()
        targets = torch.from_numpy(self.trainer.datamodule.targets("validation"))
        metrics = song_metrics(
            scores.numpy(), targets.numpy(), self.tagger.tag_names, self.tagger.tag_kinds, resamples=0
        )
        values = {
            "train_loss": self._epoch_loss.mean(),
            "val_loss": float(self.objective.of_probabilities(scores, targets)),
        }
        values |= {f"val_{key}": metrics[key]["value"] for key in METRICS if metrics[key] is not None}
        if self._monitor() not in values:
            raise MusictagError(
                f"trainer.monitor={self._monitor()} cannot be computed on this validation set; "
                f"possible here: {', '.join(name for name in values if name in monitors())}"
            )
        # every rank has the same values: SongAverage has already been reduced
        for name, value in values.items():
            metric = METRICS.get(name.removeprefix("val_"))
            self.log(name, value, prog_bar=metric is None or metric.headline, sync_dist=False)

    def on_test_epoch_end(self) -> None:
        self.test_scores = self.song_average.compute().float().cpu().numpy()
        self.test_seconds = time.perf_counter() - self._test_began

    def _monitor(self) -> str:
        return self.hparams.monitor


def to_waveform(audio: Tensor) -> Tensor:
    """int16 B×N, as stored, to float32 in [-1, 1), on the device it lies on."""
    return audio.to(torch.float32) / 32768.0
