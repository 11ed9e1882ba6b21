"""The main table: every system under every condition, its mean over the seeds, the best in bold, and chance.

Laid out as in the paper: rows grouped by condition, one column per metric.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

from musictag.evaluation.metrics import METRICS
from musictag.report.content import Table
from musictag.report.study import Run, Study
from musictag.report.tables.formats import Cell, Sheet, join, number, text
from musictag.report.tables.protocol import converged, convergence_words
from musictag.report.tables.published_scores import Published
from musictag.report.wording import factor_label


@dataclass(frozen=True)
class Score:
    """Mean over the seeds; ``spread``: their standard deviation (None with one seed, where ``low`` and ``high`` are the
    run's interval over songs). ``best``: no other system is better under this condition, to the metric's decimals."""

    value: float
    spread: float | None
    low: float | None
    high: float | None
    best: bool = False


@dataclass(frozen=True)
class Row:
    """A cell of the study. ``scores``: by metric, only those that all of its runs have. ``train_seconds``: mean
    wall-clock time of training; ``parameters``: None for baselines."""

    system: str
    family: str
    condition: tuple[Any, ...]
    seeds: int
    scores: dict[str, Score]
    parameters: int | None
    train_seconds: float | None


def score_rows(study: Study) -> list[Row]:
    """By condition, then system; combinations without runs are left out."""
    rows = []
    for condition in study.conditions:
        cells = {system: cell for system in study.systems if (cell := study.cell(system, condition))}
        scores = {system: _scores(runs, study.shown_metrics) for system, runs in cells.items()}
        if len(cells) > 1:
            scores = _mark_best(scores)
        rows += [_row(study, system, condition, runs, scores[system]) for system, runs in cells.items()]
    return rows


def chance(study: Study) -> dict[str, float]:
    """The scores of answers that ignore the audio, for the metrics with a known one (``Metric.chance``)."""
    known = {key: METRICS[key].chance(study.runs[0].metrics["test"]) for key in study.shown_metrics}
    return {key: value for key, value in known.items() if value is not None}


def score_table(study: Study) -> Table:
    """The means in full precision, one line per cell."""
    columns = ["system", "family", *study.factors, "seeds"]
    for metric in study.shown_metrics:
        columns += [metric, f"{metric}_sd", f"{metric}_low", f"{metric}_high"]
    columns += [*(f"chance_{metric}" for metric in chance(study)), "parameters", "train_seconds"]
    lines = []
    for row in score_rows(study):
        line = [row.system, row.family, *row.condition, row.seeds]
        for score in map(row.scores.get, study.shown_metrics):
            line += [score.value, score.spread, score.low, score.high] if score else [None] * 4
        lines.append([*line, *chance(study).values(), row.parameters, row.train_seconds])
    return Table("Means over the seeds", columns, lines)


def run_rows(study: Study) -> list[dict[str, Any]]:
    """One flat line per run, in full precision."""
    lines = []
    for run in study.runs:
        test, speed = run.metrics["test"], run.metrics["speed"]
        line: dict[str, Any] = {"system": run.system, "family": run.family, "input": run.metrics["input"]}
        line |= dict(zip(study.factors, run.condition, strict=True))
        line |= {"seed": run.seed if run.seed >= 0 else None, "data": run.metrics["data"]}
        line |= {"train_songs": run.train_songs}
        line |= {"test_songs": run.metrics["songs"]["test"], "parameters": run.parameters}
        line |= {"epochs": run.metrics["epochs"], "best_epoch": run.metrics["best_epoch"]}
        for metric in METRICS:
            entry = test.get(metric) or {}
            line |= {metric: entry.get("value"), f"{metric}_low": entry.get("low"), f"{metric}_high": entry.get("high")}
        line |= {"tags_scored": test["tags_scored"], "chance_pr_auc": test["chance_pr_auc"]}
        line |= {f"{name}_seconds": run.metrics["seconds"].get(name) for name in ("train", "test")}
        line |= {name: speed.get(name) for name in ("train_audio_seconds_per_second", "test_audio_seconds_per_second")}
        lines.append(line | {"device": run.metrics["device"], "run": run.folder.name})
    return lines


def score_sheet(study: Study, published: Sequence[Published], about_published: str) -> Sheet:
    """The main table of the report: the study's scores, chance, and comparable published scores."""
    rows = score_rows(study)
    factors = list(study.factors)
    headings = [*map(factor_label, factors), "system"]
    headings += [METRICS[metric].label for metric in study.shown_metrics]
    headings += ["seeds", "parameters", "training time"]
    shown, rules = [], set()
    for place, row in enumerate(rows):
        if place and row.condition != rows[place - 1].condition:
            rules.add(place)
        mark = " †" if any(converged(run) is False for run in study.cell(row.system, row.condition)) else ""
        cells = [*map(text, row.condition), Cell(row.system + mark, row.system.casefold())]
        cells += [_score_cell(metric, row.scores.get(metric)) for metric in study.shown_metrics]
        shown.append([*cells, text(row.seeds), text(row.parameters), _duration(row.train_seconds)])
    blank = [Cell("")] * len(factors)
    by_chance = chance(study)
    cells = [number(by_chance.get(metric), f".{METRICS[metric].decimals}f") for metric in study.shown_metrics]
    foot = [[*blank, Cell("chance"), *cells, *[Cell("")] * 3]]
    for line in published:
        printed = {"roc_auc": line.roc_auc, "pr_auc": line.pr_auc}
        cells = [Cell(value, float(value)) if (value := printed.get(m)) else Cell("–") for m in study.shown_metrics]
        where = f"published: {line.model} ({line.split}; {line.status}, {line.source})"
        foot.append([*blank, Cell(where), *cells, *[Cell("")] * 3])
    notes = [_how_to_read(rows, study), about_published, *_warnings(study)]
    numeric = frozenset(range(len(headings))) - {len(factors)}
    numeric -= {i for i, key in enumerate(factors) if not _is_number(study, i)}
    notes = [note for note in notes if note]
    title = f"Test scores on {study.data} ({study.test_songs:,} songs)"
    return Sheet(title, headings, shown, numeric, frozenset(rules), foot, notes)


def _how_to_read(rows: Sequence[Row], study: Study) -> str:
    several, single = any(row.seeds > 1 for row in rows), any(row.seeds == 1 for row in rows)
    parts = []
    if several:
        parts.append("Mean ± standard deviation over the seeds")
    if single:
        only = "; with one seed only, in brackets" if several else "One seed; in brackets"
        levels = sorted({run.metrics["test"]["confidence"] for run in study.runs})
        of_each = ", as last requested for each run" if len(levels) > 1 else ""
        parts.append(f"{only} the {join([f'{level:.0%}' for level in levels])} interval over songs{of_each}")
    has_best = any(score.best for row in rows for score in row.scores.values())
    bold = " Bold: the best of a condition, or equal to it after rounding." if has_best else ""
    lower = [METRICS[metric].label for metric in study.shown_metrics if METRICS[metric].better == "min"]
    return "".join(parts) + "." + bold + (f" {join(lower)}: lower is better." if lower else "")


def _warnings(study: Study) -> list[str]:
    found = [f"Incomplete: {'; '.join(study.problems)}."] if study.problems else []
    if any(converged(run) is False for run in study.runs):
        found.append(f"{convergence_words(study)} More epochs might have given these more.")
    return found


def _scores(runs: Sequence[Run], metrics: Sequence[str]) -> dict[str, Score]:
    return {
        metric: _score(runs, metric) for metric in metrics if all(run.value(metric) is not None for run in runs)
    }  # fmt: skip


def _score(runs: Sequence[Run], metric: str) -> Score:
    values = [run.value(metric) for run in runs]
    if len(values) > 1:
        return Score(fmean(values), stdev(values), None, None)
    entry = runs[0].metrics["test"][metric]
    return Score(entry["value"], None, entry["low"], entry["high"])


def _mark_best(scores: dict[str, dict[str, Score]]) -> dict[str, dict[str, Score]]:
    marked: dict[str, dict[str, Score]] = {system: {} for system in scores}
    for metric in dict.fromkeys(key for of in scores.values() for key in of):
        there = {system: of[metric] for system, of in scores.items() if metric in of}
        merit = {
            system: METRICS[metric].sign * round(of.value, METRICS[metric].decimals) for system, of in there.items()
        }
        for system, score in there.items():
            marked[system][metric] = replace(score, best=merit[system] == max(merit.values()))
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
    )


def _score_cell(metric: str, score: Score | None) -> Cell:
    if score is None:
        return Cell("–")
    show = METRICS[metric].show
    words = show(score.value)
    if score.spread is not None:
        words += f" ± {show(score.spread)}"
    elif score.low is not None:
        words += f" ({show(score.low)} to {show(score.high)})"
    return Cell(words.replace("-", "−"), score.value, score.best)


def _duration(seconds: float | None) -> Cell:
    if seconds is None:
        return Cell("–")
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return Cell(f"{seconds / length:.1f} {unit}", seconds)
    return Cell(f"{seconds:.0f} s", seconds)


def _is_number(study: Study, place: int) -> bool:
    return all(isinstance(c[place], int | float) for c in study.conditions if c[place] is not None)
