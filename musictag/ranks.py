"""Which of several processes speaks and writes, before and after there is a Trainer to ask."""

from __future__ import annotations

import os

# where Lightning keeps the rank; Lightning itself takes seconds to load, which whoever only reads a table is spared
from lightning_utilities.core.rank_zero import rank_zero_only

#: Where launchers tell the rank, in the order in which Lightning asks.
_VARIABLES = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


def is_rank_zero() -> bool:
    """Whether this process is the first of all, by what its launcher (Lightning, torchrun, Slurm) says of it."""
    told = next((os.environ[name] for name in _VARIABLES if name in os.environ), 0)
    return int(getattr(rank_zero_only, "rank", told)) == 0


def rank_zero_say(message: str) -> None:
    """Print on the first process alone."""
    if is_rank_zero():
        print(message, flush=True)
