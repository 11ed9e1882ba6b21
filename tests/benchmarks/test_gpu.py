"""The benchmark of a CUDA device, tried on the CPU with a small model: its counts are exact, its speeds not tested."""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path

import pytest
import torch

from musictag.common.errors import MusictagError
from musictag.experiment import compose
from tests import benchmarks
from tests.benchmarks import gpu
from tests.benchmarks.gpu import loop, steps
from tests.benchmarks.gpu.work import Work, work_of
from tests.benchmarks.tables import Table

CPU = torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_without_a_device_it_says_what_is_needed():
    with pytest.raises(MusictagError, match="gpu needs a CUDA device"):
        benchmarks.main(["gpu"])


def test_the_work_of_a_step_is_counted():
    a, b = torch.ones(4, 8), torch.ones(8, 16)
    kernel = 4 * (4 * 8 + 8 * 16 + 4 * 16)
    assert work_of(lambda: a @ b) == Work(2 * 4 * 8 * 16, kernel, kernel)
    # a view is free; the sum reads both and writes one; in place it reads and writes the first
    assert work_of(lambda: a.T[2:] + 1) == Work(0, 4 * 2 * 6 * 4, 0)
    assert work_of(lambda: a.add_(a)) == Work(0, 4 * 3 * 32, 0)


def test_rows_are_written_and_a_failure_does_not_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(steps, "_SECONDS", 0.0)
    rates = steps.Rates.measure(CPU, copied=2**16, side=16)
    assert min(rates.bytes, *rates.flop.values()) > 0
    cases = [steps.Case("dieleman_waveform", seconds, 2, "float32", "eager") for seconds in (1.5, 0.1)]
    with Table("steps", steps.COLUMNS, "", tmp_path) as table:
        gpu.measure(cases, lambda case: steps.rows_of(case, CPU, rates), table, time.monotonic() + 100)
        gpu.measure(cases[:1], lambda case: steps.rows_of(case, CPU, rates), table, time.monotonic())
    with (tmp_path / "steps.csv").open() as file:
        training, inference, failed = csv.DictReader(file)
    assert (training["mode"], inference["mode"]) == ("training", "inference")
    assert float(training["audio s / s"]) > 0
    assert float(training["GFLOP"]) > 2 * float(inference["GFLOP"])
    assert failed["mode"].startswith("failed: MusictagError: data.patch_seconds=0.1 is too short")
    assert 'over: --cases "dieleman_waveform 1.5 2 float32 eager"' in (tmp_path / "steps.md").read_text()


def test_the_longest_operations_of_a_step_are_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(steps, "_SECONDS", 0.0)
    rows = list(steps.profile_of(steps.Case("dieleman_waveform", 1.5, 2, "float32", "eager"), CPU))
    shares = [row[-1] for row in rows]
    assert shares == sorted(shares, reverse=True)
    assert 50 < sum(shares) <= 100.001
    assert any("convolution" in row[6] for row in rows[:6])


def test_the_grid_has_every_preset_and_no_configuration_twice(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compose, "presets", lambda: ["musicnn", "fcn"])
    cases = gpu.default_cases()
    assert len(set(cases)) == len(cases)
    assert {case.preset for case in cases} == {*gpu.PAPER, "musicnn", "fcn"}
    assert {case.how for case in cases} == set(steps.WAYS)
    assert [steps.Case.parse(" ".join(map(str, case))) for case in cases] == cases
    with pytest.raises(MusictagError, match="'fcn 3 8 float8 eager' is no case"):
        steps.Case.parse("fcn 3 8 float8 eager")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="sparse files")
def test_the_loop_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, value in {
        "_SONGS": 240, "_MODELS": ("waveform_small",), "_BATCHES": (4,), "_WORKERS": (0,), "_SECONDS": 0.2,
        "_PRECISION": "32-true",
    }.items():  # fmt: skip
        monkeypatch.setattr(loop, name, value)
    loop.run(CPU, tmp_path, time.monotonic() + 100)
    with (tmp_path / "loop.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["patches / s"]) > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_synchronisation_is_counted():
    watch, value = loop.Synchronisations(), torch.ones(3, device="cuda")
    watch.start()
    value = value.sum()
    value.item()
    assert watch.stop().total() == 1
