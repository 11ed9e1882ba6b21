"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.catalogues import write_catalogue

#: These kill processes, bound their memory, look into /proc or mount disks.
LINUX_ONLY = (
    "reliability/test_*", "security/test_*", "cli/test_tagging_interrupted.py", "common/test_files.py",
    "data/preparation/test_crashes.py", "data/preparation/test_prepare*.py", "experiment/test_preemption.py",
    "training/test_dead_process.py", "training/test_out_of_memory.py", "training/test_signals.py",
)  # fmt: skip
#: tests/plugin is a package of its own, with its own tests: experiment/test_plugins.py installs it and runs them.
collect_ignore = ["plugin"]
collect_ignore_glob = [] if sys.platform == "linux" else list(LINUX_ONLY)


@pytest.fixture(autouse=True)
def pictures_are_not_laid_out(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are drawn, but their parts are not fitted to each other: a quarter of the time of a small run. Not where
    pictures are what is tested."""
    if "matplotlib" in sys.modules and not any(word in request.path.stem for word in ("plots", "figures", "describe")):
        from matplotlib.layout_engine import ConstrainedLayoutEngine

        monkeypatch.setattr(ConstrainedLayoutEngine, "execute", lambda engine, figure: None)


@pytest.fixture
def tiny_catalogue(tmp_path: Path) -> Path:
    """A catalogue.csv of 24 songs of 1 to 5 s: 12 for training, 5 for validation, 7 for test (see catalogues.py)."""
    return write_catalogue(tmp_path / "music")


@pytest.fixture(scope="session")
def songbook_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the cache of music21's corpus, which one of pytest's processes builds for all. Leave it whole."""
    from musictag.data.songbook.corpus import load_corpus

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "songbook"
    load_corpus(folder)  # whoever comes second waits, and reads it
    return folder


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
