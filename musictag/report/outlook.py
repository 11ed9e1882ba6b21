"""The parts of a report that say how far its numbers carry: laws put to the test, noise, compute, the checklist."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from musictag.common.errors import MusictagError
from musictag.evaluation.metrics import METRICS
from musictag.report.content import Table
from musictag.report.figures.forecasts import compute_figure, law_figure
from musictag.report.page.html import Section
from musictag.report.statistics.components import Components, SeedsNeeded, seeds_needed, variance_components
from musictag.report.statistics.forecast import Forecast, Forecasts, Prospect, Reach, coverage_words
from musictag.report.statistics.resampling import Draws
from musictag.report.statistics.scaling import is_scaling
from musictag.report.statistics.tag_outlook import TagOutlook, tag_outlook
from musictag.report.study import Study
from musictag.report.tables import checklist, protocol
from musictag.report.tables import forecasts as tables_of
from musictag.report.tables.formats import Sheet
from musictag.report.wording import SIZE


@dataclass(frozen=True)
class Outlook:
    """``metric``: of what is asked of one metric alone (PR-AUC where there is one). Empty where it does not apply."""

    metric: str | None
    forecasts: list[Forecast]
    prospects: list[Prospect]
    reaches: list[Reach]
    tags: list[TagOutlook]
    components: list[Components]
    needed: list[SeedsNeeded]
    items: list[tuple[str, str]]


def check_targets(study: Study, targets: Mapping[str, float]) -> None:
    """Raises MusictagError for a target of which the study has no curve."""
    if targets and not is_scaling(study):
        raise MusictagError(
            "--target asks how many songs a score needs, but this study does not vary their number alone"
        )
    for metric, score in targets.items():
        if metric not in study.headlines:
            raise MusictagError(f"--target {metric}: the study has curves of {', '.join(study.headlines)}")
        low, high = METRICS[metric].bounds
        if not low <= score <= high:
            raise MusictagError(f"--target {metric}={score:g}: the metric goes from {low:g} to {high:g}")


def look_ahead(study: Study, draws: Draws, targets: Mapping[str, float]) -> Outlook:
    """Everything of these parts."""
    metric = next((key for key in ("pr_auc", *study.headlines) if key in study.metrics), None)
    found: list[Forecasts] = []
    if is_scaling(study):
        found = [Forecasts(study, draws, key) for key in study.headlines]
    every = [forecast for of_metric in found for forecast in of_metric.found]
    components = variance_components(study, draws, metric) if metric else []
    of_tags = [forecast for forecast in every if forecast.metric == metric and METRICS[metric].kind == "classification"]
    return Outlook(
        metric=metric,
        forecasts=every,
        prospects=[one for of_metric in found for one in of_metric.prospects()],
        reaches=[one for of_metric in found if of_metric.metric in targets
                 for one in of_metric.reaches(targets[of_metric.metric])],
        tags=tag_outlook(study, draws, of_tags),
        components=components,
        needed=seeds_needed(study, draws, metric) if metric else [],
        items=checklist.checklist(study, every, components, draws.resamples) if SIZE in study.factors else [],
    )  # fmt: skip


def draw(study: Study, found: Outlook, out: Path) -> dict[str, Path]:
    """The figures, by name."""
    drawn = {}
    if found.forecasts and found.metric:
        drawn["laws"] = out / "laws.png"
        law_figure(study, found.forecasts, found.metric, drawn["laws"])
    if found.metric and SIZE in study.factors and protocol.has_compute(study):
        drawn["compute"] = out / "compute.png"
        compute_figure(study, protocol.compute_rows(study), found.metric, drawn["compute"])
    return drawn


def tables(study: Study, found: Outlook) -> dict[str, Table | None]:
    """Plain tables, by name; None where there is nothing."""
    has_sizes = SIZE in study.factors
    return {
        "laws": tables_of.law_table(found.forecasts) if found.forecasts else None,
        "held_out": tables_of.held_out_table(found.forecasts) if coverage_words(found.forecasts) else None,
        "prospects": tables_of.prospect_table(found.prospects) if found.prospects else None,
        "songs_needed": tables_of.reach_table(found.reaches) if found.reaches else None,
        "tag_outlook": tables_of.outlook_table(found.tags) if found.tags else None,
        "variance": tables_of.component_table(found.components, found.needed) if found.components else None,
        "convergence": protocol.convergence_table(study) if protocol.convergence_sheet(study) else None,
        "choices": protocol.choice_table(study) if protocol.choice_rows(study) else None,
        "compute": protocol.compute_table(study) if protocol.has_compute(study) else None,
        "overlap": protocol.overlap_table(study) if has_sizes else None,
        "checklist": checklist.checklist_table(found.items) if found.items else None,
    }


def sections(study: Study, found: Outlook) -> list[Section]:
    """The sections that have something to show."""
    parts = []
    if found.forecasts:
        sheets: list[tuple[str, Sheet]] = []
        if coverage := coverage_words(found.forecasts):
            sheets.append(("held_out", tables_of.held_out_sheet(found.forecasts)))
        sheets.append(("laws", tables_of.law_sheet(found.forecasts)))
        if found.reaches:
            sheets.append(("songs_needed", tables_of.reach_sheet(found.reaches)))
        if found.prospects:
            sheets.append(("prospects", tables_of.prospect_sheet(found.prospects)))
        if found.tags:
            sheets.append(("tag_outlook", tables_of.outlook_sheet(found.tags)))
        nothing = (
            "Nothing could be held out: that takes three sizes, and smaller ones with the shape of a learning curve."
        )
        words = [coverage or nothing]
        parts.append(Section("laws", "Predictions put to the test", "Predictions", words, ["laws"], sheets))
    noise = list(tables_of.component_sheets(found.components, found.needed).items())
    if noise:
        parts.append(Section("variance", "What scores vary with", "Variance", sheets=noise))
    made: list[tuple[str, Sheet]] = []
    if sheet := protocol.convergence_sheet(study):
        made.append(("convergence", sheet))
    if protocol.choice_rows(study):
        made.append(("choices", protocol.choice_sheet(study)))
    if protocol.has_compute(study):
        made.append(("compute", protocol.compute_sheet(study)))
    if SIZE in study.factors:
        made.append(("overlap", protocol.overlap_sheet(study)))
    if made:
        words = [sentence] if (sentence := protocol.convergence_words(study)) else []
        parts.append(Section("protocol", "How it was trained", "Training", words, ["compute"], made))
    if found.items:
        sheet = checklist.checklist_sheet(found.items)
        parts.append(Section("checklist", "Checklist", "Checklist", sheets=[("checklist", sheet)]))
    return parts
