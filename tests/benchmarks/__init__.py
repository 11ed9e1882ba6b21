"""Speeds of this machine, measured: ``python -m tests.benchmarks [section ...]``; one to three minutes a section.

Figures are medians over repetitions, on one thread a process; what happens once is timed once. Run it on an idle
machine: other work shows. Each section is a module of this package, which offers ``benchmark() -> Iterator[Figure]``.
"""

from __future__ import annotations

from importlib import import_module

from rich.console import Console
from rich.table import Table

from musictag.common.errors import MusictagError

SECTIONS = ("prepare", "data", "models", "architectures", "songbook", "metrics", "million", "baseline")


def main(names: list[str]) -> int:
    """Runs the named sections (all if none is named) and prints their figures."""
    # not above: the processes that sections start load this package too, and some need no torch
    import torch

    torch.set_num_threads(1)
    if unknown := [name for name in names if name not in SECTIONS]:
        raise MusictagError(f"no benchmark {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    for name in names or SECTIONS:
        table = Table("what", "median", "unit", title=name, title_justify="left")
        for figure in import_module(f"{__name__}.{name}").benchmark():
            table.add_row(
                figure.what, f"{figure.value:,.0f}" if figure.value >= 100 else f"{figure.value:,.2f}", figure.unit
            )
        Console().print(table)
    return 0
