"""Weights & Biases, beside the files that every run writes anyway.

One W&B run a run folder: its id is the folder's name, so that a resumed run goes on in the same one, and runs of one
study share a group. Legend: S songs, K tags.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from musictag.errors import MusictagError
from musictag.evaluation.registry import METRICS, monitors
from musictag.ranks import rank_zero_only
from musictag.report.runs import system_label
from musictag.wandb_runs import finish_run, run_id, start_run

if TYPE_CHECKING:
    from musictag.data.datamodule import SongData

KINDS = ("csv", "wandb")
_WANDB_KEYS = ("kind", "project", "entity", "audio_songs", "start_seconds")
TABLE_ROWS = 10_000  # of a logged table that W&B shows
_SUFFIXES = {"": "value", "_low": "low", "_high": "high"}


def curve_names() -> tuple[str, ...]:
    """What is logged each epoch."""
    return "train_loss", *monitors(), "learning_rate", "patches_per_second"


class Tracker:
    """Does nothing beyond the files of the run folder: ``logger=csv``."""

    lightning: Any = False  # what Lightning's Trainer takes as its logger

    def start(self) -> None:
        """Work begins. With a Trainer there is no need to say so. Rank 0."""

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """One more table, before ``finish``. Rank 0."""

    def finish(self, metrics: dict[str, Any], data: SongData, scores: np.ndarray) -> None:
        """The run is finished. ``metrics`` as in metrics.json, ``scores`` float32 S×K of the test songs. Rank 0."""

    def close(self, exit_code: int) -> None:
        """Let go of everything, also after a failure."""


class WandbTracker(Tracker):
    """``logger=wandb``: configuration, curves, per-tag table, precision-recall curves, test songs with audio.

    It runs online or offline as ``musictag.wandb_runs`` decides. Once W&B fails, it says so and logs nothing more:
    what is shown elsewhere is no reason to lose a training.
    """

    def __init__(self, config: dict[str, Any], run_dir: Path) -> None:
        self.config = config
        self.settings = config["logger"]
        self.run_dir = run_dir
        self._run: Any = None
        self._failed = False

    @property
    def run(self) -> Any:
        """The W&B run, which begins when it is first asked for: a setting that stops everything leaves none behind."""
        if self._run is None:
            names = self.config["names"]
            kept = ("model", "baseline") if names.get("baseline") else ("model", "frontend", "backend", "probe")
            self._run = start_run(
                self.run_dir,
                start_seconds=self.settings["start_seconds"],
                project=self.settings["project"],
                entity=self.settings["entity"],
                name=self.run_dir.name,
                id=run_id(self.run_dir.name),
                group=self.config["study"],
                job_type="train",
                tags=list(dict.fromkeys(names[key] for key in kept if names[key])),
                config=self.config | {"system": system_label(self.config)},
            )
            self._run.define_metric("epoch")
            for name in curve_names():
                self._run.define_metric(name, step_metric="epoch")
        return self._run

    @cached_property
    def lightning(self) -> Any:
        from pytorch_lightning.loggers import WandbLogger
        from pytorch_lightning.loggers.logger import rank_zero_experiment

        tracker = self

        class EpochLogger(WandbLogger):
            """Lightning's logger on the run of this tracker."""

            @property
            @rank_zero_experiment
            def experiment(self) -> Any:
                return tracker.run

            @rank_zero_only
            def log_hyperparams(self, params: Any) -> None:
                tracker._try(lambda: super(EpochLogger, self).log_hyperparams(params))

            @rank_zero_only
            def log_metrics(self, metrics: Any, step: int | None = None) -> None:
                tracker._try(lambda: super(EpochLogger, self).log_metrics(metrics, step))

        return EpochLogger(project=self.settings["project"], save_dir=self.run_dir, id=run_id(self.run_dir.name))

    def start(self) -> None:
        self._try(lambda: self.run)

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        import wandb

        self._try(lambda: self.run.log({name: wandb.Table(columns=list(columns), data=[list(row) for row in rows])}))

    def finish(self, metrics: dict[str, Any], data: SongData, scores: np.ndarray) -> None:
        self._try(lambda: self._log_results(metrics, data, scores))
        self.close(exit_code=0)

    def close(self, exit_code: int) -> None:
        if self._run is not None:
            finish_run(self._run, exit_code)
            self._run = None
            self._failed = True  # nothing may begin another one

    def _try(self, work: Callable[[], Any]) -> None:
        if self._failed:
            return
        try:
            work()
        except Exception as error:
            self._failed = True
            warnings.warn(f"Weights & Biases failed ({type(error).__name__}: {error}): not logging on", stacklevel=3)

    def _log_results(self, metrics: dict[str, Any], data: SongData, scores: np.ndarray) -> None:
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
        if self.settings["audio_songs"]:
            run.log({"songs": self._song_table(data, scores, [tag["name"] for tag in test["tags"]])})

    def _song_table(self, data: SongData, scores: np.ndarray, names: list[str]) -> Any:
        """Songs spread evenly over the test set: audio, true tags and the five tags predicted highest."""
        import wandb

        targets = data.targets("test")
        classification = np.array([tag.kind == "classification" for tag in data.tags])
        chosen = np.linspace(0, len(scores) - 1, min(self.settings["audio_songs"], len(scores))).astype(int)
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


def make_tracker(config: dict[str, Any], run_dir: Path) -> Tracker:
    """The tracker that ``config["logger"]`` asks for; raises MusictagError for a kind or key that does not exist."""
    settings = config["logger"]
    if settings["kind"] not in KINDS:
        raise MusictagError(f"logger.kind={settings['kind']} does not exist; choose one of {', '.join(KINDS)}")
    allowed = _WANDB_KEYS if settings["kind"] == "wandb" else ("kind",)
    if unknown := set(settings) - set(allowed):
        raise MusictagError(f"logger has no key {', '.join(sorted(unknown))}; it has {', '.join(allowed)}")
    return WandbTracker(config, run_dir) if settings["kind"] == "wandb" else Tracker()


def summary(metrics: dict[str, Any]) -> dict[str, Any]:
    """What the table of runs shows of a finished run, flat, from its ``metrics.json``; without what is unknown."""
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
