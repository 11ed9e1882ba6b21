"""Settings of the process that only change its speed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from musictag.common import processes
from musictag.common.processes import keep_freed_memory, let_threads_sleep
from tests.helpers.experiments import ROOT

_FAULTS = """
import resource, sys
from musictag.common.processes import keep_freed_memory
keep_freed_memory()
for step in range(12):
    if step == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    buffers = [b"x" * 40_000_000 for _ in range(4)]
    del buffers
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _python(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "MALLOC_"))}
    return subprocess.run(
        [sys.executable, *words], env=kept | environment, cwd=ROOT, capture_output=True, text=True, check=True
    )


def _chosen(monkeypatch: pytest.MonkeyPatch, running: Path, **environment: str) -> dict[str, str]:
    """What is added to the environment with ``running`` for /proc/loadavg."""
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    before = {name: value for name, value in os.environ.items() if name not in names} | environment
    monkeypatch.setattr(os, "environ", dict(before))
    monkeypatch.setattr(processes, "_RUNNING", running)
    let_threads_sleep()
    return {name: value for name, value in os.environ.items() if before.get(name) != value}


@pytest.mark.parametrize("chosen", [None, "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_threads_sleep_on_a_busy_machine_unless_the_user_has_chosen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, chosen: str | None
) -> None:
    monkeypatch.setattr(processes, "available_cores", os.cpu_count)
    busy, idle = tmp_path / "busy", tmp_path / "idle"
    busy.write_text("0.00 0.00 0.00 2/80 4711\n")
    idle.write_text("9.00 9.00 9.00 1/80 4711\n")
    given = {chosen: "7"} if chosen else {}
    assert _chosen(monkeypatch, busy, **given) == ({} if chosen else {"OMP_WAIT_POLICY": "PASSIVE"})
    for quiet in (idle, tmp_path / "not Linux"):
        assert _chosen(monkeypatch, quiet, **given) == {}


@pytest.mark.parametrize("module", ["train", "musictag.cli"])
def test_commands_choose_before_torch_is_imported(module: str) -> None:
    done = _python("-c", f"import sys, {module}; print('torch' in sys.modules)")
    assert done.stdout.strip() == "False"


_ENDED_AT_THE_CHOICE = """
import runpy, sys
from musictag.common import processes
def choose():
    print("musictag.experiment.sweeps.study" in sys.modules, "torch" in sys.modules)
    sys.exit()
processes.let_threads_sleep = choose
sys.argv = ["train.py"]
runpy.run_path("train.py", run_name="__main__")
"""


def test_hydra_loads_no_torch_before_they_choose() -> None:
    """It makes its callbacks first."""
    assert _python("-c", _ENDED_AT_THE_CHOICE).stdout.split() == ["True", "False"]


@pytest.mark.parametrize("on", [True, False])
def test_large_imports_are_not_searched_for_garbage(on: bool) -> None:
    program = (
        f"import gc; gc.{'enable' if on else 'disable'}()\n"
        "from musictag.common.processes import importing\n"
        "with importing():\n    print(gc.isenabled())\n    import torch\n"
        "print(gc.isenabled(), gc.get_freeze_count() > 100_000)"
    )
    assert _python("-c", program).stdout.split() == ["False", str(on), "True"]


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_freed_memory_is_used_again() -> None:
    again, returned = (int(_python("-c", _FAULTS, **settings).stdout) for settings in ({}, {"MALLOC_ARENA_MAX": "8"}))
    assert returned > 300_000  # pages of 4 KB: 10 steps of 4 buffers of 40 MB
    assert again < returned / 10


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    keep_freed_memory()
