"""One process at a time in a run folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from musictag.experiment.run_folder import RunLocked, is_running, lock_run

HOLDER = """
import sys, time
from pathlib import Path
from musictag.experiment.run_folder import lock_run
with lock_run(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def held(tmp_path: Path) -> tuple[Path, subprocess.Popen[str]]:
    """A run folder that another process has."""
    folder = tmp_path / "runs" / "music" / "waveform-0123abcd"
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield folder, process
    process.kill()
    process.wait()


def test_a_folder_that_another_process_has_is_refused(held: tuple[Path, subprocess.Popen[str]]) -> None:
    folder, _ = held
    assert is_running(folder)
    with pytest.raises(RunLocked, match="another process is working on"), lock_run(folder):
        pass


def test_a_killed_process_lets_go(held: tuple[Path, subprocess.Popen[str]]) -> None:
    folder, process = held
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not is_running(folder)
    with lock_run(folder):
        assert is_running(folder)


def test_the_folder_is_free_afterwards_and_is_not_made(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "music" / "waveform-0123abcd"
    assert not is_running(folder)
    assert list(tmp_path.iterdir()) == []  # looking changes nothing
    with lock_run(folder):
        assert is_running(folder)
    assert not is_running(folder)
    assert not folder.parent.exists()
    with pytest.raises(ZeroDivisionError), lock_run(folder):
        _ = 1 / 0
    with lock_run(folder):
        assert not is_running(folder.parent / "waveform-89abcdef")
