"""What the names of settings stand for."""

from __future__ import annotations

from musictag.report.content import Table
from musictag.report.settings import NOT_SET
from musictag.report.study import Study
from musictag.report.tables.formats import Cell, Sheet, join, text
from musictag.report.wording import NAMED, SIZE, shown


def legend_table(study: Study) -> Table:
    """One line per named combination, one column per setting that varies; empty where it does not concern the runs."""
    keys = [key for key in study.keys if key != SIZE]
    rows = []
    for line in study.legend:
        values = [shown(value) if isinstance(value, tuple) else value for value in map(line.values.get, keys)]
        rows.append([line.name, ", ".join(line.systems), line.runs, *values])
    return Table("Settings", ["settings", "systems", "runs", *keys], rows)


def legend_sheet(study: Study) -> Sheet:
    """The most common combination, then how the others differ from it, as one would type it."""
    concerned = {run.system for run in study.runs if run.condition[study.factors.index(NAMED)] is not None}
    rows = []
    for line in reversed(study.legend):
        said = line.differences or {key: value for key, value in line.values.items() if value != NOT_SET}
        typed = " ".join(f"{key}={shown(value)}" for key, value in said.items())
        who = "all" if concerned == set(line.systems) == set(study.systems) else join(line.systems)
        rows.append([text(line.name), Cell(typed, typed), text(who), text(line.runs)])
    notes = [
        f"“{study.legend[-1].name}” is the most common combination, with all settings that vary; the others: what "
        "differs from it. Names are labels or such differences; +n: and n more."
    ]
    if outside := [system for system in study.systems if system not in concerned]:
        notes.append(f"These settings do not concern {join(outside)}.")
    return Sheet("What the settings are", ["name", "settings", "systems", "runs"], rows, frozenset({3}), notes=notes)
