"""Which network a plan is about: the configuration that train.py would compose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from musictag.common.errors import MusictagError
from musictag.experiment.compose import compose, presets

#: Keys that say how large a part is; the others have options of their own, or change nothing in a plan.
_GROUPS = ("frontend.", "backend.", "+frontend.", "+backend.", "hydra.searchpath")


def compose_model(
    model: str | None,
    frontend: str | None,
    backend: str | None,
    patch_seconds: float | None,
    words: Sequence[str],
    distributed: bool,
) -> dict[str, Any]:
    """The configuration that those choices make, with ``trainer=ddp`` where several GPUs train.

    Raises MusictagError for names that conf/ does not have, and for words that are no keys of a part.
    """
    if model is not None and model not in presets():
        raise MusictagError(f"there is no network --model {model}; choose one of {', '.join(presets())}")
    if model is not None and (frontend or backend):
        raise MusictagError("--model names front-end and back-end; leave --frontend and --backend away, or --model")
    if wrong := [word for word in words if not (word.startswith(_GROUPS) and "=" in word)]:
        raise MusictagError(
            f"{' '.join(wrong)}: only keys of the network may stand here, such as frontend.filter_multiplier=0.5; "
            "what else a plan reads has an option (musictag plan --help)"
        )
    chosen = {"model": model, "frontend": frontend, "backend": backend, "trainer": "ddp" if distributed else None}
    overrides = [f"{group}={name}" for group, name in chosen.items() if name]
    if patch_seconds is not None:
        overrides.append(f"data.patch_seconds={patch_seconds}")
    return compose([*overrides, *words])
