"""What `musictag plan` prints, and what it takes from a finished run."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from musictag import cli
from musictag.experiment import run as experiment
from tests.helpers.catalogues import write_catalogue
from tests.helpers.experiments import TINY, compose_config, folders
from tests.helpers.plans import SEVERAL, SONGS, planned


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three epochs."""
    folder = tmp_path_factory.mktemp("planned")
    catalogue = write_catalogue(folder / "music")
    experiment.run(
        compose_config(
            "data=catalogue", f"data.path={catalogue}", *TINY, *folders(folder), "trainer.max_epochs=3", "study=planned"
        )
    )
    (found,) = (folder / "runs" / catalogue.stem).iterdir()
    return found


def test_the_speed_of_a_run_is_that_of_its_history(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = planned(capsys, *SONGS, "--run", str(run_folder))
    metrics = json.loads((run_folder / "metrics.json").read_text())
    rows = list(csv.DictReader((run_folder / "history.csv").open()))[1:]
    assert len(rows) == 2
    expected = sum(int(row["patches"]) for row in rows) / sum(float(row["seconds"]) for row in rows)
    speed = shown["assumptions"]["patches_per_second"]
    assert speed["value"] == pytest.approx(expected)
    assert speed["source"] == f"measured by {run_folder}: 1 device (cpu)"
    assert shown["model"]["parameters"] == metrics["parameters"]
    assert shown["assumptions"]["patch_seconds"]["value"] == 0.5
    assert shown["assumptions"]["tags"]["value"] == len(metrics["test"]["tags"])
    assert shown["assumptions"]["batch_size"] == {
        "value": 4,
        "unit": "patches over all GPUs",
        "source": str(run_folder),
    }
    assert shown["assumptions"]["sync_batch_norm"]["value"] is False


def changed_run(run_folder: Path, folder: Path, **trainer: Any) -> Path:
    """What the same run would leave under other ``trainer`` settings, as far as a plan reads it."""
    metrics = json.loads((run_folder / "metrics.json").read_text())
    metrics["config"]["trainer"] |= trainer
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "history.csv").write_text("patches,seconds\n10,5\n100,10\n")
    return folder


def test_devices_share_the_speed_of_a_run(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    four = changed_run(run_folder, tmp_path / "four", devices=2, num_nodes=2, precision="auto")
    assert planned(capsys, *SONGS, "--run", str(four))["assumptions"]["patches_per_second"]["value"] == 100 / 10 / 4
    listed = changed_run(run_folder, tmp_path / "listed", devices=[1, 3])
    assert planned(capsys, *SONGS, "--run", str(listed))["assumptions"]["patches_per_second"]["value"] == 100 / 10 / 2
    for devices in ("auto", -1):
        unknown = changed_run(run_folder, tmp_path / f"unknown{devices}", devices=devices)
        assert cli.main(["plan", *SONGS, "--run", str(unknown)]) == 1
        assert f"trainer.devices={devices}, which does not tell how many GPUs" in capsys.readouterr().err
    (four / "history.csv").write_text("epoch\n1\n")
    assert cli.main(["plan", *SONGS, "--run", str(four)]) == 1
    assert "does not contain the number of patches" in capsys.readouterr().err


def test_a_run_says_which_network_it_timed(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ("--run", str(run_folder))
    for words, message in (
        ((*run, "--model", "musicnn"), "omit --model"),
        ((*run, "--precision", "bf16-mixed"), "omit --precision"),
        ((*run, "--measure"), "--run and --measure both set the speed"),
        ((*run, "--utilisation", "0.5"), "--utilisation: only for an estimate, which --run replaces"),
        (("--run", str(tmp_path)), "is not the folder of a finished run"),
    ):
        assert cli.main(["plan", *SONGS, *words]) == 1
        assert message in capsys.readouterr().err
    baseline = changed_run(run_folder, tmp_path / "baseline")
    (baseline / "metrics.json").write_text('{"epochs": null, "test": {}}')
    assert cli.main(["plan", *SONGS, "--run", str(baseline)]) == 1
    assert "use the run of a network, not of a baseline" in capsys.readouterr().err


KEYS = {
    "assumptions": None,
    "model": {"name", "parameters", "batch_norms", "gflop_per_patch_forward"},
    "data": {"training_songs", "validation_songs", "test_songs", "files_gb", "prepared_gb", "index_gb_per_node"},
    "preparation": {"hours", "slowest", "hours_by_part"},
    "reading": {
        "needed_patches_per_second", "kb_per_patch", "bandwidth_bound_patches_per_second",
        "reads_bound_patches_per_second", "memory_bound_patches_per_second", "share_in_memory",
        "first_epoch_patches_per_second",
        "later_epochs_patches_per_second", "cores_if_decoded_again",
    },
    "exchange": {"gradient_mb_per_step", "buckets", "gradient_ms", "hidden_ms", "statistics_ms", "added_ms_per_step"},
    "scaling": None,
    "training": {
        "patches_per_epoch", "steps_per_epoch", "first_epoch_hours", "epoch_hours", "epoch_seconds_by_part",
        "test_hours", "hours", "gpu_hours", "price",
    },
    "bottleneck": None,
    "warnings": None,
}  # fmt: skip


def test_json_has_its_keys_and_no_others(capsys: pytest.CaptureFixture[str]) -> None:
    shown = planned(capsys, *SEVERAL, "--memory-gb", "500", "--format", "int16")
    assert set(shown) == set(KEYS)
    for name, keys in KEYS.items():
        assert keys is None or set(shown[name]) == keys
    assert set(shown["training"]["epoch_seconds_by_part"]) == {"computing", "exchange", "waiting", "validation"}
    assert set(shown["scaling"][0]) == {"gpus", "batch_size", "patches_per_second", "efficiency", "limit"}
    assert set(shown["assumptions"]["songs"]) == {"value", "unit", "source"}
    assert shown["preparation"] == {"hours": 0.0, "slowest": None, "hours_by_part": {}}
    assert shown["reading"]["cores_if_decoded_again"] is None
    assert isinstance(shown["bottleneck"], str)
    assert shown["warnings"] == []


def test_the_tables_hold_what_json_holds(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    words = (*SEVERAL, "--batch-size", "100", "--gpu-hour-price", "2.5", "--memory-gb", "64", "--storage", "hdd")
    shown = planned(capsys, *words)
    assert cli.main(["plan", *words]) == 0
    printed = capsys.readouterr().out
    for name, entry in shown["assumptions"].items():
        assert f"--{name.replace('_', '-')} " in printed
        assert entry["source"] in printed
    training = shown["training"]
    assert f"{training['gpu_hours']:,.1f}, price {training['price']:,.2f}" in printed
    assert f"{shown['data']['training_songs']:,} for training" in printed
    for row in shown["scaling"]:
        assert re.search(rf" {row['gpus']} +{row['batch_size']:g} .* {row['efficiency']:.1%} +{row['limit']}", printed)
    assert f"Bottleneck: {shown['bottleneck']}." in printed
    assert shown["warnings"]
    for warning in shown["warnings"]:
        assert f"warning: {warning}" in printed


def test_prepared_audio_on_one_gpu_has_nothing_to_decode_or_exchange(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", *SONGS, "--format", "int16"]) == 0
    printed = capsys.readouterr().out
    assert "already done" in printed
    assert "gradients" not in printed.split("Results")[1].split("Bottleneck")[0]
