"""What a study of scaling must state, filled in from its runs; what they leave open is shown as open.

The items follow the checklists and reviews of Li et al. (2025, (Mis)Fitting: A survey of scaling laws), Choshen et al.
(2025, A hitchhiker's guide to scaling law estimation) and Viering and Loog (2023, The shape of learning curves).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from musictag.evaluation.metrics import METRICS
from musictag.report.content import Table
from musictag.report.statistics.components import Components
from musictag.report.statistics.forecast import Forecast, coverage_words
from musictag.report.study import Study
from musictag.report.tables.formats import Cell, Sheet, join, text
from musictag.report.tables.protocol import OPEN, choice_rows, converged, convergence_words, overlap_rows, steps_words
from musictag.report.wording import signed


def checklist(
    study: Study, forecasts: Sequence[Forecast], components: Sequence[Components], resamples: int
) -> list[tuple[str, str]]:
    """What must be stated, and the statement, or "open: ..." with what is missing."""
    runs, networks = study.runs, [run for run in study.runs if run.epochs is not None]
    sizes = sorted({run.train_songs for run in runs})
    counts = sorted({len(cell) for cell in study.cells})
    first = runs[0].metrics
    test = f"{study.test_songs:,} test and {first['songs']['validation']:,} validation songs"
    return [
        ("data", f"{study.data}, {len(first['test']['tags'])} tags, {test}"),
        ("overlap of the splits", _overlap(study)),
        ("training sizes", f"{len(sizes)}: {join([f'{size:,}' for size in sizes])}{_at_least(len(sizes), 5, 'sizes')}"),
        ("systems and their sizes", _systems(study)),
        ("runs per system and size", _range(counts) + _at_least(counts[0], 3, "at each size")),
        ("what differs between them", _seeds(components)),
        ("tuning", _tuning(study)),
        ("budget of the training", steps_words(study) if networks else "no network is trained"),
        ("stopping", _stopping(networks)),
        ("choice of the epoch", _choice(study, networks)),
        ("convergence", _convergence(study, networks)),
        ("metrics and their noise", f"{join([METRICS[key].label for key in study.metrics])}; intervals over songs "
         f"({resamples:,} resamples) and seeds"),
        ("laws and how they were chosen", _laws(forecasts)),
        ("error at sizes that were not fitted", _held_out(forecasts)),
        ("compute", _compute(study, networks)),
        ("code", _code(study)),
        ("all runs, also those that are not shown", "runs.csv; failed runs are not known here" + (
            "; some cells lack seeds (named above)" if study.problems else "")),
    ]  # fmt: skip


def open_fields(items: Sequence[tuple[str, str]]) -> list[str]:
    return [item for item, words in items if _is_open(words)]


def checklist_table(items: Sequence[tuple[str, str]]) -> Table:
    return Table(
        "Checklist", ["item", "stated", "words"], [[item, not _is_open(words), words] for item, words in items]
    )


def checklist_sheet(items: Sequence[tuple[str, str]]) -> Sheet:
    rows = [[text(item), Cell(words, words, _is_open(words))] for item, words in items]
    missing = open_fields(items)
    notes = [f"Open: {join(missing)}." if missing else "No item is open."]
    return Sheet("What a study of scaling must state", ["item", "this study"], rows, notes=notes)


def _is_open(words: str) -> bool:
    return words.startswith(f"{OPEN}:")


def _overlap(study: Study) -> str:
    rows = overlap_rows(study)
    unknown = [what for key, what in (("copies", "identical recordings"), ("artists", "artists or works"))
               if any(row[key] is None for row in rows)]  # fmt: skip
    known = [f"{what} in several splits: up to {max(row[key] for row in rows):,}"
             for key, what in (("copies", "identical recordings"), ("artists", "artists or works"))
             if all(row[key] is not None for row in rows)]  # fmt: skip
    return "; ".join([f"{OPEN}: {' and '.join(unknown)} not counted", *known] if unknown else known)


def _systems(study: Study) -> str:
    parts = []
    for system in study.systems:
        run = next(run for run in study.runs if run.system == system)
        parts.append(f"{system} ({run.parameters:,} parameters)" if run.parameters else system)
    return "; ".join(parts)


def _seeds(components: Sequence[Components]) -> str:
    if not components:
        return f"{OPEN}: one run each, so that nothing is known about differences between runs"
    parts = list(dict.fromkeys(name for one in components for name in one.parts))
    if any("together" in name for name in parts) and len(parts) == 1:
        return f"{OPEN}: subset, initialisation and order always vary together, and cannot be told apart"
    return "; ".join(parts)


def _tuning(study: Study) -> str:
    tuned = [run for run in study.runs if run.tuned]
    if not tuned:
        return f"{OPEN}: all systems and sizes have settings that were not tuned in this study"
    systems = list(dict.fromkeys(run.system for run in tuned))
    rest = [system for system in study.systems if system not in systems]
    return f"{join(systems)} tuned on validation songs" + (f"; {join(rest)} not tuned" if rest else "")


def _stopping(networks: Sequence[Any]) -> str:
    if not networks:
        return "no network is trained"
    found = []
    for run in networks:
        stopping = (run.config.get("callbacks") or {}).get("early_stopping") or {}
        patience = stopping.get("patience")
        most = run.config["trainer"]["max_epochs"]
        found.append(f"at most {most:,} epochs" + (f", or {patience} without improvement" if patience else ""))
    return join(list(dict.fromkeys(found)))


def _choice(study: Study, networks: Sequence[Any]) -> str:
    if not networks:
        return "no network is trained"
    monitors = join(sorted({str(run.config.get("monitor")) for run in networks}))
    rows = choice_rows(study)
    costs = [row for row in rows if not row["used"]]
    if not costs:
        rules = {(run.system, rule) for run in networks for rule in run.metrics.get("choices") or {}}
        compared = {(row["system"], row["rule"]) for row in rows}
        if all(run.metrics.get("choices") for run in networks) and rules <= compared:
            return f"best by {monitors}; all other choices give the same epochs"
        return f"{OPEN}: best by {monitors}; what other choices give was not recorded"
    worst = max(costs, key=lambda row: METRICS[row["metric"]].sign * row["difference"])
    words = f"{METRICS[worst['metric']].label} {signed(worst['difference'])} with {worst['rule']}"
    return f"best by {monitors}; the best of the other choices: {words}"


def _convergence(study: Study, networks: Sequence[Any]) -> str:
    if not networks:
        return "no network is trained"
    words = convergence_words(study).replace(" (marked †)", "")
    return words.rstrip(".") if all(converged(run) is not None for run in networks) else f"{OPEN}: {words.rstrip('.')}"


def _laws(forecasts: Sequence[Forecast]) -> str:
    if not any(forecast.law for forecast in forecasts):
        return f"{OPEN}: no curve with a law"
    laws = list(dict.fromkeys(law for forecast in forecasts for law in forecast.errors))
    if len(laws) < 2:
        return f"{OPEN}: too few sizes to choose a law by what it predicts"
    return f"{join(laws)}; weighted least squares; by the error at the largest sizes, which the fit did not see"


def _held_out(forecasts: Sequence[Forecast]) -> str:
    rows = [row for forecast in forecasts for row in forecast.held_out]
    if not rows:
        return f"{OPEN}: no curve has three sizes and the shape of a learning curve"
    errors = {metric: fmean(abs(row.predicted - row.measured) for row in rows if row.metric == metric)
              for metric in dict.fromkeys(row.metric for row in rows)}  # fmt: skip
    words = ", ".join(f"{METRICS[metric].label} {value:.3f}" for metric, value in errors.items())
    return f"mean absolute error: {words}. {coverage_words(forecasts).rstrip('.')}"


def _compute(study: Study, networks: Sequence[Any]) -> str:
    devices = ", ".join(sorted({str(run.metrics["device"]) for run in study.runs}))
    flop = [(run.metrics.get("compute") or {}).get("train_flop") for run in networks]
    words = f"{study.train_hours:,.1f} hours of training on {devices}"
    if not flop:
        return words
    return f"{OPEN}: {words}; FLOP not recorded" if None in flop else f"{sum(flop):.2e} FLOP, {words}"


def _code(study: Study) -> str:
    states = [run.metrics.get("git") for run in study.runs]
    if None in states:
        return f"{OPEN}: not all runs recorded the commit"
    commits = sorted({state["commit"][:10] for state in states})
    if any(state["changed"] for state in states):
        return f"{OPEN}: {join(commits)}, with changed files"
    return f"commit {join(commits)}"


def _range(counts: Sequence[int]) -> str:
    return str(counts[0]) if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"


def _at_least(count: int, wanted: int, what: str) -> str:
    return "" if count >= wanted else f" (fewer than {wanted} {what}: laws and noise are hardly known)"
