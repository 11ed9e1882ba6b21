"""Settings that a study tries for each system, and how another study takes the best of them over.

A tuning study tries the points of a grid (``tuning.grid``, ``tuning.point``), or whatever else varies, at some numbers
of training songs. In a study with ``tuning.study`` each job gets what was best for its system, by ``monitor`` on the
validation songs, at the nearest of these numbers (of their logarithms; of two equally near ones the smaller). All its
settings come from one point that was trained as it is: nothing is interpolated. Test scores are not read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import inf, log
from pathlib import Path
from statistics import fmean
from typing import Any

from musictag.common.errors import MusictagError
from musictag.evaluation.metrics import monitors
from musictag.experiment.builders import shared_source
from musictag.experiment.identity import canonical, deciding, system_label, value_of
from musictag.experiment.results.files import read_results
from musictag.experiment.run import make_run
from musictag.experiment.sweeps.lists import list_path, read_jobs

#: What the runs of one point differ in.
_APART = ("seed", "seeds", "data.train_songs")
#: Groups of parts that a run need not have.
_NAMED = ("augmentation", "callbacks")


@dataclass(frozen=True)
class Tried:
    """A point that was tried. ``settings``: dotted keys that vary in the tuning study of the system. ``score``: mean of
    the monitor over the seeds, at each run's best epoch. ``config``: the configuration of one of its runs."""

    settings: dict[str, Any]
    score: float
    seeds: int
    config: dict[str, Any]


def settled(config: dict[str, Any], given: Collection[str]) -> dict[str, Any]:
    """``config`` with the settings that ``tuning`` asks for, and a note of what was taken over (``tuning.taken``).

    ``given``: keys of the command line and of the sweep, which must not be among them. Raises MusictagError for these,
    for a grid without such a point, and if the tuning study is missing or not finished for the system.
    """
    tuning, monitor = config["tuning"], config["monitor"]
    if tuning["study"] is not None and tuning["point"] is not None:
        raise MusictagError("tuning.study takes settings over and tuning.point tries some: use one of them")
    if tuning["study"] is None:
        settings, source = _point(config), f"tuning.point={tuning['point']}"
    else:
        folder = Path(config["runs_dir"]) / shared_source(config).name
        tried = read_tried(folder, tuning["study"], config, monitor, finished=True)
        songs = nearest(tried, config["data"]["train_songs"])
        settings, source = tried[songs][0].settings, f"tuning.study={tuning['study']}"
    if refused := sorted(set(settings) & set(given)):
        raise MusictagError(f"{source} sets {' and '.join(refused)}, which is given, too: leave out one of them")
    before = {key: _put(config, key, value, source) for key, value in settings.items()}
    if tuning["study"] is not None:
        taken = {"songs": songs, "monitor": monitor, "settings": settings, "instead_of": before}
        config["tuning"] = {"study": tuning["study"], "grid": None, "point": None, "taken": taken}
    return config


def nearest(sizes: Collection[int], songs: int | None) -> int:
    """The nearest of the tuned numbers of training songs; None: all songs, of which there are never fewer."""
    if songs is None:
        return max(sizes)
    return min(sizes, key=lambda size: (round(abs(log(size / songs)), 9), size))


def read_tried(
    folder: Path, study: str, config: Mapping[str, Any], monitor: str, *, finished: bool = False
) -> dict[int, list[Tried]]:
    """What ``study`` tried for the system of ``config``, by number of training songs, the best first.

    ``folder``: where the study's list is. Raises MusictagError if the study has no such runs, or if these have no such
    monitor, and with ``finished`` also if some of its runs of the system are not finished.
    """
    path, system = list_path(folder, study), system_label(config)
    if not path.exists():
        there = sorted(found.stem.removeprefix("study-") for found in folder.glob("study-*.json"))
        others = f"there are {', '.join(there)}" if there else "there is none"
        raise MusictagError(f"tuning.study={study}: there is no such study in {folder} ({others}); run it first")
    jobs = read_jobs(path)
    results = {job["run"]: read_results(folder / job["run"]) for job in jobs}
    runs = [metrics for metrics in results.values() if metrics and system_label(metrics["config"]) == system]
    # what has not begun is known by the name of its folder
    own = "-".join(make_run(dict(config)).name_parts)
    missing = [run for run, metrics in results.items() if metrics is None and run.rpartition("-")[0] == own]
    if missing and (finished or not runs):
        raise MusictagError(
            f"tuning.study={study}: {len(missing)} of {len(missing) + len(runs)} runs of {system} are not finished; "
            f"rerun the command of that study (musictag status {folder} --study {study})"
        )
    if not runs:
        there = sorted({system_label(metrics["config"]) for metrics in results.values() if metrics})
        raise MusictagError(
            f"tuning.study={study} has no finished run of {system}, only of {', '.join(there) or 'nothing'}: run it "
            f"for {system}, too, or run this study without tuning.study"
        )
    return _by_size(runs, monitor)


def _by_size(runs: Sequence[Mapping[str, Any]], monitor: str) -> dict[int, list[Tried]]:
    keys = differing([decided(run) for run in runs])
    tried: dict[int, dict[str, list[Mapping[str, Any]]]] = {}
    for run in runs:
        songs = run["config"]["data"]["train_songs"] or run["songs"]["train"]
        settings = {key: value_of(run["config"], key) for key in keys}
        tried.setdefault(songs, {}).setdefault(repr(canonical(settings)), []).append(run)
    sign = -1 if monitors().get(monitor) == "max" else 1
    found = {}
    for songs, points in sorted(tried.items()):
        listed = [
            Tried(
                settings={key: value_of(same[0]["config"], key) for key in keys},
                score=fmean(_score(run, monitor) for run in same),
                seeds=len(same),
                config=same[0]["config"],
            )
            for same in points.values()
        ]
        found[songs] = sorted(listed, key=lambda one: sign * one.score)
    return found


def decided(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a finished run that can change its result."""
    return deciding(metrics["config"], metrics["locations"])


def differing(configs: Sequence[Mapping[str, Any]], prefix: str = "") -> list[str]:
    """Dotted keys, not seeds or the number of songs, whose values differ; a group that only some have is one key."""
    found: list[str] = []
    for key in dict.fromkeys(key for config in configs for key in config):
        values = [config.get(key) for config in configs]
        if f"{prefix}{key}" in _APART:
            continue
        if all(isinstance(value, Mapping) for value in values):
            found += differing(values, f"{prefix}{key}.")
        elif any(canonical(value) != canonical(values[0]) for value in values):
            found.append(f"{prefix}{key}")
    return found


def _point(config: Mapping[str, Any]) -> dict[str, Any]:
    grid, point, system = config["tuning"]["grid"] or {}, config["tuning"]["point"], system_label(config)
    lists = grid.values() if isinstance(grid, Mapping) else [None]
    if not all(isinstance(points, list) and all(isinstance(one, Mapping) for one in points) for points in lists):
        raise MusictagError(
            "tuning.grid must have a list of settings for each system, such as {network:[{optimizer.lr:0.004},{}]}"
        )
    counts = {name: len(points) for name, points in grid.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{count} for {name}" for name, count in counts.items())
        raise MusictagError(
            f"tuning.grid has {listed}: list as many settings for each system, so that none is favoured"
        )
    name = system if system in grid or config.get("baseline") is not None else "network"
    if name not in grid:
        raise MusictagError(f"tuning.grid has nothing for {system}; it has {', '.join(grid) or 'nothing at all'}")
    if not isinstance(point, int) or not 0 <= point < counts[name]:
        raise MusictagError(
            f"tuning.point={point} must be a number from 0 to {counts[name] - 1}, as tuning.grid has them"
        )
    return dict(grid[name][point])


def _put(config: dict[str, Any], key: str, value: Any, source: str) -> Any:
    """Set a dotted key that exists, unless it is to be missing; returns the value that it had. Augmentations and
    callbacks, and their groups, need not exist."""
    *groups, last = key.split(".")
    if value is None and value_of(config, key) is None:
        return None
    can_be_new = (groups or [last])[0] in _NAMED and len(groups) < 2
    place: Any = config
    for group in groups:
        if can_be_new and place.get(group) is None:
            place[group] = {}
        place = place.get(group) if isinstance(place, dict) else None
    if not isinstance(place, dict) or (last not in place and not can_be_new):
        raise MusictagError(f"{source} sets {key}, which {system_label(config)} does not have")
    before, place[last] = place.get(last), value
    return before


def _score(metrics: Mapping[str, Any], monitor: str) -> float:
    score = metrics["validation"].get(monitor)
    if score is None or not -inf < score < inf:
        known = [name for name in monitors() if metrics["validation"].get(name) is not None]
        raise MusictagError(
            f"{metrics['run']} has no {monitor} by which settings could be chosen; use monitor={' or '.join(known)}"
        )
    return float(score)
