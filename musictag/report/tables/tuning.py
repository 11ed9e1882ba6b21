"""What a study took over from a tuning study, and how much it mattered on the validation songs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from musictag.common.errors import MusictagError
from musictag.evaluation.metrics import METRICS
from musictag.experiment.identity import canonical
from musictag.experiment.tuning import Tried, decided, differing, read_tried
from musictag.report.content import Table
from musictag.report.study import Run, Study
from musictag.report.tables.formats import Sheet, number, text
from musictag.report.wording import factor_label, shown

_RULE = (
    "Settings are those of the best point of the grid, by the mean of the monitor over the seeds at each run's best "
    "epoch on the validation songs, at the nearest tuned number of training songs (of the logarithms; of two equally "
    "near ones the smaller). The best of several scores is somewhat too good. Test scores played no part."
)


@dataclass(frozen=True)
class Tuned:
    """What a system took over at one tuned number of training songs, for runs with the numbers ``used_at``.

    ``tried``: the points, the best first; empty if the tuning study is gone. ``default``: the score of the settings
    that the system would have had, None if they were not tried.
    """

    system: str
    songs: int
    used_at: list[int]
    monitor: str
    settings: dict[str, Any]
    tried: list[Tried]
    default: float | None

    @property
    def runs(self) -> int:
        return sum(point.seeds for point in self.tried)


def tuned_systems(study: Study) -> tuple[list[Tuned], list[str]]:
    """One entry per system and tuned number of songs, and what is to be said about all of them; both are empty if
    nothing was taken over."""
    taken: dict[tuple[str, int], list[Run]] = {}
    for run in study.runs:
        if run.tuned:
            taken.setdefault((run.system, run.tuned["songs"]), []).append(run)
    rows, notes = [], [_RULE] if taken else []
    for (system, songs), runs in sorted(taken.items(), key=lambda one: (study.systems.index(one[0][0]), one[0][1])):
        first = runs[0]
        tuned, name = first.tuned or {}, first.config["tuning"]["study"]
        tried: list[Tried] = []
        try:
            tried = read_tried(first.folder.parent, name, first.config, tuned["monitor"]).get(songs, [])
        except MusictagError as error:
            notes.append(f"{system}: the scores cannot be shown ({error}).")
        default = next((p.score for p in tried if canonical(p.settings) == canonical(tuned["instead_of"])), None)
        used_at = sorted({run.train_songs for run in runs})
        rows.append(Tuned(system, songs, used_at, tuned["monitor"], tuned["settings"], tried, default))
        if tried and (others := _otherwise(tried[0].config, first)):
            notes.append(f"{system} was tuned with other settings than it was then trained with: {others}.")
    if len(budgets := {row.runs for row in rows if row.tried}) > 1:
        notes.append("Not all systems got the same number of runs: what got more is favoured.")
    elif budgets:
        notes.append(f"Every system got the same budget: {budgets.pop()} runs at each tuned number of songs.")
    untuned = sorted({run.system for run in study.runs if not run.tuned})
    if rows and untuned:
        notes.append(f"Runs that took nothing over: {', '.join(untuned)}.")
    return rows, list(dict.fromkeys(notes))


def tuning_table(rows: list[Tuned]) -> Table:
    """Scores in full precision; ``median`` and ``worst`` are those of all points."""
    columns = ["system", "tuned_songs", "used_songs", "settings", "monitor"]
    columns += ["best", "default", "median", "worst", "runs"]
    lines: list[list[Any]] = []
    for row in rows:
        used = " ".join(map(str, row.used_at))
        lines.append([row.system, row.songs, used, _words(row.settings), row.monitor, *_scores(row), row.runs])
    return Table("Settings taken over from a tuning study", columns, lines)


def tuning_sheet(rows: list[Tuned], notes: list[str]) -> Sheet:
    """The same for readers."""
    headings = ["system", "tuned with songs", "used with songs", "settings"]
    headings += ["best", "default", "median", "worst", "runs"]
    shown = []
    for row in rows:
        form = f".{_decimals(row.monitor)}f"
        scores = [number(score, form) for score in _scores(row)]
        used = text(", ".join(f"{size:,}" for size in row.used_at))
        shown.append([text(row.system), text(row.songs), used, text(_words(row.settings)), *scores, text(row.runs)])
    title = f"Settings taken over from a tuning study; {', '.join(sorted({row.monitor for row in rows}))} of its points"
    return Sheet(title, headings, shown, frozenset({1, 4, 5, 6, 7, 8}), notes=notes)


def _scores(row: Tuned) -> list[float | None]:
    if not row.tried:
        return [None] * 4
    scores = [point.score for point in row.tried]
    return [scores[0], row.default, median(scores), scores[-1]]


def _decimals(monitor: str) -> int:
    metric = METRICS.get(monitor.removeprefix("val_"))
    return metric.decimals if metric else 4


def _words(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{factor_label(key)} {shown(value)}" for key, value in settings.items()) or "one point only"


def _otherwise(tuned: Mapping[str, Any], run: Run) -> str:
    """Settings in which a run of the tuning study differs from one that took its settings over."""
    there = {"config": tuned, "locations": run.metrics["locations"]}
    keys = differing([decided(there), decided(run.metrics)])
    return ", ".join(key for key in keys if key not in (run.tuned or {})["settings"])
