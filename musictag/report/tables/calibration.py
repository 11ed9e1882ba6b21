"""How far scores are from probabilities, before and after the calibration on validation songs."""

from __future__ import annotations

from musictag.report.content import Table
from musictag.report.study import Study
from musictag.report.tables.formats import Sheet, number, text
from musictag.report.tables.protocol import mean_of_recorded
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
    for cell in study.cells:
        recorded = [run.metrics["calibration"] for run in cell if "calibration" in run.metrics]
        if recorded:
            means = [mean_of_recorded([one[key] for one in recorded]) for key in _KEYS]
            found.append([cell[0].system, *cell[0].condition, *means])
    return found
