"""What a finished run leaves on disk: ``metrics.json`` (written last), ``predictions.npz`` and two pictures.

Tables and figures are made from these files alone.
"""

from __future__ import annotations

import csv
import json
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from musictag.data.datamodule import SongData
from musictag.errors import MusictagError
from musictag.files import atomic_write, write_json
from musictag.metrics import song_metrics
from musictag.plots import plot_curves, plot_tags
from musictag.tagger import Tagger

PACKAGES = (
    "musictag", "torch", "torchaudio", "pytorch-lightning", "torchmetrics", "hydra-core", "omegaconf", "numpy",
    "soundfile", "av",
)  # fmt: skip


def read_results(run_dir: Path) -> dict[str, Any] | None:
    """The metrics of a finished run; None if it has not finished. Raises MusictagError if the file is damaged, or where
    nothing can be read."""
    path = run_dir / "metrics.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or "test" not in content:
            raise ValueError("it holds no test scores")
        return content
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise MusictagError(f"cannot read {path}: {error.strerror}; another place for results: runs_dir=...") from error
    except ValueError as error:
        raise MusictagError(f"{path} is damaged: {error}. Delete it and type the same command again.") from error


def write_results(
    run_dir: Path,
    *,
    config: dict[str, Any],
    data: SongData,
    tagger: Tagger,
    scores: np.ndarray,
    history: list[dict[str, Any]],
    best_epoch: int,
    seconds: dict[str, float],
    device: str,
) -> dict[str, Any]:
    """Score the test songs and write everything; returns the content of ``metrics.json``.

    ``scores``: float32 S×K song scores, in the order of the test songs. ``seconds``: wall-clock seconds of the stages.
    """
    train_seconds = sum(row["seconds"] for row in history)
    patches = sum(row["patches"] for row in history)
    # once more: a run that is resumed after its last epoch has not written it, and what lies there may be damaged
    write_history(run_dir / "history.csv", history)
    plot_curves(history, run_dir / "curves.png", best_epoch=best_epoch)
    own = {
        "validation": history[best_epoch],
        "epochs": len(history),
        "best_epoch": best_epoch,
        "parameters": sum(p.numel() for p in tagger.parameters()),
        "parameters_trained": sum(p.numel() for p in tagger.parameters() if p.requires_grad),
        "speed": {
            "train_audio_seconds_per_second": patches * tagger.patch_seconds / max(train_seconds, 1e-9),
            "test_audio_seconds_per_second": data.audio_seconds("test") / max(seconds["test"], 1e-9),
        },
        "seconds": {name: round(value, 3) for name, value in seconds.items()} | {"epochs": round(train_seconds, 3)},
    }
    return write_scores(run_dir, config=config, data=data, scores=scores, own=own, device=device, packages=PACKAGES)


def write_scores(
    run_dir: Path,
    *,
    config: dict[str, Any],
    data: SongData,
    scores: np.ndarray,
    own: dict[str, Any],
    device: str,
    packages: Sequence[str],
) -> dict[str, Any]:
    """What networks and baselines leave alike: predictions, the picture of the tags and, last, ``metrics.json``.

    ``scores``: float32 S×K, in the order of the test songs. ``own``: what else the file tells of this kind of model.
    """
    targets, names, kinds = data.targets("test"), [tag.name for tag in data.tags], [tag.kind for tag in data.tags]
    write_predictions(run_dir / "predictions.npz", data.song_ids("test"), names, kinds, scores, targets)
    evaluation = config["evaluation"]
    metrics = song_metrics(
        scores,
        targets,
        names,
        kinds,
        resamples=evaluation["bootstrap_resamples"],
        confidence=evaluation["confidence"],
        seed=config["seed"],
    )
    plot_tags(metrics, run_dir / "tags.png")
    content = {
        "run": run_dir.name,
        "data": data.source.name,
        "frontend": config["names"]["frontend"],
        "backend": config["names"]["backend"],
        "baseline": config["names"]["baseline"],
        "seed": config["seed"],
        "study": config["study"],
        "songs": {split: len(data.song_ids(split)) for split in ("train", "validation", "test")},
        "songs_unusable": len(data.problems),
        "test": metrics,
        **own,
        "device": device,
        "machine": platform.platform(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "git": git_state(),
        "config": config,
    }
    write_json(run_dir / "metrics.json", content)
    return content


def write_history(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """One row an epoch, with the keys of the first as columns."""
    with atomic_write(path, "w") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_predictions(
    path: Path,
    song_ids: np.ndarray,
    names: Sequence[str],
    kinds: Sequence[str],
    scores: np.ndarray,
    targets: np.ndarray,
) -> None:
    """``song_ids`` S, ``tags`` K, ``kinds`` K, ``scores`` and ``targets`` S×K (NaN: unknown); no pickles inside."""
    with atomic_write(path) as file:
        np.savez_compressed(
            file,
            song_ids=np.asarray(song_ids, dtype=str),
            tags=np.asarray(names, dtype=str),
            kinds=np.asarray(kinds, dtype=str),
            scores=scores.astype(np.float32),
            targets=targets.astype(np.float32),
        )


def git_state() -> dict[str, Any] | None:
    """Commit of the working folder and whether files differ from it; None outside a git checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ("git", *arguments), capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
