"""How a study was made, from what its runs recorded: convergence, the choice of epochs, compute, overlap of the splits.

What runs did not record, since they are older than the field, is shown as open. Each table exists twice: as plain
values for CSV files and Weights & Biases, and as a sheet for readers.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np
from scipy.stats import t

from musictag.evaluation.metrics import METRICS
from musictag.report.content import Table
from musictag.report.study import Run, Study
from musictag.report.tables.formats import Cell, Sheet, number, text
from musictag.report.wording import factor_label, signed

OPEN = "open"


def converged(run: Run) -> bool | None:
    """Whether the training had converged; None if it was not recorded, or there was none in epochs."""
    return (run.metrics.get("convergence") or {}).get("converged")


def convergence_words(study: Study) -> str:
    """How many runs had not converged; empty if none recorded it and none could have."""
    trained = [run for run in study.runs if run.epochs is not None]
    if not trained:
        return ""
    known = [run for run in trained if converged(run) is not None]
    if not known:
        return f"Whether the {len(trained)} trained networks had converged was not recorded."
    stopped = [run for run in known if not converged(run)]
    words = f"{len(stopped)} of {len(known)} trained networks had not converged (marked †)"
    rest = f"; {len(trained) - len(known)} did not record it" if len(known) < len(trained) else ""
    return f"{words}{rest}."


def convergence_table(study: Study) -> Table:
    columns = ["system", *study.factors, "seed", "epochs", "best_epoch", "at_end", "still_falling", "converged", "run"]
    rows = []
    for run in study.runs:
        found = run.metrics.get("convergence") or {}
        row = [run.system, *run.condition, run.seed, run.epochs, run.metrics.get("best_epoch")]
        row += [found.get(key) for key in ("at_end", "still_falling", "converged")]
        rows.append([*row, run.folder.name])
    return Table("Convergence", columns, rows)


def convergence_sheet(study: Study) -> Sheet | None:
    """One row per system and condition; None if no run recorded it."""
    rows = []
    for runs in study.cells:
        known = [run.metrics["convergence"] for run in runs if converged(run) is not None]
        if not known and runs[0].epochs is None:
            continue
        counts = [sum(bool(one[key]) for one in known) for key in ("converged", "at_end", "still_falling")]
        cells = [text(runs[0].system), *map(text, runs[0].condition), text(len(runs))]
        cells += [Cell(f"{count} of {len(known)}", count / len(known)) if known else Cell(OPEN) for count in counts]
        best = [run.metrics["best_epoch"] + 1 for run in runs if run.metrics.get("best_epoch") is not None]
        rows.append([*cells, number(fmean(best) if best else None, ".0f"), text(runs[0].epochs)])
    if not rows or all(converged(run) is None for run in study.runs):
        return None
    headings = ["system", *map(factor_label, study.factors), "runs", "converged", "best epoch at the end"]
    headings += ["still improving", "best epoch (mean)", "epochs of the first"]
    return Sheet("Had the runs converged?", headings, rows, frozenset(range(1, len(headings))))


def choice_rows(study: Study) -> list[dict[str, Any]]:
    """What each rule for the best epoch gives: by system, rule and metric, its mean test score over the runs minus that
    of the rule that was used, with a 95% t interval over them (None with one run), and the runs."""
    rows = []
    for system in study.systems:
        runs = [run for run in study.runs if run.system == system]
        for rule in dict.fromkeys(rule for run in runs for rule in run.metrics.get("choices") or {}):
            found = [(run, run.metrics["choices"][rule]) for run in runs if rule in (run.metrics.get("choices") or {})]
            if any(choice["test"] is None for _, choice in found):
                continue  # tested only in the runs where it chose the epoch that was used: no fair sample
            for metric in study.headlines:
                own = [(run, choice) for run, choice in found if choice["test"].get(metric) is not None]
                if not own:
                    continue
                values = np.array([choice["test"][metric] - run.value(metric) for run, choice in own])
                mean, half = float(values.mean()), None
                if len(values) > 1:
                    half = float(t.isf(0.025, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
                rows.append({
                    "system": system, "rule": rule, "metric": metric, "difference": mean,
                    "low": None if half is None else mean - half, "high": None if half is None else mean + half,
                    "epoch": fmean(choice["epoch"] + 1 for _, choice in own), "runs": len(own),
                    "used": all(choice["epoch"] == run.metrics["best_epoch"] for run, choice in own),
                })  # fmt: skip
    return rows


def choice_table(study: Study) -> Table:
    rows = choice_rows(study)
    return Table("Choice of the best epoch", list(rows[0]), [list(row.values()) for row in rows])


def choice_sheet(study: Study) -> Sheet:
    rows = []
    for row in choice_rows(study):
        decimals = METRICS[row["metric"]].decimals
        value = signed(row["difference"], decimals)
        if row["low"] is not None:
            value += f" ({signed(row['low'], decimals)} to {signed(row['high'], decimals)})"
        words = f"{row['rule']} (used, or the same epochs)" if row["used"] else row["rule"]
        rows.append([text(row["system"]), text(words), text(METRICS[row["metric"]].label),
                     Cell("0" if row["used"] else value, row["difference"]), number(row["epoch"], ".0f"),
                     text(row["runs"])])  # fmt: skip
    notes = [
        "Test score of the epoch that a rule chooses on the validation songs, minus that of the epoch that was used; "
        "mean over all runs of a system with its 95% interval over them. No test score chose anything."
    ]
    headings = ["system", "rule", "metric", "test score, minus the used one", "best epoch (mean)", "runs"]
    return Sheet("What the choice of the best epoch costs", headings, rows, frozenset({3, 4, 5}), notes=notes)


def compute_rows(study: Study) -> list[dict[str, Any]]:
    """By system, condition and steps: mean compute and scores. Runs that recorded none have their seconds at least."""
    rows = []
    for runs in study.cells:
        by_steps: dict[int | None, list[Run]] = {}
        for run in runs:
            by_steps.setdefault((run.metrics.get("compute") or {}).get("steps"), []).append(run)
        for steps, same in by_steps.items():
            found = [run.metrics.get("compute") or {} for run in same]
            seconds = [one.get("train_seconds", run.metrics["seconds"].get("train")) for one, run in
                       zip(found, same, strict=True)]  # fmt: skip
            rows.append({
                "system": same[0].system, "condition": same[0].condition, "songs": same[0].train_songs, "steps": steps,
                "patches": found[0].get("patches"), "flop": mean_of_recorded([one.get("train_flop") for one in found]),
                "seconds": mean_of_recorded(seconds), "runs": len(same),
                "scores": {metric: fmean(run.value(metric) for run in same) for metric in study.headlines},
            })  # fmt: skip
    return rows


def has_compute(study: Study) -> bool:
    return any(run.metrics.get("compute") for run in study.runs)


def compute_table(study: Study) -> Table:
    columns = ["system", *study.factors, "steps", "patches", "flop", "seconds", "runs", *study.headlines]
    rows = [
        [row["system"], *row["condition"], row["steps"], row["patches"], row["flop"], row["seconds"], row["runs"],
         *row["scores"].values()]
        for row in compute_rows(study)
    ]  # fmt: skip
    return Table("Compute", columns, rows)


def compute_sheet(study: Study) -> Sheet:
    headings = ["system", *map(factor_label, study.factors), "steps", "FLOP", "seconds", "runs"]
    headings += [METRICS[metric].label for metric in study.headlines]
    rows = []
    for row in compute_rows(study):
        cells = [text(row["system"]), *map(text, row["condition"]), text(row["steps"]), number(row["flop"], ".2e")]
        cells += [number(row["seconds"], ",.0f"), text(row["runs"])]
        rows.append([*cells, *(number(row["scores"][metric]) for metric in study.headlines)])
    devices = ", ".join(sorted({str(run.metrics["device"]) for run in study.runs}))
    notes = [
        steps_words(study),
        f"Means over the runs. FLOP: of training, forward and backward. Seconds: of training, on {devices}; they are "
        "comparable only if nothing else ran there.",
    ]
    return Sheet("Scores, songs and compute", headings, rows, frozenset(range(1, len(headings))), notes=notes)


def steps_words(study: Study) -> str:
    """Whether the number of training steps was the same at all numbers of songs."""
    steps = {(run.metrics.get("compute") or {}).get("steps") for run in study.runs if run.epochs is not None}
    if not steps or steps == {None}:
        return "How many steps the runs took was not recorded."
    known = sorted(steps - {None})
    if len(known) == 1:
        who = "All networks that recorded it" if None in steps else "All networks"
        return f"{who} took {known[0]:,} steps, whatever the number of songs."
    return f"Steps differ, {known[0]:,} to {known[-1]:,}: scores over songs also show the number of steps."


def overlap_rows(study: Study) -> list[dict[str, Any]]:
    """By number of training songs: recordings and artists in more than one split, the most of all runs (they differ by
    the subset); None if unknown."""
    rows = []
    for size in sorted({run.train_songs for run in study.runs}):
        found = [run.metrics.get("overlap") or {} for run in study.runs if run.train_songs == size]
        counts = {key: [one[key] for one in found if one.get(key) is not None] for key in ("copies", "artists")}
        rows.append({"songs": size} | {key: max(own) if own else None for key, own in counts.items()})
    return rows


def overlap_table(study: Study) -> Table:
    rows = overlap_rows(study)
    return Table("Overlap of the splits", list(rows[0]), [list(row.values()) for row in rows])


def overlap_sheet(study: Study) -> Sheet:
    rows = [
        [text(row["songs"]), *(Cell(OPEN) if row[key] is None else text(row[key]) for key in ("copies", "artists"))]
        for row in overlap_rows(study)
    ]
    notes = [
        "Recordings with the same samples, and artists (or works, where the data set groups by them), that are in more "
        "than one of the training, validation and test songs of a run; the most of all runs with this number. They "
        "make test scores too high. Open: the data set does not name artists, or the runs did not record it."
    ]
    headings = ["training songs", "identical recordings across splits", "artists or works across splits"]
    return Sheet("Overlap of the splits", headings, rows, frozenset({0, 1, 2}), notes=notes)


def mean_of_recorded(values: Sequence[float | None]) -> float | None:
    """None if no run recorded a value."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
