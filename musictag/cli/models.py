"""`musictag models`: a table of the published combinations of front-end and back-end, with their sizes."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from musictag.common.errors import MusictagError
from musictag.models.pretrained import PRETRAINED

NUM_TAGS = 50
WIDE = 120  # terminal columns from which the parts fit, too


@dataclass(frozen=True)
class ModelRow:
    """A preset: ``gflops`` per second of audio at inference, counting multiplications and additions separately, for
    convolutions and matrix products (without the FFT); ``receptive_seconds``: receptive field of a frame of the
    front-end, None if it is the whole patch; ``hop_seconds``: from one frame to the next."""

    name: str
    paper: str
    frontend: str
    backend: str
    input: str
    parameters: int
    gflops: float
    receptive_seconds: float | None
    hop_seconds: float

    @property
    def parts(self) -> str:
        return self.frontend if self.frontend == self.backend else f"{self.frontend} + {self.backend}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `musictag models`."""
    parser.description = (
        "The published combinations of front-end and back-end that `python train.py model=NAME` trains: "
        "input, parameters, cost, and the receptive field and hop of the front-end."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these (default: all)")


def run(arguments: argparse.Namespace) -> int:
    """Print the table for some models, or for all; returns the exit status. Raises MusictagError for other names."""
    from musictag.experiment.compose import presets

    console = Console()
    wide = console.width >= WIDE
    table = Table(title=f"python train.py model=...  ({NUM_TAGS} tags)", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("model", no_wrap=True)
    for heading in ("paper", *(["front-end + back-end"] if wide else []), "input"):
        table.add_column(heading, overflow="fold")
    for heading in ("parameters", "GFLOP per\nsecond", "receptive field\n/ hop (s)"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in map(describe_model, arguments.names or presets()):
        field = "all" if row.receptive_seconds is None else f"{row.receptive_seconds:.2f}"
        sizes = (f"{row.parameters:,}", f"{row.gflops:.2f}", f"{field} / {row.hop_seconds:.2f}")
        table.add_row(row.name, row.paper, *([row.parts] if wide else []), row.input, *sizes)
    console.print(table)
    if not arguments.names:
        print(f"with published weights (musictag pretrained NAME): {', '.join(PRETRAINED)}")
    return 0


def describe_model(name: str) -> ModelRow:
    """The model of `python train.py model=NAME`, for 50 tags. Only shapes are computed, no values."""
    from musictag.experiment.compose import compose, networks
    from musictag.models.summary import sketch

    if name not in networks():
        raise MusictagError(f"there is no model {name}; choose from {', '.join(networks())}")
    config = compose([f"model={name}"])
    found = sketch(config, NUM_TAGS)
    frontend, rate = found.network.frontend, found.network.sample_rate
    return ModelRow(
        name=name,
        paper=config["names"]["paper"] or "-",
        frontend=config["names"]["frontend"],
        backend=config["names"]["backend"],
        input=f"{frontend.describe_input()}, {found.network.patch_seconds:.2f} s",
        parameters=found.parameters,
        gflops=found.flops / 1e9 / found.patch_seconds,
        receptive_seconds=None if frontend.receptive_samples is None else frontend.receptive_samples / rate,
        hop_seconds=frontend.hop_samples / rate,
    )
