"""musictag beside others, on one core: ``python -m tests.benchmarks peers [options]``.

The same batch of audio through the same network: musictag's own; plain PyTorch modules (plain.py); the paper's waveform
model as a graph of TensorFlow 1, if ``--tensorflow`` names a Python that has TensorFlow; and public code, if you have
fetched it: ``--minzwon FOLDER``, a clone of github.com/minzwon/sota-music-tagging-models (its training/model.py is
imported), ``--clmr FOLDER``, one of github.com/Spijkervet/CLMR (clmr/models/sample_cnn.py). With ``--musicnn PYTHON``,
the musicnn package of that Python and musictag tag the same MP3 files on one processor.

Every participant has its own process. They step in turn, so that other load on the machine meets all of them, and a
ratio is taken between medians; its interval is the 95% bootstrap interval over the turns.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from musictag.common.errors import MusictagError
from tests.benchmarks.inference import FILES
from tests.benchmarks.prepare import MadeFiles
from tests.benchmarks.tables import Table

_ROOT = Path(__file__).parents[3]
_ENVIRONMENT = {"PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1"}
_BATCH_SECONDS = 48
_RESAMPLES = 2000
#: Public code: folder inside the clone that holds it, module, and by preset its class and arguments.
PUBLIC: dict[str, tuple[str, str, dict[str, tuple[str, dict[str, Any]]]]] = {
    "minzwon": (
        "training",
        "model",
        {"samplecnn": ("SampleCNN", {}), "musicnn": ("Musicnn", {}), "short_chunk": ("ShortChunkCNN", {})},
    ),
    "clmr": (
        "",
        "clmr.models.sample_cnn",
        {"samplecnn": ("SampleCNN", {"strides": [3] * 9, "supervised": True, "out_dim": 50})},
    ),
}
COLUMNS = ("model", "mode", "batch", "who", "ms", "from", "to", "times musictag", "from ", "to ")
_CAPTION = (
    "Milliseconds for a batch on one thread, and how many times musictag's own (float32): medians over the turns, with "
    "their 95% bootstrap intervals. minzwon's musicnn filters the mean over the bands with its long filters, where "
    "musicnn filters every band: it computes less."
)


def main(arguments: Sequence[str]) -> int:
    """Prints the table; raises MusictagError for a folder or a Python that does not exist."""
    from tests.benchmarks.peers.plain import MODELS

    parser = argparse.ArgumentParser("python -m tests.benchmarks peers", description=_CAPTION)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--modes", nargs="+", choices=("training", "inference"), default=["inference", "training"])
    parser.add_argument("--ours", nargs="*", default=[], metavar="musictag-bf16", help="also: musictag-compiled")
    parser.add_argument("--turns", type=int, default=9, help="steps of every participant")
    parser.add_argument("--minzwon", type=Path, help="a clone of minzwon/sota-music-tagging-models")
    parser.add_argument("--clmr", type=Path, help="a clone of Spijkervet/CLMR")
    parser.add_argument("--tensorflow", type=Path, help="a Python with TensorFlow 2.15 or older: tf.compat.v1.layers")
    parser.add_argument("--musicnn", type=Path, help="a Python with the musicnn package and TensorFlow 2.15 or older")
    parser.add_argument("--out", type=Path, help="folder for the table as CSV and Markdown")
    chosen = parser.parse_args(arguments)
    given = {name: getattr(chosen, name) for name in ("minzwon", "clmr", "tensorflow")}
    for name, path in [*given.items(), ("musicnn", chosen.musicnn)]:
        if path is not None and not path.exists():
            raise MusictagError(f"--{name} {path} does not exist")
    with Table("peers", COLUMNS, _CAPTION, chosen.out) as table:
        for model, mode in product(chosen.models, chosen.modes):
            names = ["musictag", *chosen.ours, "plain"]
            names += [name for name in PUBLIC if given[name] and model in PUBLIC[name][2]]
            names += ["tensorflow"] if given["tensorflow"] and model.startswith("pons_") else []
            batch = max(2, round(_BATCH_SECONDS / MODELS[model][1]))
            for row in compare(names, model, mode, batch, given, chosen.turns):
                table.row(model, mode, batch, *row)
        if chosen.musicnn:
            with tempfile.TemporaryDirectory() as folder:
                MadeFiles(Path(folder), FILES, 0)
                given |= {"musictag-files": folder, "musicnn": folder, "python of musicnn": chosen.musicnn}
                for row in compare(["musictag-files", "musicnn"], "musicnn", "files", 4, given, chosen.turns):
                    table.row("musicnn", FILES.name, 4, *row)
    return 0


def compare(
    names: Sequence[str], model: str, mode: str, batch: int, given: dict[str, Path | None], turns: int
) -> Iterator[tuple[Any, ...]]:
    """Rows: who, ms and ratio to the first of ``names`` with intervals; or who and the error."""
    with ExitStack() as stack:
        participants = {name: stack.enter_context(_Participant(name, model, mode, batch, given)) for name in names}
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(turns):
            for name, participant in participants.items():
                seconds[name].append(participant.step())
    rng = np.random.default_rng(0)
    picks = rng.integers(turns, size=(_RESAMPLES, turns))  # the same turns of both
    medians = {name: np.median(np.array(values)[picks], axis=1) for name, values in seconds.items()}
    for name, values in seconds.items():
        median, ratio = np.median(values), np.median(values) / np.median(seconds[names[0]])
        ranges = [np.quantile(sample, (0.025, 0.975)) for sample in (medians[name], medians[name] / medians[names[0]])]
        if np.isnan(median):
            yield name, f"failed: {participants[name].error}"
        else:
            yield name, *(1000 * median, *1000 * ranges[0]), *(float(ratio), *map(float, ranges[1]))


class _Participant:
    """A process that takes a step when asked to."""

    def __init__(self, name: str, model: str, mode: str, batch: int, given: dict[str, Path | None]) -> None:
        path, python = given.get(name), sys.executable
        if name == "tensorflow":
            path, python = None, str(path)
        if name == "musicnn":
            python = str(given["python of musicnn"])
        command = [python, str(Path(__file__).with_name("participant.py")), name, model, mode, str(batch)]
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # as long as the process
        self._process = subprocess.Popen(
            [*command, *([str(path)] if path else [])], text=True, bufsize=1, env=os.environ | _ENVIRONMENT,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
        )  # fmt: skip
        self._alive = self._process.stdout.readline() == "ready\n"

    def step(self) -> float:
        """Seconds of one step; NaN from a process that failed."""
        if not self._alive:
            return float("nan")
        self._process.stdin.write("\n")
        answer = self._process.stdout.readline()
        self._alive = bool(answer)
        return float(answer or "nan")

    def __enter__(self) -> _Participant:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
        with self._log:
            self._log.seek(0)
            self.error = self._log.read().strip().rpartition("\n")[2][:200]
