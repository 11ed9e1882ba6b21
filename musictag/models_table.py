"""`musictag models`: the published combinations of front-end and back-end, with their sizes, as one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from musictag.errors import MusictagError
from musictag.frontends.harmonic import Harmonic
from musictag.frontends.spectrogram import SpectrogramFrontEnd
from musictag.models.network import TaggingNetwork
from musictag.preparing import CONF, compose
from musictag.published import PRETRAINED

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


def presets() -> list[str]:
    """Names of the files in conf/model that describe a network; the others choose a baseline, or nothing."""
    files = (CONF / "model").glob("*.yaml")
    return sorted(path.stem for path in files if "override /frontend" in path.read_text(encoding="utf-8"))


def describe_model(name: str) -> ModelRow:
    """What `python train.py model=NAME` trains, for 50 tags. Nothing is computed: the network is only sketched."""
    if name not in presets():
        raise MusictagError(f"there is no model {name}; there are {', '.join(presets())}")
    config = compose([f"model={name}"])
    spec = config["frontend"]
    if spec.get("normalise") == "dataset":
        spec = spec | {"normalise": "none"}  # what is measured before training is no parameter
    tags = [{"name": f"tag {i}"} for i in range(NUM_TAGS)]
    with torch.device("meta"):
        network = TaggingNetwork(spec, config["backend"], tags, config["data"]["patch_seconds"])
        waveform = torch.zeros(1, network.input_samples)
    network.to("meta").eval()  # its constants, too
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(waveform)
    frontend, rate = network.frontend, network.sample_rate
    return ModelRow(
        name=name,
        paper=config["names"]["paper"] or "-",
        frontend=config["names"]["frontend"],
        backend=config["names"]["backend"],
        input=_input(network),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        gflops=counter.get_total_flops() / 1e9 / network.patch_seconds,
        receptive_seconds=None if frontend.receptive_samples is None else frontend.receptive_samples / rate,
        hop_seconds=frontend.hop_samples / rate,
    )


def _input(network: TaggingNetwork) -> str:
    frontend = network.frontend
    seconds = f"{network.patch_seconds:.2f} s"
    if isinstance(frontend, SpectrogramFrontEnd):
        return f"{frontend.log_mel.num_mels} mel, {seconds}"
    if isinstance(frontend, Harmonic):
        return f"{frontend.harmonics.num_notes} notes × {frontend.harmonics.num_harmonics}, {seconds}"
    return f"waveform, {seconds}"


def main(names: Sequence[str] = ()) -> int:
    """Print the table of ``names`` (default: all); returns the exit status."""
    console = Console()
    wide = console.width >= WIDE
    table = Table(title=f"python train.py model=...  ({NUM_TAGS} tags)", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("model", no_wrap=True)
    for heading in ("paper", *(["front-end + back-end"] if wide else []), "input"):
        table.add_column(heading, overflow="fold")
    for heading in ("parameters", "GFLOP a\nsecond", "a frame hears\n/ every (s)"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in map(describe_model, names or presets()):
        heard = "all" if row.receptive_seconds is None else f"{row.receptive_seconds:.2f}"
        sizes = (f"{row.parameters:,}", f"{row.gflops:.2f}", f"{heard} / {row.hop_seconds:.2f}")
        table.add_row(row.name, row.paper, *([row.parts] if wide else []), row.input, *sizes)
    console.print(table)
    if not names:
        print(f"with published weights (musictag pretrained NAME): {', '.join(PRETRAINED)}")
    return 0
