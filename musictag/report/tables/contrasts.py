"""The tables of slopes and of changed settings, for CSV files and for readers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, fields

from musictag.evaluation.metrics import METRICS
from musictag.report.content import Table
from musictag.report.statistics.contrasts import Contrast
from musictag.report.tables.details import seed_notes, tested
from musictag.report.tables.formats import Sheet, text

_NOTE = "Over songs and seeds; p is two-sided, Holm's correction is over all differences of a metric in this table."


def contrast_table(title: str, found: Sequence[Contrast]) -> Table:
    return Table(title, [field.name for field in fields(Contrast)], [list(astuple(one)) for one in found])


def contrast_sheet(title: str, found: Sequence[Contrast]) -> Sheet:
    headings = ["metric", *(["system"] if found[0].system else []), "of", "minus", "value", "95% interval"]
    rows = [
        [text(METRICS[one.metric].label), *([text(one.system)] if one.system else []), text(one.of), text(one.minus),
         *tested(one)]
        for one in found
    ]  # fmt: skip
    count = len(headings)
    lower = [METRICS[key].label for key in dict.fromkeys(one.metric for one in found) if METRICS[key].better == "min"]
    notes = [
        _NOTE,
        *(f"{label}: a negative value is an improvement." for label in lower),
        *seed_notes(one.seeds for one in found),
    ]
    headings += ["p", "p after Holm", "seeds"]
    return Sheet(title, headings, rows, frozenset(range(count - 2, len(headings))), notes=notes)
