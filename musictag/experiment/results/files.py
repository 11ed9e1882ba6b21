"""What a finished run leaves on disk: ``metrics.json`` (written last), ``predictions.npz`` and plots.

Tables and figures of reports need no other files.
"""

from __future__ import annotations

import json
import platform
import subprocess
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from musictag.common.errors import MusictagError
from musictag.common.files import atomic_write, write_json
from musictag.common.processes import is_rank_zero
from musictag.data.loading.datamodule import SongDataModule
from musictag.evaluation.calibration import calibration_summary
from musictag.evaluation.metrics import METRICS
from musictag.evaluation.plots import plot_tags
from musictag.evaluation.song_metrics import song_metrics
from musictag.experiment.code_versions import code_versions
from musictag.experiment.results.tagger_facts import tagger_facts
from musictag.experiment.run_folder import lock_run

PACKAGES = (
    "musictag", "torch", "torchaudio", "pytorch-lightning", "torchmetrics", "hydra-core", "omegaconf", "numpy",
    "soundfile", "av",
)  # fmt: skip


#: Arrays of predictions.npz with scores and targets of the validation songs, which ensembles are calibrated with.
VALIDATION = ("validation_scores", "validation_targets")


def read_results(run_dir: Path) -> dict[str, Any] | None:
    """The metrics of a finished run; None if it has not finished. Raises MusictagError if the file is damaged or cannot
    be read."""
    path = run_dir / "metrics.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or "test" not in content:
            raise ValueError("it holds no test scores")
        return content
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise MusictagError(
            f"cannot read {path}: {error.strerror}; choose another folder for results with runs_dir=..."
        ) from error
    except ValueError as error:
        raise MusictagError(f"{path} is damaged: {error}. Delete it and rerun the command.") from error


@dataclass(frozen=True)
class Predictions:
    """``song_ids`` S, ``tags`` K, ``kinds`` K (classification | regression), ``scores`` and ``targets`` float32 S×K."""

    song_ids: np.ndarray
    tags: np.ndarray
    kinds: np.ndarray
    scores: np.ndarray
    targets: np.ndarray  # NaN: unknown


def read_predictions(run_dir: Path) -> Predictions:
    """The predictions of a finished run on its test songs. Raises MusictagError if the file is missing or damaged."""
    path = run_dir / "predictions.npz"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = Predictions(**{name: arrays[name] for name in Predictions.__dataclass_fields__})
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise MusictagError(f"{path} cannot be read ({error}); delete the folder and rerun the command") from error
    shape = (len(found.song_ids), len(found.tags))
    if found.scores.shape != shape or found.targets.shape != shape or len(found.kinds) != len(found.tags):
        raise MusictagError(
            f"{path} is damaged: its arrays do not fit together; delete the folder and rerun the command"
        )
    return found


def results_as_asked(run_dir: Path, config: dict[str, Any]) -> dict[str, Any] | None:
    """The metrics of a finished run with the intervals and the label that ``config`` asks for; None if not finished.

    Intervals with other settings, and metrics that were added since, are recomputed from the predictions and written,
    without training and without a change of the other scores; a label is only replaced by another one.
    Raises MusictagError for damaged files, RunLocked while another process writes.
    """
    metrics = read_results(run_dir)
    if metrics is None or not is_rank_zero():
        return metrics
    label = config.get("label")
    if label is not None and label != metrics["config"].get("label"):
        with lock_run(run_dir):
            metrics = _with_config(run_dir, metrics, {"label": label})
    if has_intervals(metrics, config):
        return metrics
    with lock_run(run_dir):
        return _with_intervals(run_dir, metrics, config)


def has_intervals(metrics: dict[str, Any], config: dict[str, Any]) -> bool:
    """Whether the intervals of finished results are those that ``config`` asks for, of all metrics."""
    found, asked = metrics["test"], config["evaluation"]
    intervals = (found["resamples"], found["confidence"]) == (asked["bootstrap_resamples"], asked["confidence"])
    return intervals and all(key in found for key in METRICS)


def _with_intervals(run_dir: Path, before: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    found = read_predictions(run_dir)
    asked = {name: config["evaluation"][name] for name in ("bootstrap_resamples", "confidence")}
    test = song_metrics(found.scores, found.targets, found.tags.tolist(), found.kinds.tolist(), **intervals(config))
    known = [key for key in METRICS if key in before["test"]]
    if _scores(test, known) != _scores(before["test"], known):
        raise MusictagError(
            f"{run_dir / 'predictions.npz'} and metrics.json in the same folder do not belong together: no "
            "intervals can be computed; delete the folder and rerun the command"
        )
    plot_tags(test, run_dir / "tags.png")
    return _with_config(run_dir, before | {"test": test}, {"evaluation": before["config"]["evaluation"] | asked})


def _with_config(run_dir: Path, metrics: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    """Write the metrics, and the changed configuration in both files."""
    config = metrics["config"] | changed
    write_json(run_dir / "config.json", config)
    content = metrics | {"config": config}
    write_json(run_dir / "metrics.json", content)  # last: until then the previous content is valid
    return content


def _scores(test: dict[str, Any], keys: Sequence[str]) -> list[float | None]:
    return [test[key] and round(test[key]["value"], 9) for key in keys]


def intervals(config: dict[str, Any]) -> dict[str, Any]:
    """What ``config`` says about intervals, as ``song_metrics`` takes it."""
    asked = config["evaluation"]
    return {
        "resamples": asked["bootstrap_resamples"],
        "confidence": asked["confidence"],
        "seed": config["seeds"]["order"],
    }


def write_scores(
    run_dir: Path,
    *,
    config: dict[str, Any],
    data: SongDataModule,
    scores: np.ndarray,
    validation_scores: np.ndarray,
    own: dict[str, Any],
    device: str,
    on_scored: Callable[[dict[str, Any]], None],
    packages: Sequence[str] = PACKAGES,
) -> dict[str, Any]:
    """Write what every kind of run leaves: predictions, the plot of the tags and, last, ``metrics.json``; returns the
    content of the latter.

    ``scores`` and ``validation_scores``: float32 S×K, in the order of the songs of both splits. ``own``: what else the
    file says of this kind of run. ``on_scored`` is called, before that file says that the run is finished, with what
    the file of the tagger is to say: see ``tagger_facts``.
    """
    targets, names, kinds = data.targets("test"), [tag.name for tag in data.tags], [tag.kind for tag in data.tags]
    validation = validation_scores, data.targets("validation")
    write_predictions(run_dir / "predictions.npz", data.song_ids("test"), names, kinds, scores, targets, validation)
    metrics = song_metrics(scores, targets, names, kinds, **intervals(config))
    plot_tags(metrics, run_dir / "tags.png")
    facts = tagger_facts(data, metrics, validation_scores)
    on_scored(facts)
    content = {
        "run": run_dir.name,
        "data": data.source.name,
        "locations": list(data.source.locations),
        "frontend": config["names"]["frontend"],
        "backend": config["names"]["backend"],
        "baseline": config["names"]["baseline"],
        "seed": config["seed"],
        "seeds": {name: config["seeds"].get(name) for name in ("subset", "initialisation", "order")},
        "study": config["study"],
        "songs": {split: len(data.song_ids(split)) for split in ("train", "validation", "test")},
        "songs_unusable": len(data.problems),
        "overlap": data.overlap,
        "tags_unlearnt": list(data.unlearnt_tags),
        "test": metrics,
        "calibration": calibration_summary(facts["calibration"]["tags"], scores, targets, kinds),
        **own,
        "device": device,
        **machine_and_code(packages, code_versions(config)),
        "config": config,
    }
    write_json(run_dir / "metrics.json", content)
    return content


def write_predictions(
    path: Path,
    song_ids: np.ndarray,
    names: Sequence[str],
    kinds: Sequence[str],
    scores: np.ndarray,
    targets: np.ndarray,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
) -> None:
    """``song_ids`` S, ``tags`` K, ``kinds`` K, ``scores`` and ``targets`` S×K (NaN: unknown), the latter two also of
    the ``validation`` songs where they are known; no pickles inside."""
    of_validation = {} if validation is None else dict(zip(VALIDATION, validation, strict=True))
    with atomic_write(path) as file:
        np.savez_compressed(
            file,
            song_ids=np.asarray(song_ids, dtype=str),
            tags=np.asarray(names, dtype=str),
            kinds=np.asarray(kinds, dtype=str),
            scores=scores.astype(np.float32),
            targets=targets.astype(np.float32),
            **{name: values.astype(np.float32) for name, values in of_validation.items()},
        )


def machine_and_code(packages: Sequence[str] = PACKAGES, own: Mapping[str, str] | None = None) -> dict[str, Any]:
    """``machine``, ``versions`` of Python, ``packages`` and one's ``own`` code, and ``git``, for metrics.json."""
    versions = {"python": platform.python_version()} | {name: version(name) for name in packages} | dict(own or {})
    return {"machine": platform.platform(), "versions": versions, "git": _git_state()}


def _git_state() -> dict[str, Any] | None:
    """Commit of the working folder and whether files differ from it; None outside a git checkout."""

    def git(*words: str) -> str:
        return subprocess.run(("git", *words), capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
