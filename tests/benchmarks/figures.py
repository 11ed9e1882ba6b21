"""Common to all sections: one line of a table."""

from __future__ import annotations

from typing import NamedTuple


class Figure(NamedTuple):
    """One line of a section's table: a median."""

    what: str
    value: float
    unit: str
