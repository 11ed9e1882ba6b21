"""The wording of numbers and settings in reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from musictag.report.study import factor_label


def setting(factors: Sequence[str], condition: Sequence[Any]) -> str:
    """A condition in words: "1,000 training songs", "back-end filters 64"; empty where nothing varies."""
    parts = [_counted(key, _shown(value)) for key, value in zip(factors, condition, strict=True) if value is not None]
    return ", ".join(parts)


def p_text(p: float) -> str:
    """Three decimals, or ``< 0.001``."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def signed(value: float, decimals: int = 3) -> str:
    """``+0.012`` or ``−0.012``."""
    return f"{value:+.{decimals}f}".replace("-", "−")


def _counted(key: str, values: str) -> str:
    return f"{values} training songs" if key == "data.train_songs" else f"{factor_label(key)} {values}"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)
