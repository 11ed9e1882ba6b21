"""The finished runs of a study, from their ``metrics.json`` and ``predictions.npz`` alone.

A *system* is what is compared: a published model, a front-end with a back-end, a baseline. A *factor* is a key of the
configuration that varies within a system (the number of training songs, of filters, ...), a *condition* one choice of
all factors, and a *cell* the runs of one system under one condition, which differ by seed. Many settings are
one factor, whose values are names: see ``musictag.report.settings``. Legend: S songs, K tags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

from musictag.common.errors import MusictagError
from musictag.evaluation.metrics import METRICS
from musictag.experiment.contract import FAMILIES
from musictag.experiment.identity import canonical, system_label
from musictag.experiment.results.files import Predictions, read_predictions, read_results
from musictag.experiment.sweeps.study import find_studies, read_jobs
from musictag.report.settings import Settings, read_settings
from musictag.report.wording import SIZE, setting

#: More incomplete cells are counted instead of listed.
_MOST_PROBLEMS = 4


class Run:
    """A finished run. ``condition``: its values of the study's factors (None for a missing key)."""

    def __init__(self, folder: Path, metrics: Mapping[str, Any]) -> None:
        self.folder = folder
        self.metrics = metrics
        self.config: dict[str, Any] = metrics["config"]
        self.system = system_label(self.config)
        self.family: str = metrics["family"]
        self.seed = _seed(metrics)
        self.train_songs: int = metrics["songs"]["train"]
        self.parameters: int | None = metrics.get("parameters")
        self.epochs: int | None = metrics.get("epochs")  # None: not a network, which alone is trained in epochs
        self.label: str | None = self.config.get("label")
        self.settings = read_settings(self.config, metrics["locations"], self.train_songs)
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

    ``keys``: the settings that vary within a system; ``legend``: their named combinations, where they are one factor.
    ``metrics``: keys of METRICS that all of them have and that are compared. ``headlines``: those of them that figures
    show. ``shown_metrics``: those that any run has and that tables show.
    """

    def __init__(self, name: str | None, runs: Sequence[Run]) -> None:
        self.name = name
        self.data: str = runs[0].metrics["data"]
        _leave_out_tuned(runs)
        settings = Settings([run.settings for run in runs], [run.system for run in runs], [run.label for run in runs])
        self.factors, self.keys, self.legend = settings.factors, settings.keys, settings.legend
        for run, condition in zip(runs, settings.conditions, strict=True):
            run.condition = condition
        found = {run.system: run.family for run in sorted(runs, key=lambda run: run.system)}
        self.systems = sorted(found, key=lambda system: FAMILIES.index(found[system]))
        self.conditions = sorted({run.condition for run in runs}, key=settings.order)
        places = {condition: place for place, condition in enumerate(self.conditions)}
        self.runs = sorted(
            runs, key=lambda run: (self.systems.index(run.system), places[run.condition], run.seed, run.folder.name)
        )
        self.seeds = sorted({run.seed for run in runs if run.seed >= 0})
        self.metrics = [key for key in METRICS if all(run.value(key) is not None for run in runs)]
        self.headlines = [key for key in self.metrics if METRICS[key].headline]
        self.shown_metrics = [key for key in METRICS if any(run.value(key) is not None for run in runs)]
        self.test_songs: int = runs[0].metrics["songs"]["test"]

    @property
    def cells(self) -> list[list[Run]]:
        """The runs of each system under each condition that it has."""
        return [list(runs) for _, runs in groupby(self.runs, key=lambda run: (run.system, run.condition))]

    def cell(self, system: str, condition: tuple[Any, ...]) -> list[Run]:
        """The runs of a system under a condition, one per seed; possibly empty."""
        return [run for run in self.runs if run.system == system and run.condition == condition]

    def family(self, system: str) -> str:
        return next(run.family for run in self.runs if run.system == system)

    @property
    def full_conditions(self) -> list[tuple[Any, ...]]:
        """The conditions with a value for every factor; all conditions if there is none. Others belong to systems that
        a setting does not concern, which are compared under each of these."""
        return [condition for condition in self.conditions if None not in condition] or self.conditions

    @property
    def train_hours(self) -> float:
        """Hours of training of all runs; those of an ensemble are the hours of the runs that it was made of."""
        trained = [run.metrics["seconds"] for run in self.runs if "ensemble" not in run.metrics]
        return sum(seconds.get("train") or 0.0 for seconds in trained) / 3600

    @property
    def problems(self) -> list[str]:
        """Descriptions of the cells that have fewer seeds than others."""
        cells = {
            (cell[0].system, cell[0].condition): len(cell)
            for cell in self.cells
            if not any("ensemble" in run.metrics for run in cell)
        }
        most = {}  # systems that a setting does not concern may have more seeds
        for (_, condition), seeds in cells.items():
            kind = tuple(value is None for value in condition)
            most[kind] = max(most.get(kind, 0), seeds)
        fewer = [
            (filter(None, (system, setting(self.factors, condition))), seeds, wanted)
            for (system, condition), seeds in cells.items()
            if seeds < (wanted := most[tuple(value is None for value in condition)])
        ]
        if len(fewer) > _MOST_PROBLEMS:
            return [f"{len(fewer)} of {len(cells)} cells have fewer seeds than others: see the table of scores"]
        return [f"{', '.join(words)}: {seeds} of {wanted} seeds" for words, seeds, wanted in fewer]


def _leave_out_tuned(runs: Sequence[Run]) -> None:
    """Leave out settings that some runs of a system took over from a tuning study also where another run, perhaps of
    another study, was simply given them: where all runs of the system and size agree, they follow from both."""
    for system in {run.system for run in runs if run.tuned}:
        own = [run for run in runs if run.system == system]
        for key in {key for run in own for key in (run.tuned or {}).get("settings", ())}:
            values: dict[int, set[str]] = {}
            for run in own:
                value = (run.tuned or {}).get("settings", {}).get(key, run.settings.get(key))
                values.setdefault(run.train_songs, set()).add(repr(canonical(value)))
            if all(len(distinct) == 1 for distinct in values.values()):
                for run in own:
                    run.settings.pop(key, None)


def _seed(metrics: Mapping[str, Any]) -> int:
    """The seed of a run; where subset, initialisation and order have different ones, a number with three digits of
    each, so that these runs are told apart. A baseline, which has no initialisation, has the number of the networks
    whose initialisation has seed 0. An ensemble, which is no more like one of its members than like another, has a
    negative number: only other ensembles are paired with it."""
    if "ensemble" in metrics:
        return -1 - metrics["seed"]
    seeds = list((metrics.get("seeds") or {}).values())
    apart = [seed for seed in seeds if seed is not None]
    if len(set(apart)) < 2:
        return apart[0] if apart else metrics["seed"]
    return sum(1000**place * (seed or 0) for place, seed in enumerate(reversed(seeds)))


def read_study(folder: Path, study: str | None = None) -> Study:
    """All finished runs of ``study`` below ``folder`` (None: all runs): made under its name, or in its list of jobs.

    Raises MusictagError if there is none, for runs on different data, test songs or tags, which cannot be compared,
    and for two runs with the same system, condition and seed, whose difference no table would show.
    """
    found = find_runs(folder)
    runs = found if study is None else of_study(found, folder, study)
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
    unknown = sorted({run.system for run in runs if not run.train_songs})
    if SIZE in result.factors and unknown:
        raise MusictagError(
            f"on how many songs {', '.join(unknown)} was trained is not known, and it cannot be compared with systems "
            "that were trained on several numbers of songs: evaluate it under a study of its own (study=...)"
        )
    for one, other in zip(result.runs, result.runs[1:], strict=False):
        if (one.system, one.condition, one.seed) == (other.system, other.condition, other.seed):
            where = ", ".join(
                filter(None, (f"{one.system} with seed {one.seed}", setting(result.factors, one.condition)))
            )
            raise MusictagError(
                f"{one.folder} and {other.folder} are both {where}, but with settings that no table would tell apart: "
                "delete one of them, or give each setting its own study (study=...)"
            )
    return result


def of_study(found: Sequence[Run], folder: Path, study: str) -> list[Run]:
    """Those of the runs ``found`` below ``folder`` that are of this study."""
    # a run that several studies share is made only once, under the name of the first
    listed = {
        path.parent / job["run"] for name, path in find_studies(folder) if name == study for job in read_jobs(path)
    }
    return [run for run in found if run.metrics["study"] == study or run.folder in listed]


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
