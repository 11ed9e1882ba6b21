"""A dashboard for a study in Weights & Biases, as code: a saved view of the project, and a draft W&B report.

It shows what ``musictag.experiment.tracking.tracker`` and ``musictag.report.wandb.log`` log. Both are built offline;
saving them needs a network connection and the package wandb-workspaces.
"""

from __future__ import annotations

import os
import re
import unicodedata
from typing import TYPE_CHECKING, Any

from musictag.common.errors import MusictagError
from musictag.evaluation.metrics import METRICS
from musictag.experiment.tracking.tracker import curve_names
from musictag.experiment.tracking.wandb_session import has_api_key
from musictag.report.content import Report
from musictag.report.figures.panels import COLOURS
from musictag.report.study import Study
from musictag.report.wandb.log import factor_values, study_name
from musictag.report.wording import SIZE, factor_label

if TYPE_CHECKING:
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

_CURVE_NAMES = {
    "train_loss": "Loss, training",
    "val_loss": "Loss, validation",
    "learning_rate": "Learning rate",
    "patches_per_second": "Patches per second",
}
_SYSTEM_METRICS = {
    "Processor (%)": "system/cpu",
    "Memory (%)": "system/memory_percent",
    "GPU (%)": "system/gpu.0.gpu",
    "GPU memory (%)": "system/gpu.0.memoryAllocated",
}


def save_workspace(report: Report, project: str, entity: str | None) -> list[str]:
    """Save both in the project; returns their URLs. Each call creates new ones.

    ``entity``: a team or user, None for the default one. Raises MusictagError without wandb-workspaces, without an API
    key, and if W&B rejects them.
    """
    check_workspaces()
    import wandb

    try:
        entity = entity or wandb.Api(timeout=30).default_entity
        view = build_workspace(report, project, entity).save()
        draft = build_report(report, project, entity).save(draft=True)
        return [view.url, draft.url]
    except Exception as error:
        raise MusictagError(f"Weights & Biases rejected the workspace ({type(error).__name__}: {error})") from error


def check_workspaces() -> None:
    """Raise MusictagError if a workspace cannot be saved, before any work is done for it."""
    try:
        import wandb_workspaces  # noqa: F401
    except ImportError as error:
        raise MusictagError("a workspace needs wandb-workspaces; run: pip install wandb-workspaces") from error
    if os.environ.get("WANDB_MODE") in ("offline", "dryrun", "disabled") or not has_api_key():
        raise MusictagError(
            "a workspace is saved on the server of Weights & Biases: run `wandb login` (or set WANDB_API_KEY), and "
            "leave WANDB_MODE unset; --wandb alone works offline"
        )


def build_workspace(report: Report, project: str, entity: str) -> ws.Workspace:
    """The saved view: runs of the study, grouped by system and factors, and sections of panels."""
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces import expr

    study = report.study
    scores = [f"test_{metric}" for metric in study.headlines]
    groups = [expr.Config("system"), *(expr.Config(key) for key in study.keys)]
    sections = {
        _scores_title(study): [*score_panels(study), *chart_panels(study)],
        "Curves": curve_panels(),
        "Tags": [
            wr.WeavePanelSummaryTable(table_name="tags"),
            _custom_chart(
                "pr_curves",
                "wandb/line/v0",
                {"x": "recall", "y": "precision", "stroke": "tag"},
                {"title": "Precision and recall"},
            ),
        ],
        "Songs": [wr.WeavePanelSummaryTable(table_name="songs")],
        "Machine": [
            wr.LinePlot(title=title, x="RelativeTime(Process)", y=[key]) for title, key in _SYSTEM_METRICS.items()
        ],
    }
    if panels := report_panels(report):
        sections["Report"] = panels
    return ws.Workspace(
        entity=entity,
        project=project,
        name=_plain(f"Study {study_name(study)}"),
        sections=[
            ws.Section(name=name, panels=panels, is_open=place < 2, layout_settings=_layout(ws, len(panels)))
            for place, (name, panels) in enumerate(sections.items())
        ],
        settings=ws.WorkspaceSettings(x_axis="epoch", max_runs=100),
        runset_settings=ws.RunsetSettings(
            filters=_filters(study),
            groupby=groups,
            order=[expr.Ordering(expr.Config("system")), expr.Ordering(expr.Summary("train_songs"))],
            group_colors=_colours(study),
            pinned_columns=[*(f"summary:{name}" for name in scores), "summary:train_songs", "summary:parameters"],
        ),
    )


def build_report(report: Report, project: str, entity: str) -> wr.Report:
    """The draft W&B report: answers, scores and curves, with one run set per system."""
    import wandb_workspaces.reports.v2 as wr

    study = report.study
    runsets = [
        wr.Runset(
            entity=entity,
            project=project,
            name=system,
            filters=_filters(study, system),
            groupby=[f"config.{key}" for key in study.keys],
        )
        for system in study.systems
    ]
    itself = wr.Runset(
        entity=entity,
        project=project,
        name="report",
        filters=_filters(study, "report"),
    )
    panels = [*chart_panels(study), *report_panels(report)]
    blocks: list[Any] = [
        wr.TableOfContents(),
        wr.H1("Main findings"),
        *(wr.P(sentence) for sentence in report.answers or ["The study has no findings yet."]),
        wr.H1(_scores_title(study)),
        wr.PanelGrid(runsets=runsets, panels=_placed(score_panels(study))),
        wr.H1("Curves"),
        wr.PanelGrid(runsets=runsets, panels=_placed(curve_panels())),
        wr.H1("Tags and songs"),
        wr.PanelGrid(
            runsets=runsets,
            panels=_placed([wr.WeavePanelSummaryTable(table_name=name) for name in ("tags", "songs")], columns=1),
        ),
    ]
    if panels:
        blocks += [wr.H1("Tables and figures"), wr.PanelGrid(runsets=[itself], panels=_placed(panels, columns=1))]
    return wr.Report(
        entity=entity,
        project=project,
        title=f"Study {study_name(study)}"[:128],
        description=f"{len(study.runs)} runs on {study.data}, {study.test_songs:,} test songs",
        blocks=blocks,
        width="fluid",
    )


def score_panels(study: Study) -> list[Any]:
    """Each headline metric against the number that varies, one point per run (training songs: log axis); else bars."""
    import wandb_workspaces.reports.v2 as wr

    if not factor_values(study):
        return [
            wr.BarPlot(
                title=METRICS[metric].label,
                metrics=[wr.SummaryMetric(f"test_{metric}")],
                groupby=wr.Config("system"),
                groupby_aggfunc="mean",
                groupby_rangefunc="stddev",
                max_bars_to_show=100,
            )
            for metric in study.headlines
        ]
    (factor,) = study.factors
    x = wr.SummaryMetric("train_songs") if factor == SIZE else wr.Config(factor)
    return [
        wr.ScatterPlot(
            title=f"{METRICS[metric].label} against {factor_label(factor)}",
            x=x,
            y=wr.SummaryMetric(f"test_{metric}"),
            log_x=factor == SIZE,
        )
        for metric in study.headlines
    ]


def chart_panels(study: Study) -> list[Any]:
    """The line charts logged by the report's run."""
    suffix, label = ("_by_doublings", "doublings of the training songs") if study.factors == [SIZE] else ("", "")
    fields = {name: name for name in ("step", "lineKey", "lineVal")}
    return [
        _custom_chart(
            f"charts/{metric}{suffix}",
            "wandb/lineseries/v0",
            fields,
            {"title": f"{METRICS[metric].label}, mean over seeds", "xname": label or factor_label(study.factors[0])},
        )
        for metric in study.headlines
        if len(factor_values(study)) > 1
    ]


def report_panels(report: Report) -> list[Any]:
    """Figures and tables as logged with the report."""
    import wandb_workspaces.reports.v2 as wr

    figures = [wr.MediaBrowser(title=name, media_keys=[f"figures/{name}"], num_columns=1) for name in report.figures]
    return figures + [wr.WeavePanelSummaryTable(table_name=f"tables/{name}") for name in report.tables]


def curve_panels() -> list[Any]:
    """Losses, scores, learning rate and speed by epoch."""
    import wandb_workspaces.reports.v2 as wr

    titles = _CURVE_NAMES | {f"val_{metric.key}": f"{metric.label}, validation" for metric in METRICS.values()}
    return [wr.LinePlot(title=titles[key], x="epoch", y=[key], title_x="epoch") for key in curve_names()]


def _custom_chart(key: str, preset: str, fields: dict[str, str], strings: dict[str, str]) -> Any:
    """The chart that was logged under ``key``; W&B keeps its rows under a different name."""
    import wandb_workspaces.reports.v2 as wr

    query = {"summaryTable": {"tableKey": f"{key}_table"}}
    return wr.CustomChart(query=query, chart_name=preset, chart_fields=fields, chart_strings=strings)


def _placed(panels: list[Any], columns: int = 3) -> list[Any]:
    """Panels side by side on the 24 columns of a report."""
    import wandb_workspaces.reports.v2 as wr

    width, height = 24 // columns, 8 if columns > 1 else 12
    for place, panel in enumerate(panels):
        panel.layout = wr.Layout(x=place % columns * width, y=place // columns * height, w=width, h=height)
    return panels


def _layout(ws: Any, panels: int) -> Any:
    columns = min(panels, 3)
    return ws.SectionLayoutSettings(columns=columns, rows=-(-panels // columns))


def _filters(study: Study, system: str | None = None) -> str:
    """Runs of the study, only those of ``system`` if given."""
    wanted = [f'Metric("Group") == {_literal(study.name)}'] if study.name else []
    if system is not None:
        wanted.append(f'Config("system") == {_literal(system)}')
    return " and ".join(wanted)


def _literal(name: str) -> str:
    """A name in a filter. The package escapes nothing, and interprets comparison signs even inside quotes."""
    return re.sub("[=<>!]", lambda sign: f"\\x{ord(sign[0]):02x}", repr(name))


def _scores_title(study: Study) -> str:
    varied = " and ".join(map(factor_label, study.factors))
    return f"Scores against {varied}" if varied else "Scores"


def _colours(study: Study) -> dict[str, str]:
    """The colours of the figures, for families with a single system."""
    families = {system: study.family(system) for system in study.systems}
    alone = [system for system, family in families.items() if list(families.values()).count(family) == 1]
    return {system: COLOURS[families[system]] for system in alone}


def _plain(name: str) -> str:
    """A valid name of a saved view: without symbols."""
    return "".join("-" if unicodedata.category(character).startswith("S") else character for character in name)
