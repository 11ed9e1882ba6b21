"""Fine-tuning of a front-end that was trained before: its last blocks, its own learning rate, one block at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from musictag.common.errors import MusictagError
from musictag.models.frontends import FrontEnd
from musictag.models.frontends.encoder import EncoderFrontEnd

#: All of the front-end, like the rest of the network.
NO_FINETUNING = {"blocks": None, "frontend_lr_factor": 1.0, "unfreeze_epochs": None}


class FineTuning:
    """What of ``frontend`` is trained, in each epoch.

    The last ``blocks`` (see ``FrontEnd.trainable_blocks``; None: everything), or with ``unfreeze_epochs`` none in the
    first so many epochs, then one more after as many again, up to those. What belongs to no block is trained only
    together with all of them, except the weights with which the front-end mixes layers. Depends on nothing but the
    epoch, so that a resumed run trains the same. Raises MusictagError for more blocks than there are.
    """

    def __init__(
        self, frontend: FrontEnd, blocks: int | None, frontend_lr_factor: float, unfreeze_epochs: int | None
    ) -> None:
        self._blocks = frontend.trainable_blocks()
        if blocks is not None and blocks > len(self._blocks):
            raise MusictagError(
                f"finetune.blocks={blocks}: {type(frontend).__name__} has {len(self._blocks)} that can be trained alone"
            )
        # an encoder, without what has been put around it
        self._pretrained = frontend.encoder if isinstance(frontend, EncoderFrontEnd) else frontend
        self._trainable = [p for p in self._pretrained.parameters() if p.requires_grad]
        self._factor, self._unfreeze_epochs = frontend_lr_factor, unfreeze_epochs
        self._limit = len(self._blocks) if blocks is None else blocks
        self._is_whole = self._limit == len(self._blocks) and unfreeze_epochs is None
        self._open(self._limit)

    def begin_epoch(self, epoch: int) -> None:
        """Choose what is trained in ``epoch``; the network is in training mode."""
        if not self._is_whole:
            later = self._limit if self._unfreeze_epochs is None else epoch // self._unfreeze_epochs
            self._open(min(self._limit, later), change_mode=True)

    def _open(self, number: int, change_mode: bool = False) -> None:
        everything = number == len(self._blocks)
        trained = [self._pretrained] if everything else self._blocks[len(self._blocks) - number :]
        chosen = {id(p) for module in trained for p in module.parameters()}
        for parameter in self._trainable:
            parameter.requires_grad_(id(parameter) in chosen)
        if change_mode:  # without dropout, and with the statistics of batch norms as they are
            self._pretrained.eval()
            for module in trained:
                module.train()

    def groups(self, network: nn.Module, make: Callable[..., Any]) -> list[Any]:
        """The trained parameters of ``network`` (and of what is trained beside it) for an optimizer of ``make``:
        a list, or if the front-end has its own learning rate two groups, that of the front-end last. Raises
        MusictagError if the optimizer has no learning rate."""
        trained = [p for p in network.parameters() if p.requires_grad]
        if self._factor == 1:
            return trained
        if "lr" not in getattr(make, "keywords", {}):
            raise MusictagError(f"finetune.frontend_lr_factor={self._factor} multiplies optimizer.lr, which is not set")
        of_frontend = {id(p) for p in self._pretrained.parameters()}
        groups = [{"params": []}, {"params": [], "lr": make.keywords["lr"] * self._factor}]
        for parameter in trained:
            groups[id(parameter) in of_frontend]["params"].append(parameter)
        return [group for group in groups if group["params"]]


def check_finetuning(config: Mapping[str, Any]) -> None:
    """Raise MusictagError for settings of ``finetune`` that are wrong for any front-end."""
    given = config["finetune"]
    for key, least in (("blocks", 0), ("unfreeze_epochs", 1)):
        value = given[key]
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
            raise MusictagError(f"finetune.{key}={value} must be a whole number from {least} on, or null")
    factor = given["frontend_lr_factor"]
    if not isinstance(factor, int | float) or not 0 < factor < torch.inf:
        raise MusictagError(f"finetune.frontend_lr_factor={factor} must be above 0; finetune.blocks=0 trains no block")
    if given == NO_FINETUNING:
        return
    if config["freeze"] is not None or "probe" in config:
        raise MusictagError("finetune.* says what of the front-end is trained, which freeze and probe keep; omit one")
    if given["unfreeze_epochs"] is not None and config["trainer"].get("strategy", "auto") != "auto":
        raise MusictagError(
            "finetune.unfreeze_epochs changes what is trained, which several processes have agreed upon at the start; "
            "use trainer=default, or finetune.blocks"
        )
