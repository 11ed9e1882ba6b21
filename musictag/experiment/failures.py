"""Readable explanations of failures for which the error of a library is not enough."""

from __future__ import annotations

import math
import os
import traceback
from typing import Any

import pytorch_lightning as pl
import torch

from musictag.common.errors import MusictagError
from musictag.common.text import readable_size
from musictag.models.summary import training_bytes
from musictag.training.callbacks.checkpoints import StepCheckpoint
from musictag.training.distributed.launcher import dead_process

_DYING_SECONDS = 5.0
_USABLE = 0.8  # of a device's memory: weights, gradients and other programs need the rest


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
        per_patch, memory = training_bytes(trainer.lightning_module.tagger), _memory(device)
        known = per_patch is not None and memory is not None
        parts = _parts(batch, batch // trainer.world_size * per_patch / memory) if known else 2
        room = f", each of which takes about {readable_size(per_patch)} of {readable_size(memory)}" if known else ""
        advice = (
            f"a step has data.batch_size={batch} patches of {seconds} s{share}{room}; "
            f"use data.batch_size={max(batch // parts, 1)} "
            f"trainer.accumulate_grad_batches={parts * trainer.accumulate_grad_batches}, which makes nearly the same "
            "steps"
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


def _memory(device: torch.device) -> int | None:
    """Bytes of memory that ``device`` has in all; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    names = ("SC_PAGE_SIZE", "SC_PHYS_PAGES")
    known = device.type == "cpu" and set(names) <= set(getattr(os, "sysconf_names", ()))
    return math.prod(map(os.sysconf, names)) if known else None


def _parts(batch: int, needed: float) -> int:
    """In how many parts of equal size a batch fits that needs ``needed`` times the memory: at least two."""
    parts = 2
    while batch % (2 * parts) == 0 and needed / parts > _USABLE:
        parts *= 2
    return parts


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:300]
