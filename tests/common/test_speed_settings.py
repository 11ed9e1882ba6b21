"""Settings of the process that only change its speed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

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


@pytest.mark.parametrize("chosen", [None, "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_threads_sleep_unless_the_user_has_chosen(monkeypatch: pytest.MonkeyPatch, chosen: str | None) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        monkeypatch.delenv(name, raising=False)
    if chosen:
        monkeypatch.setenv(chosen, "7")
    before = dict(os.environ)
    monkeypatch.setattr(os, "environ", dict(before))
    let_threads_sleep()
    assert os.environ == (before if chosen else before | {"OMP_WAIT_POLICY": "PASSIVE"})


@pytest.mark.parametrize("module", ["train", "musictag.cli"])
def test_commands_choose_before_torch_is_imported(module: str) -> None:
    done = _python("-c", f"import sys, {module}; print('torch' in sys.modules)")
    assert done.stdout.strip() == "False"


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_freed_memory_is_used_again() -> None:
    again, returned = (int(_python("-c", _FAULTS, **settings).stdout) for settings in ({}, {"MALLOC_ARENA_MAX": "8"}))
    assert returned > 300_000  # pages of 4 KB: 10 steps of 4 buffers of 40 MB
    assert again < returned / 10


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    keep_freed_memory()
