"""Readable explanations of failures for which the error of a library is not enough."""

from __future__ import annotations

import traceback
from typing import Any

import pytorch_lightning as pl
import torch

from musictag.common.errors import MusictagError
from musictag.training.callbacks.checkpoints import StepCheckpoint
from musictag.training.distributed.launcher import dead_process

_DYING_SECONDS = 5.0


def explain_failure(error: BaseException, trainer: pl.Trainer, config: dict[str, Any]) -> BaseException:
    """The MusictagError that says what ``error`` means for this run, or ``error`` itself if there is nothing to add."""
    if not isinstance(error, Exception) or isinstance(error, MusictagError):
        return error
    text = str(error)
    has_lost_others = isinstance(error, RuntimeError) and trainer.world_size > 1 and "onnection" in text
    # the connections of a process break shortly before it is reported as dead
    dead = dead_process(getattr(trainer.strategy.launcher, "children", []), _DYING_SECONDS * has_lost_others)
    if dead is not None:
        return MusictagError(f"{dead}, which ended the run; rerun the command to resume from the last checkpoint")
    if _is_out_of_memory(error):
        return MusictagError(_out_of_memory(error, trainer, config))
    if isinstance(error, RuntimeError) and "DataLoader worker" in text:
        batch, workers = config["data"]["batch_size"], config["data"]["num_workers"]
        return MusictagError(
            f"a DataLoader worker died: {_first_line(text)} Perhaps the machine ran out of memory: lower "
            f"data.batch_size={batch} or data.num_workers={workers}, and rerun the command to resume from "
            "the last checkpoint"
        )
    if has_lost_others:
        return MusictagError(
            f"rank {trainer.global_rank} of {trainer.world_size} processes lost the others ({_first_line(text)}): one "
            "of them has died, and its error message is elsewhere in this output. Rerun the command to resume from the "
            "last checkpoint"
        )
    return error


def format_error(error: Exception) -> str:
    """The content of error.txt: the message of a MusictagError, the whole traceback of any other error."""
    if isinstance(error, MusictagError):
        return str(error)
    return "".join(traceback.format_exception(error))


def _is_out_of_memory(error: Exception) -> bool:
    # the allocator for CPUs raises a plain RuntimeError
    phrases = ("can't allocate memory", "not enough memory", "out of memory", "Cannot allocate memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError | OSError) and any(phrase in str(error) for phrase in phrases)
    )


def _out_of_memory(error: Exception, trainer: pl.Trainer, config: dict[str, Any]) -> str:
    seconds = config["data"]["patch_seconds"]
    device = trainer.strategy.root_device
    stages = [callback.failed_in for callback in trainer.callbacks if isinstance(callback, StepCheckpoint)]
    if "train" in stages:
        batch = config["data"]["batch_size"]
        share = f", {batch // trainer.world_size} in each of {trainer.world_size} processes" * (trainer.world_size > 1)
        half, accumulate = max(batch // 2, 1), trainer.accumulate_grad_batches
        advice = (
            f"a step has data.batch_size={batch} patches of {seconds} s{share}; use data.batch_size={half} "
            f"trainer.accumulate_grad_batches={2 * accumulate}, which makes the same steps with about half the memory"
        )
    else:
        batch = config["evaluation"]["batch_size"]
        advice = (
            f"evaluation.batch_size={batch} patches of {seconds} s are scored together; "
            f"use evaluation.batch_size={max(batch // 2, 1)}, which does not change the scores"
        )
        if config["evaluation"]["mode"] == "whole":
            advice += "; with evaluation.mode=whole the longest song decides, and even one song may be too long"
    return f"out of memory on {device} ({_first_line(str(error)) or type(error).__name__}): {advice}"


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:300]
