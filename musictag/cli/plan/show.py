"""A plan as tables for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from musictag.cli.plan.advice import bottleneck, warnings
from musictag.cli.plan.arithmetic import Plan
from musictag.cli.plan.assumptions import Assumption
from musictag.common.text import quantity, readable_size
from musictag.models.summary import Sketch


def as_dict(plan: Plan, model: Sketch, assumptions: Mapping[str, Assumption]) -> dict[str, Any]:
    """The plan as plain containers; names contain the units, GB are 1e9 bytes, infinite rates are null."""
    training, validation, test = plan.songs
    reading, exchange = plan.reading, plan.exchange
    first, later = plan.first_epoch, plan.later_epoch
    return {
        "assumptions": {name: asdict(assumption) for name, assumption in assumptions.items()},
        "model": {
            "name": model.name,
            "parameters": model.parameters,
            "batch_norms": model.batch_norms,
            "gflop_per_patch_forward": model.flops / 1e9,
        },
        "data": {
            "training_songs": training,
            "validation_songs": validation,
            "test_songs": test,
            "files_gb": plan.source_bytes / 1e9,
            "prepared_gb": plan.prepared_bytes / 1e9,
            "index_gb_per_node": plan.index_bytes / 1e9,
        },
        "preparation": {
            "hours": max(plan.prepare_seconds.values(), default=0.0) / 3600,
            "slowest": max(plan.prepare_seconds, key=lambda name: plan.prepare_seconds[name], default=None),
            "hours_by_part": {name: seconds / 3600 for name, seconds in plan.prepare_seconds.items()},
        },
        "reading": {
            "needed_patches_per_second": plan.needed_patches_per_second,
            "kb_per_patch": plan.patch_bytes / 1e3,
            "bandwidth_bound_patches_per_second": reading.bandwidth_bound,
            "reads_bound_patches_per_second": reading.reads_bound,
            "memory_bound_patches_per_second": reading.memory_bound,
            "share_in_memory": reading.cached_share,
            "first_epoch_patches_per_second": reading.first_epoch,
            "later_epochs_patches_per_second": reading.later_epochs,
            "cores_if_decoded_again": plan.decoding_cores,
        },
        "exchange": {
            "gradient_mb_per_step": exchange.bytes_per_step / 1e6,
            "buckets": exchange.buckets,
            "gradient_ms": exchange.gradient_seconds * 1e3,
            "hidden_ms": exchange.hidden_seconds * 1e3,
            "statistics_ms": exchange.statistics_seconds * 1e3,
            "added_ms_per_step": exchange.seconds * 1e3,
        },
        "scaling": [asdict(row) for row in plan.scaling],
        "training": {
            "patches_per_epoch": plan.patches_per_epoch,
            "steps_per_epoch": plan.steps_per_epoch,
            "first_epoch_hours": first.seconds / 3600,
            "epoch_hours": later.seconds / 3600,
            "epoch_seconds_by_part": asdict(later),
            "test_hours": plan.test_seconds / 3600,
            "hours": plan.training_seconds / 3600,
            "gpu_hours": plan.gpu_hours,
            "price": plan.price,
        },
        "bottleneck": bottleneck(plan),
        "warnings": list(warnings(plan)),
    }


def print_json(content: dict[str, Any]) -> None:
    print(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))


def print_plan(plan: Plan, model: Sketch, assumptions: Mapping[str, Assumption]) -> None:
    """Assumptions, results, weak scaling, where the time goes, and warnings."""
    console = Console()
    numbers = plan.numbers
    console.print(
        f"[bold]{escape(model.name)}[/bold] ({model.parameters:,} parameters) on {numbers.songs:,} songs of "
        f"{numbers.song_seconds:g} s, {quantity(numbers.nodes, 'node')} of {quantity(numbers.gpus, 'GPU')}",
        highlight=False,
    )
    console.print(_assumptions(assumptions))
    console.print(_results(plan))
    console.print(_scaling(plan))
    _say(console, f"Time of an epoch: {_shares(plan)}.")
    _say(console, f"[bold]Bottleneck:[/bold] {bottleneck(plan)}.")
    for warning in warnings(plan):
        _say(console, f"[yellow]warning:[/yellow] {escape(warning)}")


def _assumptions(assumptions: Mapping[str, Assumption]) -> Table:
    table = Table(title="Assumed", box=SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0))
    table.add_column("option", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("unit", overflow="fold")
    table.add_column("from", overflow="fold")
    for name, assumption in assumptions.items():
        flag = "--" + name.replace("_", "-")
        table.add_row(flag, escape(_number(assumption.value)), escape(assumption.unit), escape(assumption.source))
    return table


def _results(plan: Plan) -> Table:
    table = Table(title="Results", box=SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0), show_header=False)
    table.add_column("what", overflow="fold")
    table.add_column("result", overflow="fold")
    training, validation, test = plan.songs
    reading, exchange, later = plan.reading, plan.exchange, plan.later_epoch
    parts = plan.prepare_seconds
    table.add_row("songs", f"{training:,} for training, {validation:,} for validation, {test:,} for test")
    table.add_row("prepared audio", f"{readable_size(plan.prepared_bytes)} (files: {readable_size(plan.source_bytes)})")
    prepared = (
        f"{_hours(max(parts.values()))} ({max(parts, key=lambda name: parts[name])})" if parts else "already done"
    )
    table.add_row("preparation, once, on one machine", prepared)
    table.add_row("memory for the index, per node", readable_size(plan.index_bytes))
    table.add_row("an epoch", f"{plan.patches_per_epoch:,} patches in {plan.steps_per_epoch:,} steps")
    table.add_row("the GPUs can train", f"{_number(plan.needed_patches_per_second)} patches per second")
    table.add_row(
        "storage delivers",
        f"{_number(reading.bandwidth_bound)} by bandwidth, {_number(reading.reads_bound)} by reads",
    )
    table.add_row(
        f"with {reading.cached_share:.0%} of the audio in memory",
        f"{_number(reading.first_epoch)} in the first epoch, {_number(reading.later_epochs)} in later ones",
    )
    if plan.decoding_cores is not None:
        table.add_row("cores, if each patch were decoded from its file", _number(plan.decoding_cores))
    if plan.numbers.world > 1:
        table.add_row(
            "gradients that each GPU sends per step",
            f"{exchange.bytes_per_step / 1e6:,.1f} MB in {quantity(exchange.buckets, 'bucket')}",
        )
        table.add_row(
            "takes",
            f"{exchange.gradient_seconds * 1e3:.2f} ms, {exchange.hidden_seconds * 1e3:.2f} ms hidden; statistics "
            f"{exchange.statistics_seconds * 1e3:.2f} ms",
        )
    first = f" (the first: {_hours(plan.first_epoch.seconds)})" if plan.first_epoch != later else ""
    table.add_row("an epoch takes", f"{_hours(later.seconds)}{first}")
    table.add_row(f"{plan.numbers.epochs} epochs and the test", f"{_hours(plan.training_seconds)}")
    cost = "" if plan.price is None else f", price {plan.price:,.2f}"
    table.add_row("GPU hours", f"{plan.gpu_hours:,.1f}{cost}")
    return table


def _scaling(plan: Plan) -> Table:
    title = "Weak scaling: each GPU keeps its share of the batch"
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0))
    for heading in ("GPUs", "batch", "patches per second", "efficiency", "limited by"):
        table.add_column(heading, justify="left" if heading == "limited by" else "right")
    for row in plan.scaling:
        rate, efficiency = _number(row.patches_per_second), f"{row.efficiency:.1%}"
        table.add_row(str(row.gpus), f"{row.batch_size:g}", rate, efficiency, row.limit)
    return table


def _shares(plan: Plan) -> str:
    epoch = plan.later_epoch
    parts = {
        "computing": epoch.computing,
        "exchange": epoch.exchange,
        "waiting for audio": epoch.waiting,
        "validation": epoch.validation,
    }
    return ", ".join(f"{name} {seconds / epoch.seconds:.1%}" for name, seconds in parts.items())


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True)


def _hours(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} minutes" if seconds < 7200 else f"{seconds / 3600:,.1f} hours"


def _number(value: float | int | str | bool | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.4g}"
