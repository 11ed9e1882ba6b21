"""Fixtures shared by all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.catalogues import write_catalogue

#: A package of its own, with tests of its own: experiment/test_plugins.py installs it and runs them.
collect_ignore = ["plugin"]


@pytest.fixture
def tiny_catalogue(tmp_path: Path) -> Path:
    """A catalogue.csv of 24 songs of 1 to 5 s: 12 for training, 5 for validation, 7 for test (see catalogues.py)."""
    return write_catalogue(tmp_path / "music")


@pytest.fixture
def nobody_is_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No key, no settings, no service of Weights & Biases that remembers any."""
    import wandb

    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    wandb.teardown(exit_code=0)  # it reads the environment once
    yield
    wandb.teardown(exit_code=0)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """PyTorch computes with a single thread, so that sums are added in one order."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
