"""The network of a plan: the configuration that train.py would compose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from musictag.common.errors import MusictagError
from musictag.experiment.compose import compose, networks

#: Keys that set the size of a part; the others have options of their own, or do not affect a plan.
_GROUPS = ("frontend.", "backend.", "+frontend.", "+backend.", "hydra.searchpath")


def compose_model(
    model: str | None,
    frontend: str | None,
    backend: str | None,
    patch_seconds: float | None,
    overrides: Sequence[str],
    distributed: bool,
) -> dict[str, Any]:
    """The configuration for these choices, with ``trainer=ddp`` if several GPUs train.

    Raises MusictagError for names that are not in conf/, and for overrides that are not keys of a part.
    """
    if model is not None and model not in networks():
        raise MusictagError(f"there is no network --model {model}; choose one of {', '.join(networks())}")
    if model is not None and (frontend or backend):
        raise MusictagError("--model sets front-end and back-end; omit --frontend and --backend, or omit --model")
    if wrong := [given for given in overrides if not (given.startswith(_GROUPS) and "=" in given)]:
        raise MusictagError(
            f"{' '.join(wrong)}: only keys of the network are allowed, such as frontend.filter_multiplier=0.5; "
            "all other inputs are options (musictag plan --help)"
        )
    chosen = {"model": model, "frontend": frontend, "backend": backend, "trainer": "ddp" if distributed else None}
    options = [f"{group}={name}" for group, name in chosen.items() if name]
    if patch_seconds is not None:
        options.append(f"data.patch_seconds={patch_seconds}")
    return compose([*options, *overrides])
