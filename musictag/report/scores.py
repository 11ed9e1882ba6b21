"""The main table: every system under every condition, its mean over the seeds, the best in bold, and chance.

Laid out as in the paper: the rows of one condition together, a column a metric.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from musictag.report.content import LOWER_IS_BETTER, METRIC_NAMES, Table
from musictag.report.published import Published
from musictag.report.runs import Run, Study, factor_label
from musictag.report.sheets import Cell, Sheet, join, number, text

DECIMALS = 3


@dataclass(frozen=True)
class Score:
    """Mean over the seeds; ``spread`` their standard deviation (None with one seed, where ``low`` and ``high`` are the
    run's interval over songs). ``best``: no other system does better under this condition, to three decimals."""

    value: float
    spread: float | None
    low: float | None
    high: float | None
    best: bool = False


@dataclass(frozen=True)
class Row:
    """A cell of the study. ``train_seconds``: mean wall-clock time of training; ``parameters`` None for baselines."""

    system: str
    family: str
    condition: tuple[Any, ...]
    seeds: int
    scores: dict[str, Score]
    parameters: int | None
    train_seconds: float | None
    devices: tuple[str, ...]


def score_rows(study: Study) -> list[Row]:
    """By condition, then system; conditions that a system has no runs of are left out."""
    rows = []
    for condition in study.conditions:
        cells = {system: cell for system in study.systems if (cell := study.cell(system, condition))}
        scores = {system: {metric: _score(runs, metric) for metric in study.metrics} for system, runs in cells.items()}
        if len(cells) > 1:
            scores = _mark_best(scores)
        rows += [_row(study, system, condition, runs, scores[system]) for system, runs in cells.items()]
    return rows


def chance(study: Study) -> dict[str, float]:
    """What an answer that hears nothing scores: ROC-AUC 0.5, PR-AUC the mean prevalence, RMSE that of the means."""
    test = study.runs[0].metrics["test"]
    errors = [tag["rmse_of_mean"] for tag in test["tags"] if tag["rmse_of_mean"] is not None]
    known = {"roc_auc": 0.5, "pr_auc": test["chance_pr_auc"], "rmse": fmean(errors) if errors else None}
    return {metric: known[metric] for metric in study.metrics if known[metric] is not None}


def score_table(study: Study) -> Table:
    """The means in full precision, one line a cell."""
    columns = ["system", "family", *study.factors, "seeds"]
    for metric in study.metrics:
        columns += [metric, f"{metric}_sd", f"{metric}_low", f"{metric}_high"]
    columns += [*(f"chance_{metric}" for metric in chance(study)), "parameters", "train_seconds"]
    lines = []
    for row in score_rows(study):
        line = [row.system, row.family, *map(_plain, row.condition), row.seeds]
        for score in row.scores.values():
            line += [score.value, score.spread, score.low, score.high]
        lines.append([*line, *chance(study).values(), row.parameters, row.train_seconds])
    return Table("Means over the seeds", columns, lines)


def run_rows(study: Study) -> list[dict[str, Any]]:
    """One flat line a run, in full precision."""
    lines = []
    for run in study.runs:
        test, speed = run.metrics["test"], run.metrics["speed"]
        line: dict[str, Any] = {"system": run.system, "family": run.family}
        line |= dict(zip(study.factors, map(_plain, run.condition), strict=True))
        line |= {"seed": run.seed, "data": run.metrics["data"], "train_songs": run.train_songs}
        line |= {"test_songs": run.metrics["songs"]["test"], "parameters": run.parameters}
        line |= {"epochs": run.metrics["epochs"], "best_epoch": run.metrics["best_epoch"]}
        for metric in METRIC_NAMES:
            entry = test[metric] or {}
            line |= {metric: entry.get("value"), f"{metric}_low": entry.get("low"), f"{metric}_high": entry.get("high")}
        line |= {"tags_scored": test["tags_scored"], "chance_pr_auc": test["chance_pr_auc"]}
        line |= {f"{name}_seconds": run.metrics["seconds"].get(name) for name in ("train", "test")}
        line |= {name: speed.get(name) for name in ("train_audio_seconds_per_second", "test_audio_seconds_per_second")}
        lines.append(line | {"device": run.metrics["device"], "run": run.folder.name})
    return lines


def score_sheet(study: Study, published: Sequence[Published], about_published: str) -> Sheet:
    """The table of the report: ours, chance, and the published scores that may stand beside them."""
    rows = score_rows(study)
    factors = list(study.factors)
    headings = [*map(factor_label, factors), "system"]
    headings += [METRIC_NAMES[metric] for metric in study.metrics]
    headings += ["seeds", "parameters", "training time"]
    shown, rules = [], set()
    for place, row in enumerate(rows):
        if place and row.condition != rows[place - 1].condition:
            rules.add(place)
        cells = [*map(text, row.condition), text(row.system)]
        cells += [_score_cell(score) for score in row.scores.values()]
        shown.append([*cells, text(row.seeds), text(row.parameters), _duration(row.train_seconds)])
    blank = [Cell("")] * len(factors)
    by_chance = chance(study)
    cells = [number(by_chance.get(metric)) for metric in study.metrics]
    foot = [[*blank, Cell("chance"), *cells, *[Cell("")] * 3]]
    for line in published:
        printed = {"roc_auc": line.roc_auc, "pr_auc": line.pr_auc}
        cells = [Cell(value, float(value)) if (value := printed.get(m)) else Cell("–") for m in study.metrics]
        where = f"published: {line.model} ({line.split}; {line.status}, {line.source})"
        foot.append([*blank, Cell(where), *cells, *[Cell("")] * 3])
    notes = [_how_to_read(rows, study), about_published, *_warnings(study)]
    numeric = frozenset(range(len(headings))) - {len(factors)}
    numeric -= {i for i, key in enumerate(factors) if not _is_number(study, i)}
    notes = [note for note in notes if note]
    return Sheet(_title(study), headings, shown, numeric, frozenset(rules), foot, notes)


def _title(study: Study) -> str:
    return f"Test scores on {study.data} ({study.test_songs:,} songs)"


def _how_to_read(rows: Sequence[Row], study: Study) -> str:
    several, single = any(row.seeds > 1 for row in rows), any(row.seeds == 1 for row in rows)
    parts = []
    if several:
        parts.append("Mean ± standard deviation over the seeds")
    if single:
        only = "; with one seed only, in brackets" if several else "One seed; in brackets"
        levels = sorted({run.metrics["test"]["confidence"] for run in study.runs})
        of_each = ", as each run was last asked for" if len(levels) > 1 else ""
        parts.append(f"{only} the {join([f'{level:.0%}' for level in levels])} interval over songs{of_each}")
    bold = " Bold: the best of a condition, or equal to it in three decimals." if _any_best(rows) else ""
    lower = [METRIC_NAMES[metric] for metric in study.metrics if metric in LOWER_IS_BETTER]
    return "".join(parts) + "." + bold + (f" {join(lower)}: lower is better." if lower else "")


def _any_best(rows: Sequence[Row]) -> bool:
    return any(score.best for row in rows for score in row.scores.values())


def _warnings(study: Study) -> list[str]:
    return [f"Incomplete: {'; '.join(study.problems)}."] if study.problems else []


def _score(runs: Sequence[Run], metric: str) -> Score:
    values = [run.value(metric) for run in runs]
    if len(values) > 1:
        return Score(fmean(values), stdev(values), None, None)
    entry = runs[0].metrics["test"][metric]
    return Score(entry["value"], None, entry["low"], entry["high"])


def _mark_best(scores: dict[str, dict[str, Score]]) -> dict[str, dict[str, Score]]:
    marked: dict[str, dict[str, Score]] = {system: {} for system in scores}
    for metric in next(iter(scores.values())):
        rounded = {system: round(of[metric].value, DECIMALS) for system, of in scores.items()}
        best = min(rounded.values()) if metric in LOWER_IS_BETTER else max(rounded.values())
        for system, of in scores.items():
            score = of[metric]
            marked[system][metric] = Score(
                score.value, score.spread, score.low, score.high, best=rounded[system] == best
            )
    return marked


def _row(study: Study, system: str, condition: tuple, runs: Sequence[Run], scores: dict[str, Score]) -> Row:
    seconds = [run.metrics["seconds"]["train"] for run in runs if run.metrics["seconds"].get("train") is not None]
    return Row(
        system=system,
        family=study.family(system),
        condition=condition,
        seeds=len(runs),
        scores=scores,
        parameters=runs[0].parameters,
        train_seconds=fmean(seconds) if seconds else None,
        devices=tuple(sorted({run.metrics["device"] for run in runs})),
    )


def _score_cell(score: Score) -> Cell:
    words = f"{score.value:.{DECIMALS}f}"
    if score.spread is not None:
        words += f" ± {score.spread:.{DECIMALS}f}"
    elif score.low is not None:
        words += f" ({score.low:.{DECIMALS}f} to {score.high:.{DECIMALS}f})"
    return Cell(words, score.value, score.best)


def _duration(seconds: float | None) -> Cell:
    if seconds is None:
        return Cell("–")
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return Cell(f"{seconds / length:.1f} {unit}", seconds)
    return Cell(f"{seconds:.0f} s", seconds)


def _is_number(study: Study, place: int) -> bool:
    return all(isinstance(c[place], int | float) for c in study.conditions if c[place] is not None)


def _plain(value: Any) -> Any:
    return " ".join(map(str, value)) if isinstance(value, tuple | list) else value
