"""A whole run against a loop written by hand: the same batches, and every step as the textbook has it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musictag.data.loading.datamodule import SongDataModule
from musictag.data.random_draws import noise_seed
from musictag.evaluation.song_metrics import song_metrics
from musictag.experiment import run as experiment
from musictag.experiment.builders import build_data, build_module
from musictag.models.checkpoint import read_checkpoint
from musictag.training.module import TaggingModule
from tests.helpers.experiments import TINY, compose_config, folders

EPOCHS, BATCHES, LEARNING_RATE = 2, 4, 0.001
#: 12 songs in 4 batches of 3 patches, two epochs; the seed is none of the defaults.
SETTINGS = (
    "seed=3", "data.batch_size=3", f"optimizer.lr={LEARNING_RATE}", "scheduler=constant",
    "trainer.gradient_clip_val=null",
)  # fmt: skip
FIRST_DECAY, SECOND_DECAY, EPSILON = 0.9, 0.999, 1e-8  # Adam's, as Kingma & Ba 2015 suggest


@pytest.fixture
def settings(tiny_catalogue: Path, tmp_path: Path) -> list[str]:
    return ["data=catalogue", f"data.path={tiny_catalogue}", *TINY, *SETTINGS, *folders(tmp_path)]


class Loop:
    """Trains the module that a run of this configuration begins with."""

    def __init__(self, config: dict[str, Any], rank: int = 0) -> None:
        pl.seed_everything(config["seed"], verbose=False)
        source = experiment.build_source(config)
        self.data: SongDataModule = build_data(config, source)
        self.module: TaggingModule = build_module(config, source, self.data, source.learnable_manifest().tags)
        self.data.prepare_data()
        self.data.setup()
        self.module.tagger.fit_normalisation(self.data.normalisation_waveforms())
        self.before = copy.deepcopy(self.module.state_dict())
        self.seed, self.rank = config["seed"], rank
        self.losses: list[list[float]] = []
        self.moments: dict[str, tuple[Tensor, Tensor]] = {}
        self.steps = 0

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.module.named_parameters() if p.requires_grad}

    def gradients(self, loss_of: Callable[[Tensor, Tensor], Tensor]) -> Iterator[dict[str, Tensor]]:
        """Those of every batch, by the name of the weights."""
        for epoch in range(EPOCHS):
            self.data.epoch = epoch
            self.losses.append([])
            for number, batch in enumerate(self.data.train_dataloader()):
                self.module.train()
                torch.manual_seed(noise_seed(self.seed, epoch, number, self.rank))
                logits = self.module.tagger(batch["audio"].double().div(2**15).float())
                loss = loss_of(logits, batch["target"])
                self.losses[-1].append(float(loss.detach()))
                yield dict(zip(self.trained, torch.autograd.grad(loss, self.trained.values()), strict=True))

    @torch.no_grad()
    def adam(
        self, gradients: dict[str, Tensor], learning_rate: float = LEARNING_RATE, decay: float = 0.0,
        first_decay: float = FIRST_DECAY,
    ) -> None:  # fmt: skip
        """A step of Adam with the weights' squares in the loss (Kingma & Ba 2015, algorithm 1)."""
        self.steps += 1
        for name, weights in self.trained.items():
            gradient = gradients[name] + decay * weights
            first, second = self.moments.get(name, (torch.zeros_like(weights), torch.zeros_like(weights)))
            first = first_decay * first + (1 - first_decay) * gradient
            second = SECOND_DECAY * second + (1 - SECOND_DECAY) * gradient**2
            self.moments[name] = first, second
            mean, square = first / (1 - first_decay**self.steps), second / (1 - SECOND_DECAY**self.steps)
            weights -= learning_rate * mean / (square.sqrt() + EPSILON)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over the known targets."""
    known = ~targets.isnan()
    shown, wanted = logits[known], targets[known]
    return -(wanted * F.logsigmoid(shown) + (1 - wanted) * F.logsigmoid(-shown)).mean()


def squared_error(logits: Tensor, targets: Tensor) -> Tensor:
    known = ~targets.isnan()
    return (logits[known].sigmoid() - targets[known]).square().mean()


def norm(gradients: dict[str, Tensor]) -> Tensor:
    return torch.sqrt(sum(gradient.square().sum() for gradient in gradients.values()))


def assert_the_same(config: dict[str, Any], loop: Loop) -> None:
    """Runs the experiment, whose last weights and losses must be those of the loop."""
    metrics = experiment.run(config)
    state = read_checkpoint(experiment.results_folder(config) / "last.ckpt")["state_dict"]
    assert metrics["validation"]["train_loss"] == pytest.approx(np.mean(loop.losses[metrics["best_epoch"]]), rel=1e-4)
    assert [len(losses) for losses in loop.losses] == [BATCHES] * EPOCHS
    # together, and without those whose gradient is next to nothing: there Adam steps by its sign, which is rounding's
    clear = {name: loop.moments[name][1].sqrt() > 1e-6 if loop.moments else True for name in loop.trained}
    off = norm({name: (state[name] - weights) * clear[name] for name, weights in loop.trained.items()})
    way = norm({name: loop.before[name] - weights for name, weights in loop.trained.items()})
    assert off < 0.01 * way


@pytest.mark.parametrize(("objective", "rank"), [("bce", 0), ("bce", 1), ("mse", 0)])
def test_every_weight_is_that_of_adam_written_by_hand(
    settings: list[str], monkeypatch: pytest.MonkeyPatch, objective: str, rank: int
) -> None:
    """What dropout leaves out depends on the number of the process as well."""
    monkeypatch.setattr(TaggingModule, "global_rank", rank)
    config = compose_config(*settings, f"loss={objective}")
    loop = Loop(config, rank)
    for gradients in loop.gradients(cross_entropy if objective == "bce" else squared_error):
        loop.adam(gradients)
    assert_the_same(config, loop)


def test_weight_decay_pulls_every_weight_as_adam_s_does(settings: list[str]) -> None:
    config = compose_config(*settings, "optimizer.weight_decay=0.3")
    loop = Loop(config)
    for gradients in loop.gradients(cross_entropy):
        loop.adam(gradients, decay=0.3)
    assert_the_same(config, loop)


def test_gradients_are_clipped_to_the_norm_of_all_of_them_together(settings: list[str]) -> None:
    config = compose_config(*settings, "trainer.gradient_clip_val=0.05")
    loop = Loop(config)
    for gradients in loop.gradients(cross_entropy):
        length = float(norm(gradients))
        assert length > 0.05  # every step is bounded
        loop.adam({name: gradient * 0.05 / length for name, gradient in gradients.items()})
    assert_the_same(config, loop)
    # what Adam remembers of the gradients is bounded by it, too
    (optimizer,) = read_checkpoint(experiment.results_folder(config) / "last.ckpt")["optimizer_states"]
    remembered = torch.cat([state["exp_avg"].flatten() for state in optimizer["state"].values()])
    assert float(remembered.norm()) < 0.05


def test_accumulated_batches_count_as_one(settings: list[str]) -> None:
    config = compose_config(*settings, "trainer.accumulate_grad_batches=2")
    loop = Loop(config)
    first = None
    for gradients in loop.gradients(cross_entropy):
        if first is None:
            first = gradients
        else:
            loop.adam({name: (first[name] + gradient) / 2 for name, gradient in gradients.items()})
            first = None
    assert_the_same(config, loop)


def test_one_cycle_goes_up_and_down_within_the_run(settings: list[str]) -> None:
    """Smith & Topin 2018, along cosines: from a 25th up for 30% of the steps, then down to a 10,000th of that; what
    Adam remembers of the gradients goes from 0.95 down to 0.85 and back."""
    config = compose_config(*settings, "scheduler=one_cycle")
    loop = Loop(config)
    lowest, summit, last = LEARNING_RATE / 25, 0.3 * EPOCHS * BATCHES - 1, EPOCHS * BATCHES - 1
    for step, gradients in enumerate(loop.gradients(cross_entropy)):
        if step <= summit:
            rates, decays, part = (lowest, LEARNING_RATE), (0.95, 0.85), step / summit
        else:
            rates, decays, part = (LEARNING_RATE, lowest / 1e4), (0.85, 0.95), (step - summit) / (last - summit)
        way = (1 - np.cos(np.pi * part)) / 2
        rate, decay = (start + (end - start) * way for start, end in (rates, decays))
        loop.adam(gradients, rate, first_decay=decay)
    assert_the_same(config, loop)


@pytest.mark.parametrize(
    "other",
    [
        "trainer.gradient_clip_val=0.1",
        "optimizer.weight_decay=0.1",
        "trainer.accumulate_grad_batches=2",
        "optimizer.lr=0.1",
        "scheduler=plateau",
        "optimizer=adamw",
        "+trainer.limit_train_batches=0.5",
        "+callbacks.mine._target_=pytorch_lightning.callbacks.StochasticWeightAveraging",
    ],
)
def test_what_a_step_depends_on_makes_another_run(settings: list[str], other: str) -> None:
    plain, other = (compose_config(*settings, *more) for more in ([], [other]))
    assert experiment.results_folder(other) != experiment.results_folder(plain)


def test_the_intervals_of_a_run_are_drawn_with_its_seed(settings: list[str]) -> None:
    config = compose_config(*settings, "trainer.max_epochs=1")
    metrics = experiment.run(config)["test"]
    found = np.load(experiment.results_folder(config) / "predictions.npz")
    own, other = (
        song_metrics(*(found[name] for name in ("scores", "targets", "tags", "kinds")), resamples=20, seed=seed)
        for seed in (3, 0)
    )
    assert [metrics[name] for name in ("roc_auc", "pr_auc", "rmse")] == [own["roc_auc"], own["pr_auc"], own["rmse"]]
    assert own["rmse"] != other["rmse"]
