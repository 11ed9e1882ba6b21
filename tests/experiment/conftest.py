"""Runs of small baselines."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.experiments import SMALL_TREES, folders


@pytest.fixture
def place(tiny_catalogue: Path, tmp_path: Path) -> list[str]:
    return ["data=catalogue", f"data.path={tiny_catalogue}", *folders(tmp_path)]


@pytest.fixture
def trees(place: list[str]) -> list[str]:
    return [*place, *SMALL_TREES]
