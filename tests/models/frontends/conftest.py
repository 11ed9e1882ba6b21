"""Encoders that several files of tests load."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from tests.helpers.encoders import SETTINGS, make


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, nn.Module]]:
    """Folder and model of each family."""
    root = tmp_path_factory.mktemp("models")
    return {family: (root / family, make(family, root / family)) for family in SETTINGS}
