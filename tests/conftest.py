"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from .catalogues import write_catalogue


@pytest.fixture
def tiny_catalogue(tmp_path: Path) -> Path:
    """A catalogue.csv of 24 songs of 1 to 5 s: 12 for training, 5 for validation, 7 for test (see catalogues.py)."""
    return write_catalogue(tmp_path / "music")
