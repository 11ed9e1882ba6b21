"""The report of a study as one run in Weights & Biases, in the same group as the study's runs."""

from __future__ import annotations

from collections.abc import Callable
from math import log2
from pathlib import Path
from statistics import fmean
from typing import Any

from musictag.evaluation.metrics import METRICS
from musictag.experiment.tracking.wandb_session import finish_run, run_id, start_run
from musictag.report.content import Report
from musictag.report.study import Study
from musictag.report.wording import SIZE, factor_label

PAGE_BYTES = 20_000_000  # a larger page is only in the artifact


def log_report(report: Report, project: str, entity: str | None) -> None:
    """Log answers, figures, tables, line charts, the page and all files of ``report``, online or offline; prints where.

    Logging the same study again updates its W&B run.
    """
    import wandb

    study = report.study
    name = study_name(study)
    run = start_run(
        report.out,
        project=project,
        entity=entity,
        id=run_id("report", study.data, name),
        name=f"report {name}",
        group=study.name,
        job_type="report",
        tags=["report"],
        notes="\n\n".join(report.answers),
        config={
            "system": "report",
            "study": study.name,
            "data": {"name": study.data},
            "systems": study.systems,
            "factors": study.keys,
            "seeds": study.seeds,
        },
    )
    try:
        run.summary.update({"runs": len(study.runs), "test_songs": study.test_songs})
        run.summary["crossings"] = [found.text for found in report.crossings]
        logged: dict[str, Any] = {f"charts/{key}": chart for key, chart in line_charts(study).items()}
        for key, path in report.figures.items():
            logged[f"figures/{key}"] = wandb.Image(str(path), caption=f"{name}: {key}")
        for key, table in report.tables.items():
            logged[f"tables/{key}"] = wandb.Table(columns=table.columns, data=table.rows, allow_mixed_types=True)
        page = report.out / "report.html"
        if page.is_file() and page.stat().st_size <= PAGE_BYTES:
            logged["page"] = wandb.Html(page.read_text(encoding="utf-8"), inject=False)
        run.log(logged)
        run.log_artifact(_artifact(report.out, run_id("report", study.data, name)))
    except BaseException:
        finish_run(run, exit_code=1)
        raise
    finish_run(run, exit_code=0)


def study_name(study: Study) -> str:
    return study.name or f"all runs on {study.data}"


def line_charts(study: Study) -> dict[str, Any]:
    """Line-series charts of the mean scores, one per headline metric, if a single number varies; else none.

    For training songs there is a second chart each, over the doublings of the smallest size: W&B draws this kind of
    chart on a linear axis, which then acts as a logarithmic one. A system without the setting (a baseline) is a
    horizontal line.
    """
    import wandb

    values = factor_values(study)
    charts = {}
    for metric in study.headlines if len(values) > 1 else ():
        lines = {system: means_of(study, system, metric) for system in study.systems}
        for suffix, label, scaled in _scales(study, values[0]):
            charts[f"{metric}{suffix}"] = wandb.plot.line_series(
                xs=[[scaled(x) for x in line] for line in lines.values()],
                ys=[list(line.values()) for line in lines.values()],
                keys=list(lines),
                title=f"{METRICS[metric].label} of the test songs, mean over seeds",
                xname=label,
            )
    return charts


def factor_values(study: Study) -> list[float]:
    """The sorted values of the only number that varies in the study; empty if there is none or more than one."""
    if len(study.factors) != 1:
        return []
    values = {run.condition[0] for run in study.runs} - {None}
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return sorted(values) if numeric else []


def means_of(study: Study, system: str, metric: str) -> dict[float, float]:
    """The mean over the seeds at each value of the factor; the same at each for a system without the factor."""
    scores: dict[float | None, list[float]] = {}
    for run in study.runs:
        if run.system == system:
            scores.setdefault(run.condition[0], []).append(run.value(metric))
    if None in scores:
        return dict.fromkeys(factor_values(study), fmean(scores[None]))
    return {value: fmean(scores[value]) for value in sorted(scores)}


def _scales(study: Study, smallest: float) -> list[tuple[str, str, Callable[[float], float]]]:
    label = factor_label(study.factors[0])
    scales: list[tuple[str, str, Callable[[float], float]]] = [("", label, lambda x: x)]
    if study.factors == [SIZE]:
        scales.append(("_by_doublings", f"doublings of {smallest:,} {label}", lambda x: log2(x / smallest)))
    return scales


def _artifact(folder: Path, name: str) -> Any:
    """Every file of the report, except what W&B itself keeps there."""
    import wandb

    artifact = wandb.Artifact(name, type="report")
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_file() and inside.parts[0] != "wandb":
            artifact.add_file(str(path), name=inside.as_posix())
    return artifact
