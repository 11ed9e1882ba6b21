"""The finished runs of a study, from their ``metrics.json`` and ``predictions.npz`` alone.

A *system* is what is compared: a published model, a front-end with a back-end, a baseline. A *factor* is a key of the
configuration that varies within a system (the number of training songs, of filters, ...), a *condition* one choice of
all factors, and a *cell* the runs of one system under one condition, which differ by seed. Legend: S songs, K tags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from musictag.common.errors import MusictagError
from musictag.evaluation.metrics import METRICS
from musictag.experiment.contract import FAMILIES
from musictag.experiment.identity import system_label, without
from musictag.experiment.results.files import Predictions, read_predictions, read_results
from musictag.experiment.run import make_run
from musictag.experiment.sweeps.study import find_studies, read_jobs

#: Keys that may differ between the runs of a system but are not factors of a study: the seed, duration and size.
_NO_FACTORS = ("seed", "baseline", "frontend._target_", "backend._target_", "data.num_songs")
_LABELS = {
    "data.train_songs": "training songs",
    "data.patch_seconds": "patch length (s)",
    "frontend.filter_multiplier": "front-end filters (times)",
    "frontend.num_filters": "front-end filters (n)",
    "backend.filters": "back-end filters",
    "backend.dense_units": "dense units",
    "evaluation.mode": "evaluation mode",
    "optimizer.lr": "learning rate",
    "trainer.max_epochs": "epochs",
    "trainer.batch_norm_shares": "separately normalised shares of a batch",
}


class Run:
    """A finished run. ``condition``: its values of the study's factors (None for a missing key)."""

    def __init__(self, folder: Path, metrics: Mapping[str, Any]) -> None:
        self.folder = folder
        self.metrics = metrics
        self.config: dict[str, Any] = metrics["config"]
        self.system = system_label(self.config)
        self.family: str = metrics["family"]
        self.seed: int = metrics["seed"]
        self.train_songs: int = metrics["songs"]["train"]
        self.parameters: int | None = metrics.get("parameters")
        self.epochs: int | None = metrics.get("epochs")  # None: not a network, which alone is trained in epochs
        self.condition: tuple[Any, ...] = ()
        #: What was taken over from a tuning study, see ``musictag.experiment.tuning``; None: nothing.
        self.tuned: dict[str, Any] | None = (self.config.get("tuning") or {}).get("taken")

    def __repr__(self) -> str:
        return f"Run({self.folder.name}: {self.system}, {self.condition}, seed {self.seed})"

    def value(self, metric: str) -> float | None:
        """The test score; None if the tags do not allow it, or if the run is older than the metric."""
        return (self.metrics["test"].get(metric) or {}).get("value")

    @cached_property
    def predictions(self) -> Predictions:
        """Read on first use. Raises MusictagError if the file is missing or damaged."""
        return read_predictions(self.folder)


class Study:
    """The finished runs that share a name, sorted by system, condition and seed.

    ``metrics``: keys of METRICS that all of them have and that are compared. ``headlines``: those of them that figures
    show. ``shown_metrics``: those that any run has and that tables show.
    """

    def __init__(self, name: str | None, runs: Sequence[Run]) -> None:
        self.name = name
        self.data: str = runs[0].metrics["data"]
        self.factors = _factors(runs)
        for run in runs:
            run.condition = tuple(_settings(run).get(key) for key in self.factors)
        found = {run.system: run.family for run in sorted(runs, key=lambda run: run.system)}
        self.systems = sorted(found, key=lambda system: FAMILIES.index(found[system]))
        self.conditions = sorted({run.condition for run in runs}, key=_sortable)
        self.runs = sorted(
            runs, key=lambda run: (self.systems.index(run.system), _sortable(run.condition), run.seed, run.folder.name)
        )
        self.seeds = sorted({run.seed for run in runs})
        self.metrics = [key for key in METRICS if all(run.value(key) is not None for run in runs)]
        self.headlines = [key for key in self.metrics if METRICS[key].headline]
        self.shown_metrics = [key for key in METRICS if any(run.value(key) is not None for run in runs)]
        self.test_songs: int = runs[0].metrics["songs"]["test"]

    def cell(self, system: str, condition: tuple[Any, ...]) -> list[Run]:
        """The runs of a system under a condition, one per seed; possibly empty."""
        return [run for run in self.runs if run.system == system and run.condition == condition]

    def family(self, system: str) -> str:
        return next(run.family for run in self.runs if run.system == system)

    @property
    def problems(self) -> list[str]:
        """Descriptions of the cells that lack seeds which others have."""
        missing = []
        for system in self.systems:
            for condition in self.conditions:
                seeds = len(self.cell(system, condition))
                is_ensemble = any("ensemble" in run.metrics for run in self.cell(system, condition))
                if 0 < seeds < len(self.seeds) and not is_ensemble:
                    missing.append(f"{system} {describe(self.factors, condition)}: {seeds} of {len(self.seeds)} seeds")
        return missing


def read_study(folder: Path, study: str | None = None) -> Study:
    """All finished runs of ``study`` below ``folder`` (None: all runs): made under its name, or in its list of jobs.

    Raises MusictagError if there is none, for runs on different data, test songs or tags, which cannot be compared,
    and for two runs with the same system, condition and seed, whose difference no table would show.
    """
    found = find_runs(folder)
    # a run that several studies share is made only once, under the name of the first
    listed = {
        path.parent / job["run"] for name, path in find_studies(folder) if name == study for job in read_jobs(path)
    }
    runs = [run for run in found if study is None or run.metrics["study"] == study or run.folder in listed]
    if not runs:
        studies = sorted({str(run.metrics["study"]) for run in found})
        there = f"; there are {len(found)} of the studies {', '.join(studies)}" if found else ""
        wanted = f" of study {study}" if study else ""
        raise MusictagError(f"there are no finished runs{wanted} in {folder}{there}")
    for meaning, of in (
        ("data set", lambda run: run.metrics["data"]),
        ("test set", lambda run: f"{run.metrics['songs']['test']} songs"),
        ("set of tags", lambda run: f"{len(run.metrics['test']['tags'])} tags"),
    ):
        if len(values := sorted({of(run) for run in runs})) > 1:
            raise MusictagError(
                f"the runs in {folder} have more than one {meaning} ({', '.join(values)}) and cannot be compared. "
                "Give each comparison its own name (study=...), and choose it with --study"
            )
    result = Study(study, runs)
    for one, other in zip(result.runs, result.runs[1:], strict=False):
        if (one.system, one.condition, one.seed) == (other.system, other.condition, other.seed):
            where = f"{one.system} with seed {one.seed} {describe(result.factors, one.condition)}".rstrip()
            raise MusictagError(
                f"{one.folder} and {other.folder} are both {where}, but with settings that no table would tell apart: "
                "give each setting its own study (study=...)"
            )
    return result


def find_runs(folder: Path) -> list[Run]:
    """Every finished run below ``folder``. Raises MusictagError if there is no such folder or a damaged run in it."""
    if not folder.is_dir():
        raise MusictagError(f"there is no folder {folder}")
    found = []
    for path in sorted(folder.glob("**/metrics.json")):
        metrics = read_results(path.parent)
        try:
            found.append(Run(path.parent, metrics))
        except (KeyError, TypeError) as error:
            raise MusictagError(f"{path} was not written by a run ({error}); move or delete it") from error
    return found


def factor_label(key: str) -> str:
    """A factor in words, for axes and tables."""
    return _LABELS.get(key, key.partition(".")[2].replace("_", " ") or key)


def describe(factors: Sequence[str], condition: Sequence[Any]) -> str:
    """A condition in words: "at 1,000 training songs"; empty where nothing varies."""
    parts = [
        f"{factor_label(key)} {value:,}" if isinstance(value, int) else f"{factor_label(key)} {value}"
        for key, value in zip(factors, condition, strict=True)
        if value is not None
    ]
    return f"({', '.join(parts)})" if parts else ""


def _factors(runs: Sequence[Run]) -> list[str]:
    """The keys whose values vary within a system."""
    values: dict[str, dict[str, set[str]]] = {}
    for run in runs:
        for key, value in _settings(run).items():
            values.setdefault(key, {}).setdefault(run.system, set()).add(repr(value))
    skipped = tuple(f"{key}." for key in _NO_FACTORS)
    return sorted(
        key
        for key, by_system in values.items()
        if key not in _NO_FACTORS and not key.startswith(skipped) and any(len(seen) > 1 for seen in by_system.values())
    )


def _settings(run: Run) -> dict[str, Any]:
    """Dotted keys of what the run depends on: a baseline has no network, and "all songs" becomes their number."""
    decides = make_run(run.config).deciding(run.metrics["locations"])
    # what was taken over from a tuning study follows from system and size: it is no factor
    decides = without(decides, (run.tuned or {}).get("settings", ()))
    return _flat(decides) | {"data.train_songs": run.train_songs}


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = tuple(value) if isinstance(value, list) else value
    return flat


def _sortable(condition: Sequence[Any]) -> tuple[tuple[int, float, str], ...]:
    """Sorts None first, then numbers, then words."""
    return tuple(
        (0, 0.0, "")
        if value is None
        else (1, float(value), "")
        if isinstance(value, int | float)
        else (2, 0.0, str(value))
        for value in condition
    )
