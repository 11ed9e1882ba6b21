"""A network in training with Lightning: steps, song-level validation and test.

Legend: B patches, S songs, N samples, K tags. A batch of ``musictag.data.loading.datamodule.SongDataModule`` has
``audio`` int16 B×N, ``song`` int64 B (the song's row within its split) and, in training, ``target`` float32 B×K.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor, nn

from musictag.common.errors import MusictagError
from musictag.data.random_draws import noise_seed
from musictag.evaluation.metrics import METRICS, monitors
from musictag.evaluation.song_average import SongAverage
from musictag.evaluation.song_metrics import song_metrics
from musictag.models.frozen import only_head_learns
from musictag.models.layers import full_precision
from musictag.models.network import TaggingNetwork
from musictag.training.distillation import Distillation
from musictag.training.distributed.step_exchange import AsyncScalars, EpochLoss, StopRequest
from musictag.training.finetune import NO_FINETUNING, FineTuning
from musictag.training.instantiate import refusals
from musictag.training.losses import Loss
from musictag.training.optimizers import make_optimizer
from musictag.training.schedulers import make_scheduler, step_epoch


class TaggingModule(pl.LightningModule):
    """A ``TaggingNetwork`` in training.

    ``tagger`` is its specification (``TaggingNetwork.spec``: plain containers), so that every checkpoint is
    self-describing and loads with ``weights_only=True``. ``optimizer`` is called with the trained parameters,
    ``scheduler`` (None: a constant learning rate) by ``musictag.training.schedulers.make_scheduler``.

    ``freeze="frontend"`` keeps the weights and batch norms of the front-end. ``finetune``: settings of FineTuning.
    ``distill`` makes the Distillation for the network, whose loss is added to that of the labels.

    Validation and test score whole songs, in float32 for any precision of training: the mean of the probabilities over
    the patches of a song, by SongAverage. Logged per epoch: ``train_loss``, ``val_loss`` (the loss between song scores
    and targets) and ``val_<key>`` of the METRICS that the tags allow.

    Raises MusictagError for an unknown monitor or part to freeze.
    """

    def __init__(
        self,
        tagger: dict[str, Any],
        *,
        loss: Loss,
        optimizer: Callable[..., torch.optim.Optimizer],
        scheduler: Callable[..., Any] | None = None,
        monitor: str = "val_loss",
        seed: int = 0,
        compile: bool = False,
        freeze: str | None = None,
        distill: Callable[[TaggingNetwork], Distillation] | None = None,
        finetune: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_monitor(monitor)
        if freeze not in (None, "frontend"):
            raise MusictagError(f"freeze={freeze} does not exist; allowed: frontend, null")
        # the other arguments are objects, which do not belong in checkpoints; loggers get the whole configuration
        self.save_hyperparameters("tagger", "monitor", "seed", "freeze", logger=False)
        self.tagger = TaggingNetwork(**tagger)
        if freeze:
            self.tagger.frontend.requires_grad_(False)
        self._finetuning = FineTuning(self.tagger.frontend, **(finetune or NO_FINETUNING))
        self.distillation = None if distill is None else distill(self.tagger)
        self.loss = loss
        self._make_optimizer, self._make_scheduler = optimizer, scheduler
        self._compiled = compile
        if compile:
            # in place, so that the names in the state dict stay those of the plain model
            self.tagger.compile()
        #: of the training, where the run has chosen it by itself: a resumed one keeps it
        self.precision: str | None = None
        self.stop_request = StopRequest()
        self._epoch_loss = EpochLoss()
        self._unchecked: tuple[AsyncScalars, Tensor] | None = None
        self.test_seconds = 0.0

    # training

    def on_train_start(self) -> None:
        self._freeze()
        if self.distillation is not None:
            self.distillation.teacher.to(self.device)

    def on_train_epoch_start(self) -> None:
        # not called for an epoch that is resumed within
        self._epoch_loss = EpochLoss()
        self._freeze()

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        # Dropout draws from the global generator: seeded per batch, a resumed run draws like an uninterrupted one.
        torch.manual_seed(noise_seed(self.hparams.seed, self.current_epoch, batch_idx, self.global_rank))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self._raise_if_not_finite()
        if "features" in batch:  # of what is frozen
            logits, taught = self.tagger.head(batch["features"].float()), None
        elif self.distillation is None:
            logits, taught = self.tagger(to_waveform(batch["audio"])), None
        else:
            logits, taught = self.distillation(self.tagger, to_waveform(batch["audio"]), batch.get("taught"))
        loss = self.loss(logits, batch["target"])
        requests = self.stop_request.tensor(loss.device)
        if self.trainer.world_size > 1:
            # The mean over the known targets of all ranks, not the mean of the ranks' means. The same all-reduce
            # carries the requests of every rank, so that all of them save and stop after the same batch.
            known = (~batch["target"].isnan()).sum()
            totals = torch.cat([known[None], requests])
            dist.all_reduce(totals)
            loss = loss * known * self.trainer.world_size / totals[0].clamp(min=1)
            requests = totals[1:]
        if taught is not None:  # already a mean over as many patches on every rank
            loss = loss + taught
        self._epoch_loss.add(loss.detach(), len(batch["song"]))
        self._unchecked = AsyncScalars(torch.cat([loss.detach()[None].float(), requests.float()])), batch["song"]
        return loss

    def _raise_if_not_finite(self) -> None:
        # During training one batch late: by then the values have been copied from the device, and reading them does not
        # wait. Before the weights are used, for validation or a checkpoint, immediately.
        if self._unchecked is None:
            return
        arriving, songs = self._unchecked
        self._unchecked = None
        loss, save, stop = arriving.get()
        self.stop_request.agree(save > 0, stop > 0)
        if not math.isfinite(loss):
            ids = self.trainer.datamodule.song_ids("trained")[songs.cpu().numpy()]
            raise MusictagError(
                f"the loss became {loss} in epoch {self.current_epoch}, in the batch with the songs "
                f"{', '.join(map(str, ids))}. Check their audio; if it is sound, {self._remedies()}"
            )

    @staticmethod
    def _remedies() -> str:
        return (
            "lower optimizer.lr, lower trainer.gradient_clip_val, or use trainer.precision=32-true. Earlier "
            "checkpoints are kept."
        )

    def trains_on_one_patch(self) -> bool:
        """Whether no batch norm refuses a batch of a single patch, as those of vectors do."""
        network = copy.deepcopy(self.tagger).to("meta").train()  # where nothing is computed
        if self.hparams.freeze:
            network.frontend.eval()
        try:
            network(torch.zeros(1, network.input_samples, device="meta"))
        except (ValueError, NotImplementedError, RuntimeError) as error:  # the others: of a part that looks at values
            return not isinstance(error, ValueError)
        return True

    def only_head_learns(self) -> bool:
        """Whether everything before the head of the network is frozen, and the same in every step of training."""
        self.tagger.train()
        self._freeze()
        return only_head_learns(self.tagger)

    def _freeze(self) -> None:
        if self.hparams.freeze:
            self.tagger.frontend.eval()  # keeps the running statistics of its batch norms, too
        else:
            self._finetuning.begin_epoch(self.current_epoch)

    def check_weights(self) -> None:
        """Raise MusictagError if loss or weights are not finite, so that such weights are never saved."""
        self._raise_if_not_finite()
        # a step can make the weights infinite or NaN although the loss before it was finite
        weights = [value for value in self.state_dict().values() if value.is_floating_point()]
        if not torch.stack([value.isfinite().all() for value in weights]).all():
            raise MusictagError(
                f"weights became infinite or NaN in epoch {self.current_epoch}, and are not saved: {self._remedies()}"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.check_weights()
        checkpoint["epoch_loss"] = self._epoch_loss.state()
        checkpoint["precision"] = self.precision

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._epoch_loss.restore(checkpoint.get("epoch_loss"))

    def on_train_epoch_end(self) -> None:
        # Here and not by Lightning, which steps after saving the checkpoint: a resumed run would miss a step.
        for config in self.trainer.lr_scheduler_configs:
            if config.interval == "epoch":
                step_epoch(config.scheduler, self.trainer.callback_metrics[self.hparams.monitor])

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        if self.trainer.lr_scheduler_configs[0].interval == "step":
            scheduler.step()

    def make_optimizer(self) -> torch.optim.Optimizer:
        """A new optimizer of what is trained; raises MusictagError for settings that it refuses."""
        trained = nn.ModuleList(part for part in (self.tagger, self.distillation) if part is not None)
        with refusals("optimizer"):
            return make_optimizer(self._make_optimizer, self._finetuning.groups(trained, self._make_optimizer))

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer()
        if self._make_scheduler is None:
            return optimizer
        steps, mode = int(self.trainer.estimated_stepping_batches), monitors()[self.hparams.monitor]
        with refusals("scheduler"):
            scheduler = make_scheduler(self._make_scheduler, optimizer, steps, mode)
        return {"optimizer": optimizer, "lr_scheduler": scheduler | {"monitor": self.hparams.monitor}}

    # evaluation

    def on_validation_epoch_start(self) -> None:
        self._raise_if_not_finite()
        self._start_evaluation("validation")

    def on_test_epoch_start(self) -> None:
        self._start_evaluation(self.trainer.datamodule.tested)
        self._test_began = time.perf_counter()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self._evaluate(batch)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self._evaluate(batch)

    def _start_evaluation(self, split: str) -> None:
        # GPUs of Apple have no float64: there the sums stay on the CPU
        device = "cpu" if self.device.type == "mps" else self.device
        data = self.trainer.datamodule
        self.song_average = SongAverage(len(data.song_ids(split)), len(data.tags)).to(device)
        if self.trainer.world_size > 1:
            # Ranks have different numbers of evaluation batches, so nothing may be exchanged meanwhile: the running
            # statistics of batch norm are synchronized once, here (see conf/trainer/ddp.yaml: broadcast_buffers=False).
            for buffer in self.tagger.buffers():
                dist.broadcast(buffer, 0)
        if data.features is not None:
            network = self.tagger.head
        else:  # once per evaluation, as it holds copies of the weights; a compiled network is used as it is
            network = self.tagger if self._compiled else self.tagger.inference_form()
        self._score = lambda inputs: self.tagger.probabilities(network(inputs))

    def _evaluate(self, batch: dict[str, Tensor]) -> None:
        inputs = batch["features"].float() if "features" in batch else to_waveform(batch["audio"])
        # float32, as in inference: bfloat16 changes scores by hundredths and makes many of them equal.
        with full_precision(inputs):
            scores = self._score(inputs)
        self.song_average.update(batch["song"], scores)

    def on_validation_epoch_end(self) -> None:
        del self._score
        scores = self.song_average.compute().float().cpu()
        targets = torch.from_numpy(self.trainer.datamodule.targets("validation"))
        metrics = song_metrics(
            scores.numpy(), targets.numpy(), self.tagger.tag_names, self.tagger.tag_kinds, resamples=0
        )
        values = {
            "train_loss": self._epoch_loss.mean(),
            "val_loss": float(self.loss.of_probabilities(scores, targets)),
        }
        values |= {f"val_{key}": metrics[key]["value"] for key in METRICS if metrics[key] is not None}
        check_computed("monitor", self.hparams.monitor, values)
        # every rank has the same values: SongAverage has already been reduced
        for name, value in values.items():
            metric = METRICS.get(name.removeprefix("val_"))
            self.log(name, value, prog_bar=metric is None or metric.headline, sync_dist=False)

    def on_test_epoch_end(self) -> None:
        del self._score
        self.test_scores = self.song_average.compute().float().cpu().numpy()
        self.test_seconds = time.perf_counter() - self._test_began


def check_monitor(monitor: str) -> None:
    """Raise MusictagError for an unknown monitor."""
    if monitor not in monitors():
        raise MusictagError(f"monitor={monitor} does not exist; choose one of {', '.join(monitors())}")


def check_computed(key: str, monitor: str, values: Collection[str]) -> None:
    """Raise MusictagError unless ``monitor``, the setting ``key``, is among the ``values`` of a validation."""
    if monitor not in values:
        raise MusictagError(
            f"{key}={monitor} cannot be computed on this validation set; "
            f"possible here: {', '.join(name for name in values if name in monitors())}"
        )


def to_waveform(audio: Tensor) -> Tensor:
    """int16 B×N, as stored, to float32 in [-1, 1), on the same device; float32 stays as it is."""
    if audio.is_floating_point():
        return audio
    return audio.to(torch.float32) / 32768.0
