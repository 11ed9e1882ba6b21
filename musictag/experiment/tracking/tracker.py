"""Experiment trackers: any logger of Lightning, and Weights & Biases with tables, curves and audio.

The files in the run folder are written independently of trackers. There is one W&B or MLflow run per run folder, found
by the name of the folder, so that a resumed run continues the same one. Legend: S songs, K tags.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pytorch_lightning.loggers import Logger

from musictag.common.processes import is_rank_zero, rank_zero_only
from musictag.evaluation.metrics import METRICS, monitors
from musictag.experiment.identity import system_label
from musictag.experiment.tracking.wandb_session import finish_run, run_id, start_run
from musictag.training.instantiate import make

if TYPE_CHECKING:
    from musictag.data.loading.datamodule import SongDataModule

TABLE_ROWS = 10_000  # W&B shows no more rows of a logged table
_NAMES = ("model", "baseline", "frontend", "backend", "probe")  #: of parts, by which runs can be filtered
_SUFFIXES = {"": "value", "_low": "low", "_high": "high"}


def curve_names() -> tuple[str, ...]:
    """Names of the values that are logged per epoch."""
    return "train_loss", *monitors(), "learning_rate", "patches_per_second"


class Tracker:
    """Records a run elsewhere. ``loggers``: loggers of Lightning for the Trainer."""

    loggers: Sequence[Logger] = ()

    def start(self) -> None:
        """Called on rank 0 before training."""

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Record another table, before ``finish``. Called on rank 0."""

    def finish(self, metrics: dict[str, Any], data: SongDataModule, scores: np.ndarray) -> None:
        """Record ``metrics``, as in metrics.json, and ``scores``, float32 S×K of the test songs. Called on rank 0."""

    def close(self, exit_code: int) -> None:
        """Release everything, also after a failure."""


class Trackers(Tracker):
    """All trackers of the configuration, called one after the other."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self.trackers = trackers
        self.loggers = [logger for tracker in trackers for logger in tracker.loggers]

    def start(self) -> None:
        for tracker in self.trackers:
            tracker.start()

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        for tracker in self.trackers:
            tracker.log_table(name, columns, rows)

    def finish(self, metrics: dict[str, Any], data: SongDataModule, scores: np.ndarray) -> None:
        for tracker in self.trackers:
            tracker.finish(metrics, data, scores)

    def close(self, exit_code: int) -> None:
        for tracker in self.trackers:
            tracker.close(exit_code)


class LightningTracker(Tracker):
    """Any logger of Lightning: configuration, curves, and test scores at the end."""

    def __init__(self, logger: Logger, config: dict[str, Any]) -> None:
        self.loggers = [logger]
        self._logger = logger
        self._config = config

    def start(self) -> None:
        self._logger.log_hyperparams(self._config)

    def finish(self, metrics: dict[str, Any], data: SongDataModule, scores: np.ndarray) -> None:
        self._logger.log_metrics(summary(metrics), step=metrics.get("epochs") or 0)
        self.close(exit_code=0)

    def close(self, exit_code: int) -> None:
        self._logger.finalize("failed" if exit_code else "success")


class WandbTracker(Tracker):
    """Weights & Biases: configuration, curves, per-tag table, precision-recall curves, test songs with audio.

    The run belongs to ``project`` and ``entity`` (None: your default), with the audio of ``audio_songs`` test songs. It
    is online or offline as ``musictag.experiment.tracking.wandb_session`` decides, offline after ``start_seconds``
    without an answer. If W&B fails, there is a warning and nothing more is logged: training continues.
    """

    def __init__(
        self,
        config: dict[str, Any],
        run_dir: Path,
        project: str = "musictag",
        entity: str | None = None,
        audio_songs: int = 16,
        start_seconds: float = 30.0,
    ) -> None:
        self.config = config
        self.run_dir = run_dir
        self.project = project
        self.entity = entity
        self.audio_songs = audio_songs
        self.start_seconds = start_seconds
        self._run: Any = None
        self._failed = False

    @property
    def run(self) -> Any:
        """The W&B run, started at the first access, so that a run with wrong settings leaves none behind."""
        if self._run is None:
            names = [self.config["names"].get(key) for key in _NAMES]
            self._run = start_run(
                self.run_dir,
                start_seconds=self.start_seconds,
                project=self.project,
                entity=self.entity,
                name=self.run_dir.name,
                id=run_id(self.run_dir.name),
                group=self.config["study"],
                job_type="train",
                tags=list(dict.fromkeys(filter(None, names))),
                config=self.config | {"system": system_label(self.config)},
            )
            self._run.define_metric("epoch")
            for name in curve_names():
                self._run.define_metric(name, step_metric="epoch")
        return self._run

    @cached_property
    def loggers(self) -> Sequence[Logger]:
        from pytorch_lightning.loggers import WandbLogger
        from pytorch_lightning.loggers.logger import rank_zero_experiment

        tracker = self

        class EpochLogger(WandbLogger):
            """Logger of Lightning on the run of this tracker."""

            @property
            @rank_zero_experiment
            def experiment(self) -> Any:
                return tracker.run

            @rank_zero_only
            def log_metrics(self, metrics: Any, step: int | None = None) -> None:
                tracker._try(lambda: super(EpochLogger, self).log_metrics(metrics, step))

        return [EpochLogger(project=self.project, save_dir=self.run_dir, id=run_id(self.run_dir.name))]

    def start(self) -> None:
        self._try(lambda: self.run)

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        import wandb

        self._try(lambda: self.run.log({name: wandb.Table(columns=list(columns), data=[list(row) for row in rows])}))

    def finish(self, metrics: dict[str, Any], data: SongDataModule, scores: np.ndarray) -> None:
        self._try(lambda: self._log_results(metrics, data, scores))
        self.close(exit_code=0)

    def close(self, exit_code: int) -> None:
        if self._run is not None:
            finish_run(self._run, exit_code)
            self._run = None
            self._failed = True  # do not start another one

    def _try(self, work: Callable[[], Any]) -> None:
        if self._failed:
            return
        try:
            work()
        except Exception as error:
            self._failed = True
            warnings.warn(
                f"Weights & Biases failed ({type(error).__name__}: {error}): nothing more is logged", stacklevel=3
            )

    def _log_results(self, metrics: dict[str, Any], data: SongDataModule, scores: np.ndarray) -> None:
        import wandb

        run, test = self.run, metrics["test"]
        run.summary.update(summary(metrics))
        columns = list(test["tags"][0])
        self.log_table("tags", columns, [[tag[column] for column in columns] for tag in test["tags"]])
        levels = min(40, TABLE_ROWS // max(len(test["tags"]), 1))
        rows = precision_recall_rows(scores, data.targets("test"), test["tags"], levels)
        if rows:
            curves = wandb.Table(columns=["tag", "recall", "precision"], data=rows)
            title = "Precision and recall"
            run.log({"pr_curves": wandb.plot.line(curves, "recall", "precision", stroke="tag", title=title)})
        if self.audio_songs:
            run.log({"songs": self._song_table(data, scores, [tag["name"] for tag in test["tags"]])})

    def _song_table(self, data: SongDataModule, scores: np.ndarray, names: list[str]) -> Any:
        """Songs spread evenly over the test set: audio, true tags and the five tags predicted highest."""
        import wandb

        targets = data.targets("test")
        classification = np.array([tag.kind == "classification" for tag in data.tags])
        chosen = np.linspace(0, len(scores) - 1, min(self.audio_songs, len(scores))).astype(int)
        table = wandb.Table(columns=["song", "audio", "true tags", "predicted tags"])
        for song in chosen:
            true = [names[k] for k in np.flatnonzero((targets[song] == 1) & classification)]
            best = [k for k in np.argsort(-scores[song]) if classification[k]][:5]
            table.add_data(
                str(data.song_ids("test")[song]),
                wandb.Audio(data.audio("test", song).astype(np.float32) / 32768, sample_rate=data.sample_rate),
                ", ".join(true),
                ", ".join(f"{names[k]} {scores[song, k]:.2f}" for k in best),
            )
        return table


def mlflow_logger(run_dir: Path, experiment_name: str = "musictag", tracking_uri: str | None = None) -> Logger:
    """Lightning's MLFlowLogger on the MLflow run that is named after the run folder, which is created if necessary.

    ``tracking_uri``: a server, a database or a folder; None: the default of MLflow.
    """
    from mlflow.tracking import MlflowClient
    from pytorch_lightning.loggers import MLFlowLogger

    found = []
    if is_rank_zero():
        client = MlflowClient(tracking_uri)
        experiment = client.get_experiment_by_name(experiment_name)
        if experiment is not None:
            same = f"attributes.run_name = '{run_dir.name}'"
            found = client.search_runs([experiment.experiment_id], same, max_results=1)

    class ResumedLogger(MLFlowLogger):
        def log_hyperparams(self, *_: Any, **__: Any) -> None:
            """MLflow has them, and refuses another value, as of data.num_workers."""

    kind = ResumedLogger if found and found[0].data.params else MLFlowLogger
    before = found[0].info.run_id if found else None
    return kind(experiment_name, run_dir.name, tracking_uri, run_id=before, save_dir=run_dir)


def make_tracker(config: dict[str, Any], run_dir: Path) -> Trackers:
    """The trackers of ``config["logger"]``; raises MusictagError for a part that is neither a Tracker nor a Logger of
    Lightning, or cannot be created."""
    given = {"config": config, "run_dir": run_dir, "save_dir": run_dir}
    trackers: list[Tracker] = []
    for name, spec in (config.get("logger") or {}).items():
        if spec is None:
            continue
        part = make(f"logger.{name}", spec, (Tracker, Logger), **given)
        trackers.append(part if isinstance(part, Tracker) else LightningTracker(part, config))
    return Trackers(trackers)


def summary(metrics: dict[str, Any]) -> dict[str, Any]:
    """The values of a finished run for a table of runs, flat, from its ``metrics.json``; without unknown values."""
    test, numbers = metrics["test"], {}
    for name in METRICS:
        entry = test.get(name) or {}
        numbers |= {f"test_{name}{suffix}": entry.get(key) for suffix, key in _SUFFIXES.items()}
    numbers["chance_pr_auc"] = test["chance_pr_auc"]
    numbers["tags_scored"] = test["tags_scored"]
    numbers |= {f"{split}_songs": count for split, count in metrics["songs"].items()}
    for key in ("parameters", "parameters_trained", "epochs", "best_epoch"):
        numbers[key] = metrics.get(key)
    for key in monitors():
        numbers[f"best_{key}"] = (metrics.get("validation") or {}).get(key)
    numbers |= metrics["speed"] | {f"seconds_{stage}": value for stage, value in metrics["seconds"].items()}
    return {key: value for key, value in numbers.items() if value is not None}


def precision_recall_rows(
    scores: np.ndarray, targets: np.ndarray, tags: list[dict[str, Any]], levels: int = 40
) -> list[tuple[str, float, float]]:
    """(tag, recall, precision) at up to ``levels`` thresholds of every tag with both classes; arrays S×K."""
    rows = []
    for k, tag in enumerate(tags):
        if tag["pr_auc"] is None:
            continue
        known = ~np.isnan(targets[:, k])
        true = targets[known, k][np.argsort(-scores[known, k], kind="stable")] == 1
        hits = np.cumsum(true)
        shown = np.unique(np.linspace(0, len(true) - 1, levels).astype(int))
        rows += [(tag["name"], float(hits[i] / hits[-1]), float(hits[i] / (i + 1))) for i in shown]
    return rows
