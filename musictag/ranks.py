"""Which of several processes speaks and writes, before and after there is a Trainer to ask."""

from __future__ import annotations

from pytorch_lightning.utilities import rank_zero_only


def is_rank_zero() -> bool:
    """Whether this process is the first of all, by what its launcher (Lightning, torchrun, Slurm) says of it."""
    return getattr(rank_zero_only, "rank", 0) == 0


def rank_zero_say(message: str) -> None:
    """Print on the first process alone."""
    if is_rank_zero():
        print(message, flush=True)
