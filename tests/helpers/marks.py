"""Which cases of a test are in the fast set."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def first_fast(values: Iterable[Any], fast: int = 1) -> list[Any]:
    """``values`` for pytest's parametrize, all but the first ``fast`` of them marked slow: cases of one behaviour."""
    return [value if i < fast else pytest.param(value, marks=pytest.mark.slow) for i, value in enumerate(values)]
