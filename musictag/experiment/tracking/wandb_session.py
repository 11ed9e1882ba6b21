"""Starting and ending runs of Weights & Biases, which must never be the reason that other work fails."""

from __future__ import annotations

import netrc
import os
import re
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from musictag.common.processes import rank_zero_say

START_SECONDS = 30.0  # W&B may take that long to answer before a run is recorded offline
UPLOAD_SECONDS = 600.0  # and that long to take what is left at the end: then the next job of a sweep has its turn


def start_run(folder: Path, start_seconds: float = START_SECONDS, **init: Any) -> Any:
    """A run of W&B (``init``: arguments of ``wandb.init``) whose files lie in ``folder/wandb``; says where to look.

    Offline without an API key (environment, netrc), with WANDB_MODE=offline, and where W&B does not answer. Where it
    cannot even write files the run is a disabled one, which records nothing; that is a warning, too.
    """
    import wandb

    mode = os.environ.get("WANDB_MODE") or ("online" if has_api_key() else "offline")
    modes = ["offline" if mode == "dryrun" else mode, "offline", "disabled"]
    folder.mkdir(parents=True, exist_ok=True)
    for mode in dict.fromkeys(modes):
        if mode == "offline":
            # audio and tables wait for their upload beside the rest, not in the home directory
            os.environ["WANDB_DATA_DIR"] = str(folder.resolve() / "wandb")
        try:
            run = wandb.init(
                **init,
                mode=mode,
                dir=folder,
                resume="allow",
                reinit="create_new",
                settings={
                    "silent": True,
                    "init_timeout": start_seconds,
                    "finish_timeout": UPLOAD_SECONDS,
                    "finish_timeout_raises": True,
                },
            )
        except Exception as error:
            warnings.warn(f"Weights & Biases does not work {mode}: {_first_line(error)}", stacklevel=2)
            _reset()  # or the id of the failed run would be in use
            continue
        if mode == "offline":
            files = folder / "wandb"
            rank_zero_say(f"Weights & Biases: recording offline in {files}; upload with: wandb sync {files}/offline-*")
        elif run.url:
            rank_zero_say(f"Weights & Biases: {run.url}")
        return run
    raise AssertionError("a disabled run always starts")


def finish_run(run: Any, exit_code: int) -> None:
    """End it. That its upload fails or takes too long is a warning, which says how to upload what lies on disk."""
    try:
        run.finish(exit_code=exit_code)
    except Exception as error:
        warnings.warn(
            f"Weights & Biases has not got all of the run ({_first_line(error)}); what it lacks is on disk: "
            f"wandb sync {run.settings.sync_dir}",
            stacklevel=2,
        )
        if not isinstance(error, TimeoutError):
            _reset()


def run_id(*parts: str) -> str:
    """An id that W&B takes: letters, digits and dashes."""
    return re.sub(r"[^A-Za-z0-9]+", "-", "-".join(parts)).strip("-")


def has_api_key() -> bool:
    """Whether W&B would find an API key, without asking anybody: environment, or netrc as `wandb login` writes it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _reset() -> None:
    """End W&B's service, which may be dead already; the next run gets a new one."""
    import wandb

    with suppress(Exception):
        wandb.teardown(exit_code=1)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
