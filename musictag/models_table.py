"""`musictag models`: the published combinations of front-end and back-end, with their sizes, as one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from musictag.errors import MusictagError
from musictag.frontends.harmonic import Harmonic
from musictag.frontends.spectrogram import SpectrogramFrontEnd
from musictag.preparing import CONF, compose
from musictag.published import PRETRAINED
from musictag.tagger import Tagger

NUM_TAGS = 50


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
    """Names of the files in conf/model."""
    return sorted(path.stem for path in (CONF / "model").glob("*.yaml"))


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
        tagger = Tagger(spec, config["backend"], tags, config["data"]["patch_seconds"])
        waveform = torch.zeros(1, tagger.input_samples)
    tagger.to("meta").eval()  # its constants, too
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        tagger(waveform)
    frontend, rate = tagger.frontend, tagger.sample_rate
    return ModelRow(
        name=name,
        paper=config["names"]["paper"],
        frontend=config["names"]["frontend"],
        backend=config["names"]["backend"],
        input=_input(tagger),
        parameters=sum(parameter.numel() for parameter in tagger.parameters()),
        gflops=counter.get_total_flops() / 1e9 / tagger.patch_seconds,
        receptive_seconds=None if frontend.receptive_samples is None else frontend.receptive_samples / rate,
        hop_seconds=frontend.hop_samples / rate,
    )


def _input(tagger: Tagger) -> str:
    frontend = tagger.frontend
    seconds = f"{tagger.patch_seconds:.2f} s"
    if isinstance(frontend, SpectrogramFrontEnd):
        return f"{frontend.log_mel.num_mels} mel bands, {seconds}"
    if isinstance(frontend, Harmonic):
        return f"{frontend.harmonics.num_notes} pitches × {frontend.harmonics.num_harmonics}, {seconds}"
    return f"waveform, {seconds}"


def main(names: Sequence[str] = ()) -> int:
    """Print the table of ``names`` (default: all); returns the exit status."""
    table = Table(title=f"python train.py model=...  ({NUM_TAGS} tags)")
    for heading in ("model", "paper", "front-end + back-end", "input"):
        table.add_column(heading, overflow="fold")
    for heading in ("parameters", "GFLOP per\nsecond of audio", "a frame hears /\nevery (seconds)"):
        table.add_column(heading, justify="right")
    for row in map(describe_model, names or presets()):
        heard = "all" if row.receptive_seconds is None else f"{row.receptive_seconds:.2f}"
        size = f"{row.parameters:,}"
        table.add_row(
            row.name, row.paper, row.parts, row.input, size, f"{row.gflops:.2f}", f"{heard} / {row.hop_seconds:.2f}"
        )
    Console().print(table)
    if not names:
        print(f"with published weights (musictag pretrained NAME): {', '.join(PRETRAINED)}")
    return 0
