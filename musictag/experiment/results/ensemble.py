"""The mean of several finished runs as a run of its own: a tagger, and a row of reports. Nothing is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musictag.common.errors import MusictagError
from musictag.common.files import write_json
from musictag.evaluation.calibration import calibrate, calibration_summary
from musictag.evaluation.plots import plot_tags
from musictag.evaluation.song_metrics import song_metrics
from musictag.experiment.identity import system_label
from musictag.experiment.results.files import (
    VALIDATION,
    Predictions,
    intervals,
    read_predictions,
    read_results,
    write_predictions,
)
from musictag.inference.ensemble import write_members
from musictag.inference.load import load
from musictag.models.pretrained import ENSEMBLE_FILE, locate

#: What metrics.json says of an ensemble as of its first member: nothing of it may differ but the device and versions.
_SHARED = (
    "data", "locations", "frontend", "backend", "baseline", "songs", "songs_unusable", "tags_unlearnt", "device",
    "machine", "versions", "git",
)  # fmt: skip
#: What its members must have in common, in words.
_SAME: dict[str, Callable[[dict[str, Any]], Any]] = {
    "data set": lambda metrics: metrics["data"],
    "number of training songs": lambda metrics: metrics["songs"]["train"],
    # baselines have none
    "evaluation.mode": lambda metrics: metrics["config"]["evaluation"].get("mode", "patches"),
}


def make_ensemble(runs: Sequence[Path], folder: Path) -> dict[str, Any]:
    """Write the ensemble of finished ``runs`` to ``folder``: its members, predictions and, last, ``metrics.json``,
    whose content is returned. Another ensemble in the folder is replaced.

    The system of the new run is called after its members. Raises MusictagError for fewer than two runs or one that is
    given twice, one that has not finished or is an ensemble, and runs on other data, songs or tags.
    """
    _check_folders(runs, folder)
    found = [(run, _finished(run), read_predictions(run)) for run in runs]
    first_run, first, predictions = found[0]
    for run, metrics, own in found[1:]:
        for what, value in _SAME.items():
            if value(metrics) != value(first):
                raise MusictagError(
                    f"{first_run} and {run} differ in their {what}: {value(first)} and {value(metrics)}; an ensemble "
                    "needs runs that have it in common"
                )
        if difference := _difference(predictions, own):
            raise MusictagError(f"{first_run} and {run} have {difference}, and no mean makes sense")
    scores = np.mean([own.scores for _, _, own in found], axis=0, dtype=np.float64).astype(np.float32)
    models = [locate(run) for run in runs]
    (folder / "metrics.json").unlink(missing_ok=True)  # until it is written again, nothing here is finished
    tags, kinds = predictions.tags.tolist(), predictions.kinds.tolist()
    validation = _mean_of_validation(runs)
    write_predictions(
        folder / "predictions.npz", predictions.song_ids, tags, kinds, scores, predictions.targets, validation
    )
    seed = (first.get("seeds") or {}).get("order", first["seed"])
    asked = intervals(first["config"] | {"seeds": {"order": seed}})
    test = song_metrics(scores, predictions.targets, tags, kinds, **asked)
    plot_tags(test, folder / "tags.png")
    # of which songs differs between the members
    facts: dict[str, Any] = {"training": {"data": first["data"], "songs": first["songs"]["train"]}}
    content = _described([metrics for _, metrics, _ in found]) | {"run": folder.name, "test": test}
    if validation is not None:
        of_first = load(models[0]).calibration  # what is familiar depends on the validation songs alone
        facts["calibration"] = {"tags": calibrate(*validation, kinds), "familiarity": of_first["familiarity"]}
        summary = calibration_summary(facts["calibration"]["tags"], scores, predictions.targets, kinds)
        content["calibration"] = summary
    write_members(folder, models, facts)
    write_json(folder / "metrics.json", content)
    return content


def _mean_of_validation(runs: Sequence[Path]) -> tuple[np.ndarray, np.ndarray] | None:
    """Mean scores of the members on the validation songs, and their targets, S×K; None if a run did not keep them, or
    had others."""
    kept = []
    for run in runs:
        with np.load(run / "predictions.npz", allow_pickle=False) as arrays:
            if not all(name in arrays for name in VALIDATION):
                return None
            kept.append(tuple(arrays[name] for name in VALIDATION))
        if not np.array_equal(kept[-1][1], kept[0][1], equal_nan=True):
            return None
    return np.mean([scores for scores, _ in kept], axis=0), kept[0][1]


def _check_folders(runs: Sequence[Path], folder: Path) -> None:
    if len(runs) < 2:
        raise MusictagError("an ensemble needs at least two runs")
    if len({run.resolve() for run in runs}) < len(runs):
        raise MusictagError("a run is given twice; an ensemble needs different ones")
    if (folder / "metrics.json").exists() and not (folder / ENSEMBLE_FILE).exists():
        raise MusictagError(f"{folder} contains a run that is not an ensemble; choose another folder with --out")


def _finished(run: Path) -> dict[str, Any]:
    metrics = read_results(run)
    if metrics is None:
        raise MusictagError(f"{run} is not the folder of a finished run: it has no metrics.json")
    if "ensemble" in metrics:
        raise MusictagError(f"{run} is an ensemble already; give the runs that it was made of")
    return metrics


def _difference(one: Predictions, other: Predictions) -> str | None:
    """What keeps the scores of two runs from being averaged, in words."""
    if not np.array_equal(one.tags, other.tags) or not np.array_equal(one.kinds, other.kinds):
        return f"other tags ({len(one.tags)} and {len(other.tags)}, or in another order)"
    if not np.array_equal(one.song_ids, other.song_ids):
        return f"other test songs ({len(one.song_ids)} and {len(other.song_ids)})"
    if not np.array_equal(one.targets, other.targets, equal_nan=True):
        return "other labels of the test songs"
    return None


def _described(members: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What metrics.json says of the ensemble, beyond the scores."""
    first, config = members[0], members[0]["config"]
    labels = list(dict.fromkeys(system_label(metrics["config"]) for metrics in members))
    names = config["names"] | {"model": f"mean of {len(members)} {' and '.join(labels)}", "baseline": None}
    studies, kinds = ({metrics[key] for metrics in members} for key in ("study", "family"))
    seconds = {key for metrics in members for key in metrics["seconds"]}
    sizes = [metrics["parameters"] for metrics in members]
    return {key: first[key] for key in _SHARED if key in first} | {
        "ensemble": [metrics["run"] for metrics in members],
        "seed": first["seed"],
        "study": studies.pop() if len(studies) == 1 else None,
        "family": kinds.pop() if len(kinds) == 1 else first["family"],
        "input": " and ".join(dict.fromkeys(metrics["input"] for metrics in members)),
        "validation": None,
        "epochs": None,
        "best_epoch": None,
        "parameters": None if None in sizes else sum(sizes),
        "speed": {
            "train_audio_seconds_per_second": None,
            "test_audio_seconds_per_second": 1
            / sum(1 / metrics["speed"]["test_audio_seconds_per_second"] for metrics in members),
        },
        "seconds": {key: sum(metrics["seconds"].get(key) or 0.0 for metrics in members) for key in sorted(seconds)},
        "config": config | {"names": names, "init_from": None, "teacher": None, "distillation": None},
    }
