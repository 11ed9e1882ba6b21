"""The wording of settings and numbers in reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from musictag.common.plotting import LONGEST_NAME

SIZE = "data.train_songs"
#: The factor whose values are names of combinations of settings: see ``musictag.report.settings``.
NAMED = "settings"
#: What keys are called if their own names do not say it.
LABELS = {
    SIZE: "training songs",
    "data.patch_seconds": "patch length (s)",
    "frontend.filter_multiplier": "front-end filters (times)",
    "frontend.num_filters": "front-end filters (n)",
    "backend.dense_units": "dense units",
    "optimizer.lr": "learning rate",
    "trainer.max_epochs": "epochs",
    "trainer.gradient_clip_val": "gradient clipping",
    "trainer.batch_norm_shares": "separately normalised shares of a batch",
}
#: How labels begin for the keys of these groups; those of other groups begin with the name of the group.
GROUPS = {"frontend": "front-end", "backend": "back-end"} | dict.fromkeys(
    ("data", "optimizer", "trainer", "baseline", "callbacks"), ""
)


def factor_label(key: str) -> str:
    """A key in words, for axes and tables; different for keys of the same name in different groups."""
    if key in LABELS:
        return LABELS[key]
    group, _, rest = key.partition(".")
    words = (rest.removesuffix("._target_") if rest != "_target_" else "") if rest else group
    named = GROUPS.get(group, group if rest else "") or ("" if words else group)
    return " ".join(filter(None, (named, words))).replace("_", " ").replace(".", " ")


def shown(value: Any) -> str:
    """A value of a setting as people would write it."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    if isinstance(value, tuple | list):
        return "/".join(map(shown, value))
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)


def setting(factors: Sequence[str], condition: Sequence[Any]) -> str:
    """A condition in words: "1,000 training songs, back-end filters 64"; empty where nothing varies."""
    return ", ".join(
        counted(key, f"“{value}”" if key == NAMED else shown(value))
        for key, value in zip(factors, condition, strict=True)
        if value is not None
    )


def counted(key: str, values: str) -> str:
    """``values`` of a factor in words."""
    return f"{values} training songs" if key == SIZE else f"{factor_label(key)} {values}"


def short(name: str, most: int = LONGEST_NAME) -> str:
    """``name`` without its middle if it has more than ``most`` characters: names often differ at their ends."""
    kept = most - 1
    return name if len(name) <= most else f"{name[: kept - kept // 3]}…{name[-(kept // 3) :]}"


def p_text(p: float) -> str:
    """Three decimals, or ``< 0.001``."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def signed(value: float, decimals: int = 3) -> str:
    """``+0.012`` or ``−0.012``."""
    return f"{value:+.{decimals}f}".replace("-", "−")
