"""The content of a report, independent of how it is shown: as files, as a page, or in Weights & Biases.

Legend: S songs, K tags.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from musictag.report.statistics.crossing import Crossing
    from musictag.report.statistics.paired_tests import Difference
    from musictag.report.statistics.scaling import Curve
    from musictag.report.study import Study


@dataclass(frozen=True)
class Table:
    """A table of plain values (str, int, float, bool or None). ``notes`` go below it, one or two sentences each."""

    title: str
    columns: list[str]
    rows: list[list[Any]]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """All results of a study. Fields that do not apply are empty (``curves`` without training sizes, ...).

    ``tables``: by name, such as ``"scores"``. ``figures``: PNG files by name, such as ``"scaling"``, possibly with an
    SVG of the same name. ``curves``: by headline metric. ``answers``: sentences.
    """

    study: Study
    out: Path
    tables: dict[str, Table]
    figures: dict[str, Path]
    curves: dict[str, list[Curve]]
    crossings: list[Crossing]
    differences: list[Difference]
    gains: list[Any]
    popularity: list[Any]
    exclusive: Any
    answers: list[str] = field(default_factory=list)
