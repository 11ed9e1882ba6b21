from __future__ import annotations

import pytest

from tests.helpers.failures import shared_lab
from tests.helpers.reliability import SETTINGS, Bench


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The undisturbed run with which tests compare theirs, each below a ``runs_dir`` of its own name."""
    return Bench(tmp_path_factory.mktemp("bench"), shared_lab(), SETTINGS)
