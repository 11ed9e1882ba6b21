"""Which flags of Lightning's Trainer a run may have: all but those that conflict with what a run guarantees."""

from __future__ import annotations

from typing import Any

import torch

from musictag.common.errors import MusictagError
from musictag.common.text import reason

#: Precisions of training. Others are refused: weights in half precision neither learn nor score like float32 weights.
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
#: The first two, whichever is faster: musictag.training.precision.
AUTO = "auto"
#: Flags of Lightning's Trainer that a run cannot have, and what to use instead.
_REFUSED_FLAGS = {
    "callbacks": "add yours to the group of callbacks: +callbacks.mine._target_=my_package.MyCallback",
    "logger": "choose a logger by name: logger=tensorboard",
    "plugins": "checkpoints are written by musictag",
    "default_root_dir": "the folder of a run follows from runs_dir and its configuration",
    "enable_checkpointing": "without checkpoints a run has no result",
    "use_distributed_sampler": "the data module already shards the songs, without padding",
    "num_sanity_val_steps": "training must begin without random draws or scores before it",
    "limit_val_batches": "all validation songs are scored; use a smaller data set instead",
    "limit_test_batches": "all test songs are scored; use a smaller data set instead",
    "check_val_every_n_epoch": "early stopping, the schedule and the best epoch need scores after every epoch",
    "val_check_interval": "early stopping, the schedule and the best epoch need scores at the end of every epoch",
    "max_steps": "training ends with a whole epoch; use trainer.max_epochs=3 +trainer.limit_train_batches=100",
    "max_time": "training ends with a whole epoch; use a smaller trainer.max_epochs",
    "overfit_batches": "for a few songs use data.train_songs=10",
    "fast_dev_run": "use trainer.max_epochs=1 +trainer.limit_train_batches=2",
    "barebones": "a run needs checkpoints and scores",
}


def check_compiler(device: torch.device) -> None:
    """Raise MusictagError unless torch.compile works here: on a CPU it needs a C++ compiler."""
    try:
        torch.compile(torch.nn.functional.gelu)(torch.zeros(2, device=device))
    except Exception as error:  # of several classes, private ones
        needed = "a C++ compiler, such as g++" if device.type == "cpu" else "Triton"
        raise MusictagError(f"compile=true needs {needed}; without one use compile=false ({reason(error)})") from error


def check_flags(settings: dict[str, Any]) -> None:
    """Raise MusictagError for settings of the Trainer that a run cannot have, with what to use instead."""
    for flag, instead in _REFUSED_FLAGS.items():
        # 1.0 is all of it, 1 a single batch
        is_all = flag.startswith("limit_") and repr(settings.get(flag)) in ("None", "1.0")
        if flag in settings and not is_all:
            raise MusictagError(f"trainer.{flag}={settings[flag]} is not possible here: {instead}")
    epochs = settings.get("max_epochs")
    if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 0:
        raise MusictagError(
            f"trainer.max_epochs={epochs} must be a whole number from 0 on; for no limit use a large one"
        )
    precision, strategy = settings.get("precision", "32-true"), settings.get("strategy", "auto")
    if precision not in (*PRECISIONS, AUTO):
        raise MusictagError(
            f"trainer.precision={precision} does not exist; choose one of {', '.join(PRECISIONS)}, {AUTO}"
        )
    if strategy == "auto":
        return
    if precision == AUTO:
        raise MusictagError(
            "trainer.precision=auto measures in a single process, and several could decide differently; use "
            "trainer.precision=bf16-mixed or 32-true"
        )
    if not isinstance(strategy, dict):
        raise MusictagError(f"trainer.strategy={strategy} is not possible here; use auto or trainer=ddp")
    if strategy.get("broadcast_buffers", True):
        raise MusictagError(
            "trainer.strategy.broadcast_buffers must be false: processes evaluate different numbers of batches, and "
            "would wait for one another forever"
        )
    if strategy.get("bucket_cap_mb", 25) <= 0:
        raise MusictagError(f"trainer.strategy.bucket_cap_mb={strategy['bucket_cap_mb']}: must be above 0")
    if strategy.get("static_graph") and settings.get("accumulate_grad_batches", 1) > 1:
        raise MusictagError(
            "trainer.strategy.static_graph=true needs an exchange of gradients in every step, but "
            f"trainer.accumulate_grad_batches={settings['accumulate_grad_batches']} exchanges them less often; omit "
            "one of the two"
        )
