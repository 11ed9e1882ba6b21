"""What several contracts ask: that something is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def refused(call: Callable[[], Any], error: type[Exception], what: str) -> None:
    try:
        call()
    except error:
        return
    raise AssertionError(f"{what} is not refused with a {error.__name__}")
