"""Tables of test scores for the terminal."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from musictag.common.text import some
from musictag.evaluation.metrics import METRICS


def result_table(metrics: dict[str, Any], title: str) -> Table:
    """All metrics for the terminal, each with its interval and chance value, and the songs and tags behind them."""
    measured = _scored(metrics, "rmse")
    left_out = metrics["tags_left_out"]
    caption = f"{metrics['songs']:,} songs, {metrics['tags_scored']} tags scored"
    if measured:
        plural = "s" if len(measured) > 1 else ""
        caption += f" and {len(measured)} regression tag{plural} (chance RMSE: always predicting a tag's mean)"
    if left_out:
        caption += f"; {len(left_out)} left out (one class only, or unknown): {some(left_out)}"
    if metrics["resamples"]:
        caption += f"; intervals from {metrics['resamples']:,} resamples of the songs"
    table = Table(title=escape(title), title_justify="left", caption=escape(caption), caption_justify="left")
    table.min_width = 72
    table.add_column("metric")
    table.add_column("score", justify="right", style="bold")
    table.add_column(f"{metrics['confidence']:.0%} interval", justify="right")
    table.add_column("chance", justify="right")
    for metric in METRICS.values():
        if (entry := metrics[metric.key]) is not None:
            row = metric.show(entry["value"]), _interval(entry, metric.decimals), metric.show(metric.chance(metrics))
            table.add_row(metric.label, *row)
    return table


def tag_table(metrics: dict[str, Any], best: int = 5, worst: int = 5) -> Table:
    """The classification tags with the highest and lowest ROC-AUC, for the terminal; all of them if there are few."""
    ranked = sorted(_scored(metrics, "roc_auc"), key=lambda tag: -tag["roc_auc"])
    table = Table(title=f"Best {best} and worst {worst} tags" if len(ranked) > best + worst else "Tags")
    table.title_justify = "left"
    table.add_column("tag")
    columns = [metric for metric in METRICS.values() if metric.per_tag and metric.kind != "regression"]
    for heading in ("songs with it", "prevalence", *(metric.label for metric in columns)):
        table.add_column(heading, justify="right")
    shown = ranked if len(ranked) <= best + worst else ranked[:best] + ranked[len(ranked) - worst :]
    for place, tag in enumerate(shown):
        numbers = f"{tag['positives']:,}", f"{tag['prevalence']:.3f}", *(m.show(tag[m.key]) for m in columns)
        table.add_row(escape(tag["name"]), *numbers, end_section=len(shown) < len(ranked) and place == best - 1)
    return table


def _scored(metrics: dict[str, Any], key: str) -> list[dict[str, Any]]:
    return [tag for tag in metrics["tags"] if tag[key] is not None]


def _relative_error(tag: dict[str, Any]) -> float:
    return tag["rmse"] / tag["rmse_of_mean"] if tag["rmse_of_mean"] else np.inf


def _interval(entry: dict[str, Any], decimals: int = 3) -> str:
    return "-" if entry["low"] is None else f"{entry['low']:.{decimals}f} to {entry['high']:.{decimals}f}"


def _mean_of(headline: dict[str, Any]) -> str:
    interval = "" if headline["low"] is None else f" ({_interval(headline)})"
    return f"mean {headline['value']:.3f}{interval}"


def _summary(metrics: dict[str, Any]) -> str:
    parts = [f"{metrics['songs']:,} songs", f"{metrics['tags_scored']} tags scored"]
    if metrics["regression_tags_scored"]:
        parts.append(f"{metrics['regression_tags_scored']} regression tags")
    if metrics["tags_left_out"]:
        parts.append(f"{len(metrics['tags_left_out'])} left out: one class only, or unknown")
    if metrics["resamples"]:
        parts.append(f"{metrics['confidence']:.0%} intervals over songs in brackets")
    return "   ·   ".join(parts)
