"""The contract of both kinds of run: the right one is chosen, and it leaves what it says."""

from __future__ import annotations

import pathlib

import pytest

import musictag
from musictag.experiment import run as experiment
from musictag.experiment.baseline_run import BASELINE_KEYS, BaselineRun
from musictag.experiment.contract import FAMILIES
from musictag.experiment.network_run import NetworkRun
from musictag.experiment.results.console import print_results
from tests.helpers.experiments import SMALL_TREES, TINY, compose_config, folders, run

OVERRIDES = {BaselineRun: SMALL_TREES, NetworkRun: TINY}


@pytest.mark.parametrize("kind", OVERRIDES)
def test_each_kind_leaves_the_files_that_it_lists(
    kind: type, tiny_catalogue: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["data=catalogue", f"data.path={tiny_catalogue}", *folders(tmp_path), *OVERRIDES[kind]]
    this = experiment.make_run(compose_config(*overrides))
    assert type(this) is kind
    run_dir, metrics = run(*overrides)
    assert set(this.files) <= {path.name for path in run_dir.iterdir()}
    assert run_dir.name.startswith("-".join(this.name_parts))
    assert set(musictag.load(run_dir / this.model_file).tag_names) == {"brightness", "high", "noisy"}
    assert metrics["epochs"] == this.max_epochs
    assert metrics["family"] in FAMILIES
    capsys.readouterr()
    print_results(metrics, str(tmp_path / "runs"))
    said = capsys.readouterr().out
    assert all(str(run_dir / name) in said for name in this.files)
    assert all(text in said for text in this.describe(metrics))


def test_kinds_differ_in_what_reports_and_sweeps_ask() -> None:
    network = experiment.make_run(compose_config(*TINY, "data.train_songs=10", "data.patches_per_song=3"))
    assert (network.max_epochs, network.patches_to_train()) == (2, 60)
    baseline = experiment.make_run(compose_config(*SMALL_TREES, "data.train_songs=10"))
    assert (baseline.max_epochs, baseline.patches_to_train()) == (None, None)
    assert set(baseline.config) == set(BASELINE_KEYS)
    assert experiment.make_run(baseline.config).config == baseline.config
