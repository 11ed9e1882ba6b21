"""TensorBoard and MLflow, recorded for real, and loggers and callbacks of one's own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from musictag.common.errors import MusictagError
from musictag.experiment import run as experiment
from musictag.experiment.identity import check_keys
from musictag.experiment.tracking.tracker import LightningTracker, mlflow_logger
from tests.helpers.experiments import TINY, compose_config, folders

OWN = """
import pytorch_lightning as pl
from pytorch_lightning.loggers import CSVLogger


class Counting(pl.Callback):
    def __init__(self, path, run_dir):
        self.path, self.run_dir, self.batches = path, run_dir, 0

    def on_train_batch_end(self, *_):
        self.batches += 1

    def on_fit_end(self, trainer, module):
        with open(self.path, "w") as file:
            file.write(f"{self.batches} {self.run_dir.name}")
"""


@pytest.fixture
def tiny(tiny_catalogue: Path, tmp_path: Path) -> list[str]:
    return ["data=catalogue", f"data.path={tiny_catalogue}", *TINY, *folders(tmp_path)]


@pytest.fixture
def own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "packages" / "own_parts_of_a_test"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(OWN)
    monkeypatch.syspath_prepend(folder.parent)
    yield folder
    sys.modules.pop(folder.name, None)


def test_tensorboard_has_curves_and_test_scores(tiny: list[str]) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = compose_config(*tiny, "logger=tensorboard")
    metrics = experiment.run(config)
    events = EventAccumulator(str(experiment.results_folder(config) / "tensorboard"))
    events.Reload()
    scalars = {name: [event.value for event in events.Scalars(name)] for name in events.Tags()["scalars"]}
    assert len(scalars["val_loss"]) == len(scalars["learning_rate"]) == 2
    assert scalars["val_loss"][metrics["best_epoch"]] == pytest.approx(metrics["validation"]["val_loss"])
    assert scalars["test_roc_auc"] == [pytest.approx(metrics["test"]["roc_auc"]["value"])]
    written = (experiment.results_folder(config) / "tensorboard" / "hparams.yaml").read_text()
    assert "torch.optim.Adam" in written


@pytest.mark.slow
def test_mlflow_goes_on_in_the_same_run(tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    from mlflow.tracking import MlflowClient

    monkeypatch.chdir(tmp_path)
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    config = compose_config(*tiny, "logger=mlflow", f"logger.mlflow.tracking_uri={store}")
    metrics = experiment.run(config)
    client = MlflowClient(store)
    (run,) = client.search_runs([client.get_experiment_by_name("musictag").experiment_id])
    run_dir = experiment.results_folder(config)
    assert (run.info.run_name, run.info.status) == (run_dir.name, "FINISHED")
    assert run.data.params["optimizer/lr"] == "0.001"
    assert run.data.metrics["test_roc_auc"] == pytest.approx(metrics["test"]["roc_auc"]["value"])
    assert len(client.get_metric_history(run.info.run_id, "val_loss")) == 2
    (run_dir / "metrics.json").unlink()
    experiment.run(config)
    assert len(client.search_runs([run.info.experiment_id])) == 1


def test_mlflow_goes_on_with_a_setting_that_changes_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow refuses another value of a parameter; the first one stays."""
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for workers in (0, 2):
        logger = mlflow_logger(tmp_path / "run-1", tracking_uri=f"file://{tmp_path}/store")
        LightningTracker(logger, {"data": {"num_workers": workers}}).start()
    (run,) = logger.experiment.search_runs([logger.experiment_id])
    assert run.data.params == {"data/num_workers": "0"}


def test_a_callback_of_one_s_own_is_called_and_makes_another_run(
    tiny: list[str], tmp_path: Path, own_package: Path
) -> None:
    words = [
        *tiny,
        "+callbacks.mine._target_=own_parts_of_a_test.Counting",
        f"+callbacks.mine.path={tmp_path / 'said'}",
    ]
    config = compose_config(*words, "+trainer.limit_train_batches=2")
    metrics = experiment.run(config)
    run_dir = experiment.results_folder(config)
    assert (tmp_path / "said").read_text() == f"4 {run_dir.name}"  # two batches in each of two epochs
    assert metrics["epochs"] == 2
    assert run_dir != experiment.results_folder(compose_config(*tiny, "+trainer.limit_train_batches=2"))
    assert run_dir != experiment.results_folder(compose_config(*words))


def test_other_code_is_another_run(tiny: list[str], tmp_path: Path, own_package: Path) -> None:
    from musictag.experiment.code_versions import code_versions, source_digest

    config = compose_config(*tiny, "+callbacks.mine._target_=own_parts_of_a_test.Counting", "+callbacks.mine.path=x")
    before = experiment.results_folder(config)
    assert code_versions(config)["own_parts_of_a_test"].startswith("source ")
    assert code_versions({"a": [{"_target_": "pytest.Item"}]}) == {"pytest": f"pytest {pytest.__version__}"}
    assert code_versions(compose_config(*tiny)) == {}
    (own_package / "__init__.py").write_text(f"{OWN}\n# mended\n")
    source_digest.cache_clear()
    assert experiment.results_folder(config) != before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["+callbacks.mine._target_=torch.nn.ReLU"], r"makes a ReLU, not a pytorch_lightning.*Callback"),
        (["+callbacks.mine.patience=3"], r"callbacks.mine has no _target_; set callbacks.mine._target_ to"),
        (["~callbacks.checkpoint"], r"without callbacks.checkpoint an interrupted run cannot be resumed"),
        (
            ["+logger.mine._target_=torch.nn.ReLU"],
            r"makes a ReLU, not a musictag.experiment.tracking.tracker.Tracker or pytorch_lightning",
        ),
        (["optimizer._target_=torch.optim.Adan"], r"optimizer._target_=torch.optim.Adan cannot be imported"),
        (
            ["+trainer.limit_val_batches=0.5"],
            r"limit_val_batches=0.5 is not possible here: all validation songs are scored",
        ),
        (["+trainer.limit_val_batches=1"], r"limit_val_batches=1 is not possible here"),
        (["+trainer.fast_dev_run=true"], r"use trainer.max_epochs=1 \+trainer.limit_train_batches=2"),
        (["+trainer.limit_trian_batches=2"], r"did you mean limit_train_batches"),
        (["trainer=ddp", "trainer.strategy.broadcast_buffers=true"], r"broadcast_buffers must be false"),
        (["lr_scaling.rule=linear", "~optimizer.lr"], r"lr_scaling.rule=linear scales optimizer.lr, which is not set"),
    ],
    ids=lambda value: value[0].split("=")[0] if isinstance(value, list) else "",
)
def test_parts_that_cannot_be_are_refused_before_any_work(
    tiny: list[str], tmp_path: Path, words: list[str], said: str
) -> None:
    with pytest.raises(MusictagError, match=said):
        experiment.run(compose_config(*tiny, *words))
    assert not list((tmp_path / "runs").glob("**/*.ckpt"))


def test_all_of_the_evaluation_may_be_said() -> None:
    config: dict[str, Any] = compose_config("+trainer.limit_val_batches=1.0", "+trainer.limit_test_batches=null")
    check_keys(config)
