"""Speed measurements on this machine: ``python -m tests.benchmarks [section ...]``; one to three minutes per section.

Figures are medians over repetitions, with one thread per process; one-off work is timed once. Run them on an idle
machine, since other load distorts them. Each section is a module of this package with a function ``benchmark() ->
Iterator[Figure]``.
"""

from __future__ import annotations

from importlib import import_module

from rich.console import Console
from rich.table import Table

from musictag.common.errors import MusictagError

#: Sections with options and tables of their own: ``python -m tests.benchmarks gpu --help``. Run only if named.
PROGRAMS = ("gpu", "growth", "peers")
SECTIONS = (
    "prepare",
    "data",
    "models",
    "inference",
    "library",
    "training",
    "architectures",
    "songbook",
    "metrics",
    "million",
    "baseline",
    "probe",
    "startup",
    "profile",
)


def main(names: list[str]) -> int:
    """Runs the named sections (all SECTIONS if none is named) and prints their figures; or one of PROGRAMS."""
    if names and names[0] in PROGRAMS:
        return import_module(f"{__name__}.{names[0]}").main(names[1:])
    # imported here: the processes that sections start load this package too, and some do not need torch
    import torch

    torch.set_num_threads(1)
    if unknown := [name for name in names if name not in SECTIONS]:
        raise MusictagError(f"no benchmark {', '.join(unknown)}; choose from {', '.join(SECTIONS + PROGRAMS)}")
    for name in names or SECTIONS:
        table = Table("what", "median", "unit", title=name, title_justify="left")
        for figure in import_module(f"{__name__}.{name}").benchmark():
            table.add_row(
                figure.what, f"{figure.value:,.0f}" if figure.value >= 100 else f"{figure.value:,.2f}", figure.unit
            )
        Console().print(table)
    return 0
