"""Starts and ends runs of Weights & Biases, whose failures must never end other work."""

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

START_SECONDS = 30.0  # without an answer of W&B for that long, a run is recorded offline
UPLOAD_SECONDS = 600.0  # limit of the upload at the end, so that the next job of a sweep can start


def start_run(folder: Path, start_seconds: float = START_SECONDS, **init: Any) -> Any:
    """Start a run of W&B (``init``: arguments of ``wandb.init``) with files in ``folder/wandb``, and print its place.

    The run is offline without an API key (environment, netrc), with WANDB_MODE=offline, and if W&B does not answer. If
    W&B cannot even write files, the run is disabled and records nothing. Both failures are warnings.
    """
    import wandb

    mode = os.environ.get("WANDB_MODE") or ("online" if has_api_key() else "offline")
    modes = ["offline" if mode == "dryrun" else mode, "offline", "disabled"]
    folder.mkdir(parents=True, exist_ok=True)
    for mode in dict.fromkeys(modes):
        if mode == "offline":
            # audio and tables wait for their upload with the rest, not in the home directory
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
            _reset()  # else the id of the failed run would be in use
            continue
        if mode == "offline":
            files = folder / "wandb"
            rank_zero_say(f"Weights & Biases: recording offline in {files}; upload with: wandb sync {files}/offline-*")
        elif run.url:
            rank_zero_say(f"Weights & Biases: {run.url}")
        return run
    raise AssertionError("a disabled run always starts")


def finish_run(run: Any, exit_code: int) -> None:
    """End the run. A failed or slow upload is a warning, which says how to upload the files on disk."""
    try:
        run.finish(exit_code=exit_code)
    except Exception as error:
        warnings.warn(
            f"Weights & Biases did not receive the whole run ({_first_line(error)}); the rest is on disk: "
            f"wandb sync {run.settings.sync_dir}",
            stacklevel=2,
        )
        if not isinstance(error, TimeoutError):
            _reset()


def run_id(*parts: str) -> str:
    """An id that W&B accepts: letters, digits and dashes."""
    return re.sub(r"[^A-Za-z0-9]+", "-", "-".join(parts)).strip("-")


def has_api_key() -> bool:
    """Whether W&B would find an API key without a prompt: in the environment, or in netrc after `wandb login`."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _reset() -> None:
    """End the service process of W&B, which may be dead already; the next run starts a new one."""
    import wandb

    with suppress(Exception):
        wandb.teardown(exit_code=1)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
