"""`musictag models`: the published combinations of front-end and back-end, with their sizes, as one table."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from musictag.common.errors import MusictagError
from musictag.models.pretrained import PRETRAINED

if TYPE_CHECKING:
    pass

NUM_TAGS = 50
WIDE = 120  # columns of a terminal in which the parts have room, too


@dataclass(frozen=True)
class ModelRow:
    """A preset: ``gflops`` a second of audio in evaluation, multiplications and additions counted apart, of
    convolutions and matrix products (the FFT is not counted); ``receptive_seconds`` of a frame of the front-end, None
    where it hears the whole patch; ``hop_seconds`` between two."""

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
    """What stands after `musictag models`."""
    parser.description = (
        "The published combinations of front-end and back-end that `python train.py model=NAME` trains: "
        "input, parameters, cost, and how much one frame of the front-end hears (and how far frames are apart)."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these (default: all)")


def run(arguments: argparse.Namespace) -> int:
    """Print the table of some models, or of all; returns the exit status. Raises MusictagError for other names."""
    from musictag.experiment.compose import presets

    console = Console()
    wide = console.width >= WIDE
    table = Table(title=f"python train.py model=...  ({NUM_TAGS} tags)", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("model", no_wrap=True)
    for heading in ("paper", *(["front-end + back-end"] if wide else []), "input"):
        table.add_column(heading, overflow="fold")
    for heading in ("parameters", "GFLOP a\nsecond", "a frame hears\n/ every (s)"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in map(describe_model, arguments.names or presets()):
        heard = "all" if row.receptive_seconds is None else f"{row.receptive_seconds:.2f}"
        sizes = (f"{row.parameters:,}", f"{row.gflops:.2f}", f"{heard} / {row.hop_seconds:.2f}")
        table.add_row(row.name, row.paper, *([row.parts] if wide else []), row.input, *sizes)
    console.print(table)
    if not arguments.names:
        print(f"with published weights (musictag pretrained NAME): {', '.join(PRETRAINED)}")
    return 0


def describe_model(name: str) -> ModelRow:
    """What `python train.py model=NAME` trains, for 50 tags. Nothing is computed: the network is only sketched."""
    from musictag.experiment.compose import compose, presets
    from musictag.models.summary import sketch

    if name not in presets():
        raise MusictagError(f"there is no model {name}; there are {', '.join(presets())}")
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
