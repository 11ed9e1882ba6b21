"""Weights & Biases, beside the files that every run writes anyway.

One W&B run a run folder: its id is the folder's name, so that a resumed run goes on in the same one, and runs of one
study share a group. Legend: S songs, K tags.
"""

from __future__ import annotations

import netrc
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from musictag.errors import MusictagError
from musictag.ranks import rank_zero_say

if TYPE_CHECKING:
    from musictag.data.datamodule import SongData

KINDS = ("csv", "wandb")
_WANDB_KEYS = ("kind", "project", "entity", "audio_songs")


class Tracker:
    """Does nothing beyond the files of the run folder: ``logger=csv``."""

    lightning: Any = False  # what Lightning's Trainer takes as its logger

    def finish(self, metrics: dict[str, Any], data: SongData, scores: np.ndarray) -> None:
        """The run is finished. ``metrics`` as in metrics.json, ``scores`` float32 S×K of the test songs. Rank 0."""

    def close(self, exit_code: int) -> None:
        """Let go of everything, also after a failure."""


class WandbTracker(Tracker):
    """``logger=wandb``: configuration, curves, per-tag table, precision-recall curves, test songs with audio.

    Without an API key (environment, netrc) or with WANDB_MODE=offline it records offline, and says where.
    """

    def __init__(self, config: dict[str, Any], run_dir: Path) -> None:
        from pytorch_lightning.loggers import WandbLogger

        self.settings = config["logger"]
        mode = os.environ.get("WANDB_MODE") or ("online" if has_api_key() else "offline")
        run_dir.mkdir(parents=True, exist_ok=True)
        if mode == "offline":
            # the audio of the song table waits for its upload beside the rest, not in the home directory
            os.environ["WANDB_DATA_DIR"] = str(run_dir.resolve() / "wandb")
        self.lightning = WandbLogger(
            project=self.settings["project"],
            entity=self.settings["entity"],
            name=run_dir.name,
            id=run_dir.name.replace("_", "-"),
            group=config["study"],
            save_dir=run_dir,
            offline=mode == "offline",
            job_type="train",
            tags=[config["names"]["frontend"], config["names"]["backend"]],
            config=config,
            settings={"silent": True},
        )
        if mode == "offline":
            folder = run_dir / "wandb"
            rank_zero_say(
                f"Weights & Biases: recording offline in {folder}; upload with: wandb sync {folder}/offline-*"
            )

    def finish(self, metrics: dict[str, Any], data: SongData, scores: np.ndarray) -> None:
        import wandb

        run = self.lightning.experiment
        test = metrics["test"]
        for name in ("roc_auc", "pr_auc", "rmse"):
            if test[name] is not None:
                run.summary[f"test_{name}"] = test[name]["value"]
                run.summary[f"test_{name}_low"] = test[name]["low"]
                run.summary[f"test_{name}_high"] = test[name]["high"]
        run.summary["chance_pr_auc"] = test["chance_pr_auc"]
        run.summary["parameters"] = metrics["parameters"]
        run.summary.update(metrics["speed"])
        columns = list(test["tags"][0])
        run.log(
            {"tags": wandb.Table(columns=columns, data=[[tag[column] for column in columns] for tag in test["tags"]])}
        )
        curves = wandb.Table(
            columns=["tag", "recall", "precision"],
            data=precision_recall_rows(scores, data.targets("test"), test["tags"]),
        )
        run.log(
            {"pr_curves": wandb.plot.line(curves, "recall", "precision", stroke="tag", title="Precision and recall")}
        )
        if self.settings["audio_songs"]:
            run.log({"songs": self._song_table(data, scores, [tag["name"] for tag in test["tags"]])})
        self.close(exit_code=0)

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

    def close(self, exit_code: int) -> None:
        import wandb

        if wandb.run is not None:
            wandb.finish(exit_code=exit_code)


def make_tracker(config: dict[str, Any], run_dir: Path) -> Tracker:
    """The tracker that ``config["logger"]`` asks for; raises MusictagError for a kind or key that does not exist."""
    settings = config["logger"]
    if settings["kind"] not in KINDS:
        raise MusictagError(f"logger.kind={settings['kind']} does not exist; choose one of {', '.join(KINDS)}")
    allowed = _WANDB_KEYS if settings["kind"] == "wandb" else ("kind",)
    if unknown := set(settings) - set(allowed):
        raise MusictagError(f"logger has no key {', '.join(sorted(unknown))}; it has {', '.join(allowed)}")
    return WandbTracker(config, run_dir) if settings["kind"] == "wandb" else Tracker()


def has_api_key() -> bool:
    """Whether W&B would find an API key, without asking anybody: environment, or netrc as `wandb login` writes it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


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
