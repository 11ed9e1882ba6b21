"""How far scores are from probabilities, before and after the calibration on validation songs."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from musictag.report.content import Table
from musictag.report.study import Run, Study
from musictag.report.tables.formats import Sheet, number, text
from musictag.report.wording import factor_label

_KEYS = ("error_before", "error_after", "tags_calibrated", "tags_confident", "given", "right")


def calibration_table(study: Study) -> Table | None:
    """One row per system and condition: means over its runs; None if no run recorded it."""
    rows = _rows(study)
    return Table("Calibration", ["system", *study.factors, *_KEYS], rows) if rows else None


def calibration_sheet(study: Study) -> Sheet:
    first = len(study.factors) + 1
    rows = [
        [
            *map(text, row[:first]),
            *map(number, row[first : first + 2]),
            *(text(round(value)) for value in row[first + 2 : first + 5]),
            number(row[-1]),
        ]
        for row in _rows(study)
    ]
    bins = next(run.metrics["calibration"]["bins"] for run in study.runs if "calibration" in run.metrics)
    notes = [
        "Expected calibration error of the test songs: how far scores are from the share of songs with the tag, in "
        f"{bins} bins of equal width per tag, on average over songs and tags; with few songs it is above 0 even for "
        "true probabilities. After: with the curves that were fitted to the validation songs, for the tags with enough "
        "of them. Confident: tags with a threshold from which at least 90% of the validation songs had the tag; how "
        "many of them test songs get, and the share that is right. Means over seeds."
    ]
    headings = ["system", *map(factor_label, study.factors), "error before", "after", "tags with a curve", "confident",
                "given", "right"]  # fmt: skip
    return Sheet("Calibration", headings, rows, frozenset(range(first, first + len(_KEYS))), notes=notes)


def _rows(study: Study) -> list[list]:
    found = []
    for system in study.systems:
        for condition in study.conditions:
            runs = [run for run in study.cell(system, condition) if "calibration" in run.metrics]
            if runs:
                found.append([system, *condition, *(_mean(runs, key) for key in _KEYS)])
    return found


def _mean(runs: Sequence[Run], key: str) -> float | None:
    known = [value for run in runs if (value := run.metrics["calibration"][key]) is not None]
    return fmean(known) if known else None
